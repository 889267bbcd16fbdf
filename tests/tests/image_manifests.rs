//! `knarr manifest`: lists of manifests are what Docker's client makes of the same images, and registries serve them to
//! others. What `load` and builds take of platforms and layouts.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::image_lab::ImageLab;
use knarr_tests::registry::Registry;
use serde_json::Value;
use std::process::Command;

/// A registry with `one:1` for amd64 and `two:1` for arm64, of one layer each.
fn registry(lab: &ImageLab) -> Registry {
    let registry = Registry::open(&lab.path("registry"));
    for (name, architecture) in [("one", "amd64"), ("two", "arm64")] {
        std::fs::create_dir_all(lab.path(name)).unwrap();
        std::fs::write(lab.path(name).join("file"), name).unwrap();
        let (directory, image) = (lab.path(name), format!("127.0.0.1:{}/{name}:1", registry.port));
        let platform = format!("linux/{architecture}");
        let words = ["import", "--push", "--platform", &platform, directory.to_str().unwrap(), &image];
        lab.knarr(&words).ok();
    }
    registry
}

/// `R/` is the registry in what is asked, and in the answer.
fn manifest(lab: &ImageLab, registry: &Registry, words: &str) -> Said {
    let host = format!("127.0.0.1:{}", registry.port);
    let words = format!("manifest {words}").replace("R/", &format!("{host}/"));
    let Said { out, err, code } = lab.knarr(&words.split(' ').collect::<Vec<_>>());
    let named = |text: String| text.replace(&host, "R");
    Said { out: named(out), err: named(err), code }
}

fn sha256(lab: &ImageLab, text: &str) -> String {
    std::fs::write(lab.path("text"), text).unwrap();
    let said = bins::run(Command::new("sha256sum").arg(lab.path("text"))).ok();
    format!("sha256:{}", &said[..64])
}

fn raw(registry: &Registry, image: &str) -> String {
    let name = format!("docker://127.0.0.1:{}/{image}", registry.port);
    bins::run(Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &name])).ok()
}

#[test]
fn a_list_is_made_looked_at_and_sent() {
    let lab = ImageLab::new();
    let registry = registry(&lab);
    let manifest = |words: &str| manifest(&lab, &registry, words);
    assert_eq!(manifest("create R/both:1 R/two:1 R/one:1").ok(), "Created manifest list R/both:1\n");
    manifest("annotate R/both:1 R/two:1 --variant v8 --os-version 1.2 --os-features a,b").ok();
    let digest = |name: &str| {
        let text = raw(&registry, name);
        (sha256(&lab, &text), text.len())
    };
    let ((one, one_size), (two, two_size)) = (digest("one:1"), digest("two:1"));
    // As Docker's client 28 writes it, spaces and order too: the digest is that of the text.
    let expected = format!(
        r#"{{
   "schemaVersion": 2,
   "mediaType": "application/vnd.oci.image.index.v1+json",
   "manifests": [
      {{
         "mediaType": "application/vnd.oci.image.manifest.v1+json",
         "size": {one_size},
         "digest": "{one}",
         "platform": {{
            "architecture": "amd64",
            "os": "linux"
         }}
      }},
      {{
         "mediaType": "application/vnd.oci.image.manifest.v1+json",
         "size": {two_size},
         "digest": "{two}",
         "platform": {{
            "architecture": "arm64",
            "os": "linux",
            "os.version": "1.2",
            "os.features": [
               "a",
               "b"
            ],
            "variant": "v8"
         }}
      }}
   ]
}}"#
    );
    assert_eq!(manifest("inspect R/both:1").ok(), format!("{expected}\n"));
    let pushed = manifest("push --purge R/both:1").ok();
    let sent = sha256(&lab, &expected);
    assert_eq!(
        pushed,
        format!(
            "Pushed ref R/both@{one} with digest: {one}\nPushed ref R/both@{two} with digest: {two}\n{sent}\n"
        )
    );
    assert_eq!(raw(&registry, "both:1"), expected);
    assert_eq!(manifest("inspect R/both:1").ok(), format!("{expected}\n"), "of the registry");
    let name = format!("127.0.0.1:{}/both:1", registry.port);
    for (platform, id) in [("linux/amd64", "one"), ("linux/arm64", "two")] {
        lab.knarr(&["pull", "-q", "--platform", platform, &name]).ok();
        let single = format!("127.0.0.1:{}/{id}:1", registry.port);
        let id = |name: &str| lab.knarr(&["image", "inspect", "-f", "{{.Id}}", name]).ok();
        assert_eq!(id(&name), id(&single), "{platform}");
    }
}

#[test]
fn one_manifest_is_told_as_it_is() {
    let lab = ImageLab::new();
    let registry = registry(&lab);
    let manifest = |words: &str| manifest(&lab, &registry, words);
    let text = manifest("inspect --insecure R/one:1").ok();
    assert!(text.starts_with("{\n\t\"schemaVersion\": 2,\n\t\"mediaType\": "), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told, serde_json::from_str::<Value>(&raw(&registry, "one:1")).unwrap());
    let all: Value = serde_json::from_str(&manifest("inspect -v R/one:1").ok()).unwrap();
    assert_eq!(all["Ref"], "R/one:1");
    assert_eq!(all["Descriptor"]["platform"]["architecture"], "amd64");
    assert_eq!(all["OCIManifest"], told);
    // Only this machine's own registries are spoken to in plain HTTP unasked.
    let elsewhere = format!("0.0.0.0:{}/one:1", registry.port);
    assert!(lab.knarr(&["manifest", "inspect", &elsewhere]).failed().contains("0.0.0.0"));
    assert_eq!(lab.knarr(&["manifest", "inspect", "--insecure", &elsewhere]).ok(), text);
    manifest("create R/list R/two:1").ok();
    let member: Value = serde_json::from_str(&manifest("inspect -v R/list R/two:1").ok()).unwrap();
    assert_eq!(member["Descriptor"]["platform"]["architecture"], "arm64");
    let several: Value = serde_json::from_str(&manifest("inspect -v R/list").ok()).unwrap();
    assert_eq!(several, Value::from(vec![member]));
}

#[test]
fn refusals_are_dockers() {
    let lab = ImageLab::new();
    let registry = registry(&lab);
    manifest(&lab, &registry, "create R/list R/one:1").ok();
    for (words, said) in [
        ("create R/list R/two:1", "refusing to amend an existing manifest list with no --amend flag"),
        ("create R/new R/none:1", "no such manifest: R/none:1"),
        ("inspect R/none:1", "no such manifest: R/none:1"),
        ("inspect R/list R/two:1", "No such manifest: R/two:1"),
        ("annotate R/list R/two:1 --os linux", "manifest for image R/two:1 does not exist in R/list"),
        (
            "annotate R/list R/one:1 --os foo",
            "manifest entry for image has unsupported os/arch combination: foo/",
        ),
        ("push R/none", "No such manifest: R/none:latest"),
        ("rm R/list R/a R/b", "No such manifest: R/a:latest\nNo such manifest: R/b:latest"),
        ("inspect R/list", "no such manifest: R/list"),
    ] {
        let answer = manifest(&lab, &registry, words);
        assert_eq!((answer.err.as_str(), answer.code), (format!("knarr: {said}\n").as_str(), 1), "{words}");
    }
    manifest(&lab, &registry, "create R/both:1 R/one:1").ok();
    manifest(&lab, &registry, "create --amend R/both:1 R/two:1").ok();
    manifest(&lab, &registry, "push R/both:1").ok();
    let again = manifest(&lab, &registry, "create R/other R/both:1").failed();
    assert_eq!(again, "knarr: R/both:1 is a manifest list\n");
}

#[test]
fn an_archive_of_another_platform_is_refused_before_anything_is_listed() {
    let lab = ImageLab::new();
    let registry = registry(&lab);
    let two = format!("127.0.0.1:{}/two:1", registry.port);
    lab.knarr(&["save", "-o", "two.tar", &two]).ok();
    lab.knarr(&["rmi", &two]).ok();
    let said = lab.knarr(&["load", "-i", "two.tar", "--platform", "linux/amd64"]).failed();
    let words = format!(
        "image with reference {two} was found but does not provide the specified platform (linux/amd64)"
    );
    assert!(said.contains(&words), "{said}");
    assert!(!lab.knarr(&["images"]).ok().contains("two"));
    lab.knarr(&["load", "-i", "two.tar", "--platform", "linux/arm64/v8"]).ok();
    assert!(lab.knarr(&["image", "inspect", "--platform", "linux/amd64", &two]).code != 0);
    lab.knarr(&["image", "inspect", "--platform", "linux/arm64", &two]).ok();
}

#[test]
fn a_build_begins_with_an_image_of_a_layout() {
    let lab = ImageLab::new();
    lab.knarr(&["save", "--format", "oci", "-o", "base.tar", "base:1"]).ok();
    let (archive, layout) = (lab.path("base.tar"), lab.path("layout"));
    let (from, to) = (format!("oci-archive:{}", archive.display()), format!("oci:{}:mine", layout.display()));
    bins::run(Command::new("skopeo").args(["copy", "-q", &from, &to])).ok();
    lab.file("Dockerfile", "FROM other AS one\nRUN echo made > /made\nFROM scratch\nCOPY --from=other /bin /bin\nCOPY --from=one /made /\n");
    let place = |rest: &str| format!("other=oci-layout://{}{rest}", layout.display());
    let index = std::fs::read(layout.join("index.json")).unwrap();
    let digest = serde_json::from_slice::<Value>(&index).unwrap()["manifests"][0]["digest"].clone();
    let digest = digest.as_str().unwrap();
    let build = |place: &str| lab.knarr(&["build", "-q", "--build-context", place, "context"]);
    let built = build(&place(":mine")).ok();
    assert_eq!(built, build(&place("")).ok());
    assert_eq!(built, build(&place(&format!(":x@{digest}"))).ok());
    let missing = build(&place(":other")).failed();
    assert!(missing.contains("has no image other"), "{missing}");
    std::fs::write(layout.join("blobs/sha256").join(digest.trim_start_matches("sha256:")), "{}").unwrap();
    let broken = build(&place(":mine")).failed();
    assert!(broken.contains("OCI layout"), "{broken}");
}

#[test]
fn what_builds_keep_is_forgotten_when_asked() {
    let lab = ImageLab::new();
    lab.file("Dockerfile", "FROM base:1\nRUN echo kept > /kept\n");
    let build = || lab.knarr(&["build", "context"]);
    build().ok();
    assert!(build().err.contains("CACHED"));
    for spared in [&["--filter", "until=1h"], &["--keep-storage", "1gb"]] {
        let said = lab.knarr(&[&["builder", "prune", "-f"], spared as &[&str]].concat()).ok();
        assert_eq!(said, "Total reclaimed space: 0B\n");
        assert!(build().err.contains("CACHED"));
    }
    let wrong = lab.knarr(&["builder", "prune", "--filter", "name=x"]).failed();
    assert_eq!(wrong, "knarr: invalid filter 'name'\n");
    lab.knarr(&["builder", "prune", "-f", "--filter", "until=0s"]).ok();
    assert!(!build().err.contains("CACHED"));
    let said = lab.knarr(&["builder", "prune", "-af"]).ok();
    assert!(said.starts_with("Total reclaimed space: "), "{said}");
    assert!(!build().err.contains("CACHED"));
    let named = |label: &str| {
        lab.knarr(&["build", "-q", "--label", label, "-t", &format!("{label}:1"), "context"]).ok()
    };
    let (spared, gone) = (named("spared"), named("gone"));
    let said =
        lab.knarr(&["image", "prune", "-af", "--filter", "label!=spared", "--filter", "label=gone"]).ok();
    assert!(said.contains(&gone) && !said.contains(&spared), "{said}");
    lab.knarr(&["image", "inspect", "spared:1"]).ok();
    let wrong = lab.knarr(&["image", "prune", "-f", "--filter", "name=x"]).failed();
    assert_eq!(wrong, "knarr: invalid filter 'name'\n");
}
