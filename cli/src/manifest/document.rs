//! The documents of `knarr manifest`, byte for byte as Docker writes them: an index is named by the digest of its text, so
//! its spaces count.

use anyhow::bail;
use base64::Engine;
use knarr_images::{ListedPlatform, RemoteManifest};
use serde::Serialize;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What Docker takes for a platform.
const KNOWN: [(&str, &[&str]); 9] = [
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    (
        "linux",
        &["386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"],
    ),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

/// Whether there is such a platform.
pub(super) fn is_known(os: &str, architecture: &str) -> bool {
    let mut known = KNOWN.iter().filter(|(known, _)| *known == os);
    known.any(|(_, architectures)| architectures.contains(&architecture))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a str,
    platform: &'a ListedPlatform,
}

impl<'a> Entry<'a> {
    fn of(one: &'a RemoteManifest) -> Self {
        let RemoteManifest { media_type, size, digest, platform, .. } = one;
        Self { media_type, size: *size, digest, platform }
    }
}

/// The index of these manifests: its media type and its text.
pub(super) fn index(members: &[RemoteManifest]) -> anyhow::Result<(&'static str, String)> {
    let Some(first) = members.first() else { bail!("manifest list without manifests") };
    let media_type = if first.media_type == OCI_MANIFEST { OCI_INDEX } else { DOCKER_INDEX };
    let index = Index { schema_version: 2, media_type, manifests: members.iter().map(Entry::of).collect() };
    Ok((media_type, indented(&serde_json::to_string(&index)?, "   ")))
}

/// All that is known of one manifest, in one line.
pub(super) fn verbose(one: &RemoteManifest) -> String {
    let kind = if one.media_type == OCI_MANIFEST { "OCIManifest" } else { "SchemaV2Manifest" };
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let platform = serde_json::to_string(&one.platform).unwrap_or_default();
    format!(
        r#"{{"Ref":{},"Descriptor":{{"mediaType":{},"digest":{},"size":{},"platform":{platform}}},"Raw":{},"{kind}":{}}}"#,
        text(&one.name),
        text(&one.media_type),
        text(&one.digest),
        one.size,
        text(&base64::prelude::BASE64_STANDARD.encode(&one.text)),
        one.text,
    )
}

/// JSON with every member on a line of its own; nothing else of it changes, the order of its members least of all.
pub(super) fn indented(text: &str, step: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut quoted, mut escaped, mut opened) = (0usize, false, false, false);
    for c in text.chars() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        depth -= usize::from(closes && depth > 0);
        if opened != closes {
            line_break(&mut out, depth, step);
        }
        opened = matches!(c, '{' | '[');
        depth += usize::from(opened);
        out.push(c);
        match c {
            ',' => line_break(&mut out, depth, step),
            ':' => out.push(' '),
            _ => quoted = c == '"',
        }
    }
    out
}

fn line_break(out: &mut String, depth: usize, step: &str) {
    out.push('\n');
    out.push_str(&step.repeat(depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_indented_and_otherwise_left_alone() {
        let text = r#"{"b":[],"a":{"x":"a\"{b\\","n":[1,{"y":null}]}, "e":{ }}"#;
        let expected = "{\n  \"b\": [],\n  \"a\": {\n    \"x\": \"a\\\"{b\\\\\",\n    \"n\": [\n      1,\n      {\n        \"y\": null\n      }\n    ]\n  },\n  \"e\": {}\n}";
        assert_eq!(indented(text, "  "), expected);
    }

    #[test]
    fn platforms_are_dockers() {
        assert!(is_known("linux", "riscv64") && is_known("windows", "amd64"));
        assert!(!is_known("linux", "") && !is_known("foo", "amd64") && !is_known("solaris", "arm"));
    }
}
