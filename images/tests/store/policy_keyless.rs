//! Signatures without a key of one's own: an authority, a log of certificates and a log of signatures made here, in the
//! forms that Fulcio, its log and Rekor have.

use crate::fake_registry::sha256;
use crate::policy::{BUNDLED, Rig, enveloped, statement};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Noon of the day on which the certificate holds.
const NOON: u64 = 1_767_268_800;
const VOUCHER: &str = "https://accounts.example.com";

/// Everybody who takes part, and how this signature differs from a good one.
struct World {
    rig: Rig,
    root: KeyPair,
    middle: KeyPair,
    rekor: KeyPair,
    ctlog: KeyPair,
    own: KeyPair,
    name: &'static str,
    usage: Vec<ExtendedKeyUsagePurpose>,
    time: u64,
    promised: bool,
    /// What is done to the log's entry before it is signed, and to the bundle afterwards.
    entry: fn(String) -> String,
    bundle: fn(String) -> String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn sign(key: &KeyPair, text: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der(), &random).unwrap();
    key.sign(&random, text).unwrap().as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

impl World {
    fn new() -> Self {
        let key = || KeyPair::generate().unwrap();
        let world = Self {
            rig: Rig::new(),
            root: key(),
            middle: key(),
            rekor: key(),
            ctlog: key(),
            own: key(),
            name: "dev@example.com",
            usage: vec![ExtendedKeyUsagePurpose::CodeSigning],
            time: NOON,
            promised: true,
            entry: |entry| entry,
            bundle: |bundle| bundle,
        };
        let write = |name: &str, text: String| std::fs::write(world.rig.path(name), text).unwrap();
        write("root.pem", authority("root").self_signed(&world.root).unwrap().pem());
        write("rekor.pub", world.rekor.public_key_pem());
        write("ctlog.pub", world.ctlog.public_key_pem());
        world.policy("ctlog = [\"ctlog.pub\"], ");
        world
    }

    fn policy(&self, more: &str) {
        self.rig.policy(&format!(
            "[[rule]]\nimages = [\"{}/**\"]\naction = \"require\"\nkeyless = {{ roots = [\"root.pem\"], \
             rekor = [\"rekor.pub\"], {more}signers = [{{ identity = \"*@example.com\", issuer = \"{VOUCHER}\" }}] }}\n",
            self.rig.registry.address
        ));
    }

    fn middle(&self) -> Certificate {
        let root = authority("root");
        authority("middle").signed_by(&self.middle, &Issuer::from_params(&root, &self.root)).unwrap()
    }

    fn leaf(&self, more: Option<Vec<u8>>) -> Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(7));
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 1, 2));
        params.subject_alt_names = vec![SanType::Rfc822Name(self.name.try_into().unwrap())];
        params.extended_key_usages = self.usage.clone();
        let oid = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
        params.custom_extensions.push(CustomExtension::from_oid_content(&oid, VOUCHER.into()));
        if let Some(content) = more {
            let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, content));
        }
        let middle = authority("middle");
        params.signed_by(&self.own, &Issuer::from_params(&middle, &self.middle)).unwrap()
    }

    /// The certificate with a log's promise in it.
    fn promised(&self) -> Certificate {
        let bare = self.leaf(None);
        let (_, parsed) = X509Certificate::from_der(bare.der()).unwrap();
        let signed = parsed.tbs_certificate.as_ref();
        let time = NOON * 1000;
        let length = u32::try_from(signed.len()).unwrap().to_be_bytes();
        let authority = hash(&self.middle.subject_public_key_info());
        let text =
            [&[0, 0][..], &time.to_be_bytes(), &[0, 1], &authority, &length[1..], signed, &[0, 0]].concat();
        let signature = sign(&self.ctlog, &text);
        let count = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        let log = hash(&self.ctlog.subject_public_key_info());
        let one = [&[0][..], &log, &time.to_be_bytes(), &[0, 0, 4, 3], &count(signature.len()), &signature]
            .concat();
        let list = [&count(one.len() + 2)[..], &count(one.len()), &one].concat();
        let der = [&[4, u8::try_from(list.len()).unwrap()][..], &list].concat();
        self.leaf(Some(der))
    }

    /// Signs the image and serves the signature.
    fn signed(&self) {
        let text = self.rig.right_text();
        let certificate = if self.promised { self.promised() } else { self.leaf(None) };
        let signature = STANDARD.encode(sign(&self.own, text.as_bytes()));
        let body = (self.entry)(format!(
            r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{"data":{{"hash":{{"algorithm":"sha256","value":"{}"}}}},"signature":{{"content":"{signature}","publicKey":{{"content":"{}"}}}}}}}}"#,
            sha256(text.as_bytes()).trim_start_matches("sha256:"),
            STANDARD.encode(certificate.pem()),
        ));
        let log = sha256(&self.rekor.subject_public_key_info());
        let entry = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":5}}"#,
            STANDARD.encode(body),
            self.time,
            log.trim_start_matches("sha256:")
        );
        let stamp = STANDARD.encode(sign(&self.rekor, entry.as_bytes()));
        let bundle = (self.bundle)(format!(r#"{{"SignedEntryTimestamp":"{stamp}","Payload":{entry}}}"#));
        let annotations =
            [("certificate", certificate.pem()), ("chain", self.middle().pem()), ("bundle", bundle)];
        let more = annotations.map(|(name, value)| {
            format!(",\"dev.sigstore.cosign/{name}\":{}", serde_json::Value::from(value))
        });
        *self.rig.signatures.lock().unwrap() = vec![(text, signature, more.concat())];
    }

    /// The same as cosign 3 does it.
    fn signed_in_bundle(&self) {
        let digest = self.rig.registry.manifest.trim_start_matches("sha256:").to_owned();
        let subject =
            format!(r#"{{"name":"{}/repo","digest":{{"sha256":"{digest}"}}}}"#, self.rig.registry.address);
        let text = statement(&subject, "https://sigstore.dev/cosign/sign/v1");
        let certificate = self.promised();
        let signature = STANDARD.encode(sign(&self.own, enveloped(&text).as_bytes()));
        let hex = |bytes: &[u8]| sha256(bytes).trim_start_matches("sha256:").to_owned();
        let body = STANDARD.encode((self.entry)(format!(
            r#"{{"apiVersion":"0.0.1","kind":"dsse","spec":{{"payloadHash":{{"algorithm":"sha256","value":"{}"}},"signatures":[{{"signature":"{signature}","verifier":"{}"}}]}}}}"#,
            hex(text.as_bytes()),
            STANDARD.encode(certificate.pem()),
        )));
        let log = self.rekor.subject_public_key_info();
        let entry = format!(
            r#"{{"body":"{body}","integratedTime":{},"logID":"{}","logIndex":5}}"#,
            self.time,
            hex(&log)
        );
        let stamp = STANDARD.encode(sign(&self.rekor, entry.as_bytes()));
        let raw =
            |certificate: &Certificate| format!(r#"{{"rawBytes":"{}"}}"#, STANDARD.encode(certificate.der()));
        let material = (self.bundle)(format!(
            r#"{{"x509CertificateChain":{{"certificates":[{},{}]}},"tlogEntries":[{{"logIndex":"5","logId":{{"keyId":"{}"}},"kindVersion":{{"kind":"dsse","version":"0.0.1"}},"integratedTime":"{}","inclusionPromise":{{"signedEntryTimestamp":"{stamp}"}},"canonicalizedBody":"{body}"}}]}}"#,
            raw(&certificate),
            raw(&self.middle()),
            STANDARD.encode(hash(&log)),
            self.time
        ));
        *self.rig.signatures.lock().unwrap() = vec![(text, signature, format!("{BUNDLED}{material}"))];
    }

    async fn refused(&self, words: &str) {
        self.signed();
        self.rig.refused(words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_sign_opens_the_way() {
    let mut world = World::new();
    world.rig.refused("it has no signature").await;
    world.signed();
    let store = world.rig.store("good");
    let image = world.rig.pull(&store).await.unwrap();
    // Long after the certificate has ended, and without any network.
    store.verify(&image, &world.rig.registry.name()).unwrap();
    world.promised = false;
    world.refused("in no log of certificates").await;
    world.policy("");
    world.signed();
    world.rig.pull(&world.rig.store("unlogged")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_sign_does_so_in_a_bundle() {
    let refused = async |change: fn(&mut World), words: &str| {
        let mut world = World::new();
        change(&mut world);
        world.signed_in_bundle();
        world.rig.refused(words).await;
    };
    let world = World::new();
    world.signed_in_bundle();
    let store = world.rig.store("good");
    let image = world.rig.pull(&store).await.unwrap();
    store.verify(&image, &world.rig.registry.name()).unwrap();
    refused(|world| world.name = "dev@example.org", "is by dev@example.org (says https://acc").await;
    refused(|world| world.time = NOON + 86_400, "leads to no root").await;
    refused(|world| world.bundle = |text| text.replace("\"5\"", "\"6\""), "no log that").await;
    refused(|world| world.bundle = |text| text.replace("inclusionPromise", "other"), "the log's bundle")
        .await;
    refused(
        |world| world.entry = |entry| entry.replace("\"value\":\"", "\"value\":\"0"),
        "of something else",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_else_does_not() {
    let case = |change: fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        world
    };
    let stranger = || KeyPair::generate().unwrap();
    case(|world| world.name = "dev@example.org").refused("is by dev@example.org (says https://acc").await;
    case(|world| world.usage = vec![ExtendedKeyUsagePurpose::ServerAuth]).refused("leads to no root").await;
    case(|world| world.usage.clear()).refused("not for signing code").await;
    case(|world| world.time = NOON + 86_400).refused("leads to no root").await;
    case(|world| world.entry = |entry| entry.replace("hashedrekord", "intoto"))
        .refused("of something else")
        .await;
    case(|world| world.entry = |entry| entry.replace("\"value\":\"", "\"value\":\"0"))
        .refused("of something else")
        .await;
    case(|world| world.bundle = |bundle| bundle.replace("\"logIndex\":5", "\"logIndex\":6"))
        .refused("no log that")
        .await;
    case(|world| world.bundle = |_| "{}".to_owned()).refused("the log's bundle").await;
    let mut world = World::new();
    (world.root, world.promised) = (stranger(), false);
    world.policy("");
    world.refused("leads to no root").await;
    let mut world = World::new();
    world.rekor = stranger();
    world.refused("no log that").await;
    let mut world = World::new();
    world.ctlog = stranger();
    world.refused("in no log of certificates").await;
    // The signature of somebody else under good papers.
    let world = World::new();
    world.signed();
    world.rig.signatures.lock().unwrap()[0].1 = STANDARD.encode(sign(&stranger(), b"other"));
    world.rig.refused("of something else").await;
    // A signature by a known key needs no papers, and papers do not make up for an unknown one.
    world.rig.policy(&format!(
        "[[rule]]\nimages = [\"{}/**\"]\naction = \"require\"\nkeys = [\"rekor.pub\"]\n",
        world.rig.registry.address
    ));
    world.signed();
    world.rig.refused("no signature is by a key").await;
}
