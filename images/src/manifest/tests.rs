//! Documents as registries send them, good and hostile.

use super::*;
use proptest::prelude::*;

fn descriptor(content: &str) -> String {
    format!(r#"{{"mediaType":"t","digest":"{}","size":3}}"#, Digest::of(content.as_bytes()))
}

fn manifest(layers: usize, extra: &str) -> String {
    let layers: Vec<String> = (0..layers).map(|index| descriptor(&index.to_string())).collect();
    let config = descriptor("config");
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]{extra}}}"#, layers.join(","))
}

fn kind(text: &str, content_type: Option<&str>) -> Result<&'static str> {
    Document::parse(text.as_bytes(), content_type).map(|document| match document {
        Document::Manifest(_) => "manifest",
        Document::Index(_) => "index",
    })
}

#[test]
fn reads_both_kinds() {
    assert_eq!(kind(&manifest(2, ""), None).unwrap(), "manifest");
    assert_eq!(kind(&manifest(0, ""), Some(media_type::DOCKER_MANIFEST)).unwrap(), "manifest");
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor("m"));
    assert_eq!(kind(&index, Some(media_type::OCI_INDEX)).unwrap(), "index");
}

#[test]
fn refuses_what_could_be_read_two_ways() {
    let both = manifest(1, r#","manifests":[]"#);
    let claims_index = manifest(1, &format!(r#","mediaType":"{}""#, media_type::OCI_INDEX));
    let negative = manifest(1, "").replace("\"size\":3", "\"size\":-3");
    let traversal = manifest(1, "").replace("sha256:", "sha256:../");
    let huge = manifest(3, "").replace("\"size\":3", "\"size\":9223372036854775807");
    for bad in
        [&both, &claims_index, &negative, &traversal, &huge, &manifest(501, ""), "[]", "", "{}", "null"]
    {
        let error = kind(bad, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{}: {error}", bad.chars().take(80).collect::<String>());
    }
    assert!(kind(&manifest(1, ""), Some(media_type::OCI_INDEX)).is_err(), "the header says index");
}

#[test]
fn schema_1_is_named() {
    let error = kind(r#"{"schemaVersion":1,"fsLayers":[]}"#, None).unwrap_err();
    assert!(error.to_string().contains("schema 1"), "{error}");
}

#[test]
fn fewer_diff_ids_than_layers() {
    let Document::Manifest(manifest) = Document::parse(manifest(2, "").as_bytes(), None).unwrap() else {
        panic!("not a manifest")
    };
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#, Digest::of(b""));
    let error = ConfigCore::parse(config.as_bytes(), &manifest).unwrap_err();
    assert_eq!(error.to_string(), "config: 1 diff_ids for 2 layers");
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Document::parse(&bytes, None);
    }

    #[test]
    fn mutated_manifests_never_panic(position in 0usize..400, byte in any::<u8>()) {
        let mut bytes = manifest(2, "").into_bytes();
        let position = position % bytes.len();
        bytes[position] = byte;
        let _ = Document::parse(&bytes, None);
    }
}
