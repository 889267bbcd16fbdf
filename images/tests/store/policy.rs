//! Only approved images: signatures made by openssl in cosign's form, and a policy that asks for them.

use crate::fake_registry::{Answer, Content, FakeRegistry, Request, sha256};
use crate::lab::run;
use base64::Engine as _;
use knarr_images::{Error, ErrorKind, Image, ImageStore, Options, Pull};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A directory with keys and a policy, and a registry that serves one image with whatever signatures it is given.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    pub(crate) registry: FakeRegistry,
    /// Signed text, signature, and more annotations as JSON.
    pub(crate) signatures: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let signatures: Arc<Mutex<Vec<(String, String, String)>>> = Arc::default();
        let served = signatures.clone();
        let script =
            move |request: &Request, answer: Answer| sigstore(&served.lock().unwrap(), request, answer);
        let registry = FakeRegistry::start(Content::of(10_000), script);
        Self { dir: tempfile::tempdir().unwrap(), registry, signatures }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a key pair: NAME.key, NAME.pub.
    fn key(&self, name: &str, algorithm: &[&str]) {
        let (private, public) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pub")));
        let mut arguments = vec!["genpkey", "-out", private.to_str().unwrap()];
        arguments.extend(algorithm);
        run("openssl", &arguments);
        let out = public.to_str().unwrap();
        run("openssl", &["pkey", "-in", private.to_str().unwrap(), "-pubout", "-out", out]);
    }

    fn sign(&self, key: &str, text: String) {
        let (private, message, out) =
            (self.path(&format!("{key}.key")), self.path("message"), self.path("signature"));
        std::fs::write(&message, &text).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut arguments = vec!["pkeyutl", "-sign", "-rawin"];
        let (private, message, written) = (path(&private), path(&message), path(&out));
        arguments.extend(["-inkey", &private, "-in", &message, "-out", &written]);
        if key != "edwards" {
            arguments.extend(["-digest", "sha256"]);
        }
        run("openssl", &arguments);
        let signature = base64::engine::general_purpose::STANDARD.encode(std::fs::read(out).unwrap());
        self.signatures.lock().unwrap().push((text, signature, String::new()));
    }

    fn text(&self, repository: &str, digest: &str, kind: &str) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{repository}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":null}}"#
        )
    }

    pub(crate) fn right_text(&self) -> String {
        let repository = format!("{}/repo", self.registry.address);
        self.text(&repository, &self.registry.manifest, "cosign container image signature")
    }

    pub(crate) fn policy(&self, text: &str) {
        std::fs::write(self.path("policy.toml"), text).unwrap();
    }

    fn require(&self, keys: &str, more: &str) {
        let images = format!("{}/**", self.registry.address);
        self.policy(&format!(
            "[[rule]]\nimages = [\"{images}\"]\naction = \"require\"\nkeys = [{keys}]\n{more}\n"
        ));
    }

    pub(crate) fn store(&self, name: &str) -> ImageStore {
        let options = Options { policy: Some(self.path("policy.toml")), ..Options::default() };
        ImageStore::open_with(&self.path(name), options).unwrap()
    }

    pub(crate) async fn pull(&self, store: &ImageStore) -> Result<Image, Error> {
        store.pull(Pull { reference: self.registry.name(), ..Pull::default() }).await
    }

    pub(crate) async fn refused(&self, words: &str) {
        let store = self.store("refusing");
        let error = self.pull(&store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(store.list().unwrap(), []);
    }
}

/// Marks a signature that is served in a bundle, together with what lies beside it there, as JSON.
pub(crate) const BUNDLED: &str = "bundle";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";

/// The bytes that are signed of a statement.
pub(crate) fn enveloped(text: &str) -> String {
    format!("DSSEv1 {} {STATEMENT_TYPE} {} {text}", STATEMENT_TYPE.len(), text.len())
}

/// What cosign 3 states of a digest.
pub(crate) fn statement(subject: &str, kind: &str) -> String {
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{subject}],"predicateType":"{kind}","predicate":{{}}}}"#
    )
}

/// A bundle, the document that refers to the image with it, and the list of those.
fn bundled(text: &str, signature: &str, material: &str) -> [String; 3] {
    let payload = base64::engine::general_purpose::STANDARD.encode(text);
    let bundle = format!(
        r#"{{"mediaType":"{BUNDLE_TYPE}","verificationMaterial":{material},"dsseEnvelope":{{"payload":"{payload}","payloadType":"{STATEMENT_TYPE}","signatures":[{{"sig":"{signature}","keyid":""}}]}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"{BUNDLE_TYPE}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[{{"mediaType":"{BUNDLE_TYPE}","digest":"{}","size":{}}}]}}"#,
        sha256(b"{}"),
        sha256(bundle.as_bytes()),
        bundle.len()
    );
    let list = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"{BUNDLE_TYPE}","digest":"{}","size":{}}}]}}"#,
        sha256(manifest.as_bytes()),
        manifest.len()
    );
    [bundle, manifest, list]
}

/// Serves bundles: the list by the registry's own word for it where `listed`, else under the tag.
fn bundles(
    (text, signature, material): &(String, String, String),
    path: &str,
    listed: bool,
) -> Option<Answer> {
    let material = material.strip_prefix(BUNDLED)?;
    let [bundle, manifest, list] = bundled(text, signature, material);
    let tag = path.rsplit('/').next().is_some_and(|last| last.starts_with("sha256-") && last.len() == 71);
    match path {
        _ if path.contains("/referrers/") && listed || tag && !listed => Some(Answer::new(200, list)),
        _ if path.ends_with(&sha256(bundle.as_bytes())) => Some(Answer::new(200, bundle)),
        _ if path.ends_with(&sha256(manifest.as_bytes())) => Some(Answer::new(200, manifest)),
        _ if path.ends_with(".sig") || path.contains("/referrers/") => Some(Answer::new(404, "")),
        _ => None,
    }
}

/// Serves the signatures as cosign pushes them.
fn sigstore(signatures: &[(String, String, String)], request: &Request, answer: Answer) -> Answer {
    if let Some((_, _, material)) = signatures.first()
        && material.starts_with(BUNDLED)
    {
        // Keys alone are told of by the tag, so that both ways are gone.
        let listed = !material.contains("publicKey");
        return bundles(&signatures[0], &request.path, listed).unwrap_or(answer);
    }
    if request.path.ends_with(".sig") && !signatures.is_empty() {
        let layer = |(text, signature, more): &(String, String, String)| {
            format!(
                r#"{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{}","size":{},"annotations":{{"dev.cosignproject.cosign/signature":"{signature}"{more}}}}}"#,
                sha256(text.as_bytes()),
                text.len()
            )
        };
        let layers: Vec<String> = signatures.iter().map(layer).collect();
        return Answer::new(
            200,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{}]}}"#,
                sha256(b"{}"),
                layers.join(",")
            ),
        );
    }
    let text = signatures.iter().find(|(text, ..)| request.path.ends_with(&sha256(text.as_bytes())));
    text.map_or(answer, |(text, ..)| Answer::new(200, text.as_bytes()))
}

const P256: [&str; 4] = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const COSIGN: &str = "cosign container image signature";

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_by_the_right_key_opens_the_way() {
    let rig = Rig::new();
    rig.key("team", &P256);
    rig.key("edwards", &["-algorithm", "ED25519"]);
    rig.require("\"team.pub\", \"edwards.pub\"", "");
    rig.refused("it has no signature").await;
    for key in ["team", "edwards"] {
        rig.signatures.lock().unwrap().clear();
        rig.sign(key, rig.right_text());
        let store = rig.store(key);
        let image = rig.pull(&store).await.unwrap();
        store.verify(&image, &rig.registry.name()).unwrap();
        store.prepare("c", &image).unwrap();
        store.remove_snapshot("c").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_signature_does_not() {
    let rig = Rig::new();
    rig.key("team", &P256);
    rig.key("stranger", &P256);
    rig.require("\"team.pub\"", "");
    let only = |key: &str, text: String| {
        rig.signatures.lock().unwrap().clear();
        rig.sign(key, text);
    };
    only("stranger", rig.right_text());
    rig.refused("no signature is by a key that the policy names").await;
    let repository = format!("{}/repo", rig.registry.address);
    only("team", rig.text(&repository, &sha256(b"another image"), COSIGN));
    rig.refused("the signature is of sha256:").await;
    only("team", rig.text("example.com/other", &rig.registry.manifest, COSIGN));
    rig.refused("the signature is of \"example.com/other\"").await;
    only("team", rig.text(&repository, &rig.registry.manifest, "something else"));
    rig.refused("of type \"something else\"").await;
    only("team", "no JSON".to_owned());
    rig.refused("signed text").await;
    only("team", rig.right_text());
    rig.signatures.lock().unwrap()[0].0.push(' ');
    rig.refused("no signature is by a key").await;
    rig.signatures.lock().unwrap()[0].1 = "!!".to_owned();
    rig.refused("no signature is by a key").await;

    // A copy of a signed image, where the rule says so; and a good one among many bad ones.
    rig.require("\"team.pub\"", "identity = \"any\"");
    only("stranger", rig.right_text());
    rig.sign("team", rig.text("example.com/other", &rig.registry.manifest, COSIGN));
    rig.pull(&rig.store("any")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_by_the_right_key_opens_the_way() {
    const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
    let rig = Rig::new();
    rig.key("team", &P256);
    let subject = |digest: &str, name: &str| {
        let digest = digest.trim_start_matches("sha256:");
        format!(r#"{{{name}"digest":{{"sha256":"{digest}"}}}}"#)
    };
    let only = |text: String| {
        rig.signatures.lock().unwrap().clear();
        rig.sign("team", enveloped(&text));
        let made = &mut rig.signatures.lock().unwrap()[0];
        (made.0, made.2) = (text, format!("{BUNDLED}{{\"publicKey\":{{\"hint\":\"\"}}}}"));
    };
    let right = subject(&rig.registry.manifest, "");
    rig.require("\"team.pub\"", "");
    only(statement(&right, SIGN));
    rig.refused("names no repository").await;
    let repository = format!("\"name\":\"{}/repo\",", rig.registry.address);
    only(statement(&subject(&rig.registry.manifest, "\"name\":\"r.io/other\","), SIGN));
    rig.refused("the signature is of \"r.io/other\"").await;
    only(statement(&subject(&rig.registry.manifest, &repository), SIGN));
    rig.pull(&rig.store("named")).await.unwrap();

    rig.require("\"team.pub\"", "identity = \"any\"");
    only(statement(&subject(&sha256(b"another image"), ""), SIGN));
    rig.refused("the signature is of").await;
    only(statement(&right, "https://slsa.dev/provenance/v1"));
    rig.refused("signed statement is of type").await;
    only(statement(&right, SIGN));
    rig.signatures.lock().unwrap()[0].0.push(' ');
    rig.refused("no signature is by a key").await;
    only(statement(&right, SIGN));
    let store = rig.store("any");
    let image = rig.pull(&store).await.unwrap();
    store.verify(&image, &rig.registry.name()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_holds_for_what_is_already_here() {
    let rig = Rig::new();
    rig.key("team", &P256);
    let store = rig.store("images");
    let image = rig.pull(&store).await.unwrap();
    store.prepare("before", &image).unwrap();
    rig.policy("default = \"reject\"");
    rig.refused("rejected by policy").await;
    let error = store.prepare("c", &image).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(store.view("v", &image).is_err());
    assert_eq!(store.mounts("before").unwrap().len(), 1, "what runs goes on");

    rig.require("\"team.pub\"", "");
    let error = store.prepare("c", &image).unwrap_err();
    assert!(error.to_string().contains("it has no signature"), "{error}");
    rig.sign("team", rig.right_text());
    let image = rig.pull(&store).await.unwrap();
    store.prepare("c", &image).unwrap();
    // Without the registry, by a signature that was kept; and not any more once the key is taken away.
    rig.key("team", &P256);
    let error = store.verify(&image, &rig.registry.name()).unwrap_err();
    assert!(error.to_string().contains("SignatureValidationFailed"), "{error}");

    std::fs::write(rig.path("policy.toml"), "nonsense").unwrap();
    assert!(store.verify(&image, &image.id).unwrap_err().to_string().contains("policy.toml"), "closed");
    std::fs::remove_file(rig.path("policy.toml")).unwrap();
    store.verify(&image, &image.id).unwrap();
    for key in ["before", "c"] {
        store.remove_snapshot(key).unwrap();
    }
}
