//! Finding the cluster's CA before anybody can be trusted: the public ConfigMap `cluster-info` is read without
//! credentials and without believing the server's certificate, and then believed only if its CA has the pinned
//! digest, or if its text is signed with the secret of the token (a detached JWS, as kubeadm's clusters sign it).

use super::Invitation;
use super::kept::decoded;
use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A bootstrap token: `ID.SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.…)", self.id)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |text: &str, length| {
            text.len() == length
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        match text.split_once('.') {
            Some((id, secret)) if plain(id, 6) && plain(secret, 16) => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err("a bootstrap token has the form \"[a-z0-9]{6}.[a-z0-9]{16}\"".to_owned()),
        }
    }
}

impl Token {
    /// As it is sent.
    pub(super) fn text(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// The digest of a CA's public key: `sha256:HEX`, as kubeadm prints and takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not of the form sha256:HEX (64 hexadecimal digits)");
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.is_ascii()).ok_or_else(wrong)?;
        let digits = hex
            .as_bytes()
            .chunks(2)
            .map(|two| std::str::from_utf8(two).ok().and_then(|two| u8::from_str_radix(two, 16).ok()));
        let bytes: Option<Vec<u8>> = digits.collect();
        bytes.filter(|_| hex.len() == 64).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Pin {
    /// The pin of each certificate in PEM text.
    pub fn all_of(ca_pem: &str) -> anyhow::Result<Vec<Self>> {
        let pins = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).map(|der| {
            let der = der.context("CA: not PEM")?;
            let (_, certificate) =
                X509Certificate::from_der(&der).map_err(|error| anyhow::anyhow!("CA: {error}"))?;
            Ok(Self(Sha256::digest(certificate.public_key().raw).into()))
        });
        pins.collect()
    }
}

/// The CA (PEM) of the cluster that the invitation names.
pub(super) async fn certificate_authority(invitation: &Invitation) -> anyhow::Result<String> {
    let mut config = Config::new(invitation.server.parse().context("--server")?);
    config.accept_invalid_certs = true;
    let client = Client::try_from(config)?;
    let api: Api<ConfigMap> = Api::namespaced(client, "kube-public");
    let found = api.get("cluster-info").await;
    let found = found.with_context(|| format!("read cluster-info of {}", invitation.server))?;
    believe(&found, &invitation.token, invitation.pin.as_ref())
}

/// The CA in a `cluster-info` that deserves it.
fn believe(info: &ConfigMap, token: &Token, pin: Option<&Pin>) -> anyhow::Result<String> {
    let datum = |key: &str| info.data.as_ref().and_then(|data| data.get(key)).map(String::as_str);
    let text = datum("kubeconfig").context("cluster-info has no kubeconfig")?;
    let signature = datum(&format!("jws-kubeconfig-{}", token.id));
    match (signature, pin) {
        (Some(signature), _) => signed(text, signature, token)?,
        (None, Some(_)) => {}
        (None, None) => bail!(
            "cluster-info is not signed for token {:?}: give --ca-hash sha256:…, or a token that has not ended",
            token.id
        ),
    }
    let ca = authority_of(text)?;
    let pins = Pin::all_of(&ca)?;
    ensure!(!pins.is_empty(), "cluster-info has no CA certificate");
    if let Some(pin) = pin {
        ensure!(
            pins.contains(pin),
            "the cluster's CA is not the one of --ca-hash {pin}: somebody else answers there"
        );
    }
    Ok(ca)
}

fn authority_of(kubeconfig: &str) -> anyhow::Result<String> {
    let kubeconfig: Value = serde_saphyr::from_str(kubeconfig).context("cluster-info: kubeconfig")?;
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    decoded(cluster, "certificate-authority-data").context("cluster-info has no CA certificate")
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// Checks a detached signature, `HEADER..MAC`, of the text.
fn signed(text: &str, signature: &str, token: &Token) -> anyhow::Result<()> {
    let wrong = "cluster-info is signed with another token's secret: somebody else answers there";
    let parts: Vec<&str> = signature.split('.').collect();
    let [header, "", mac] = parts.as_slice() else { bail!("cluster-info: a signature of no known form") };
    let decoded: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    ensure!(decoded.alg == "HS256", "cluster-info: signature of kind {:?}", decoded.alg);
    ensure!(decoded.kid == token.id, wrong);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, token.secret.as_bytes());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(text));
    let mac = URL_SAFE_NO_PAD.decode(mac)?;
    ring::hmac::verify(&key, message.as_bytes(), &mac).map_err(|_| anyhow::anyhow!(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn cluster_info(ca: &str) -> ConfigMap {
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    server: https://s\n    \
             certificate-authority-data: {}\n",
            STANDARD.encode(ca)
        );
        ConfigMap { data: Some([("kubeconfig".to_owned(), kubeconfig)].into()), ..ConfigMap::default() }
    }

    fn sign(info: &mut ConfigMap, token: &Token) {
        let data = info.data.as_mut().unwrap();
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{}"}}"#, token.id));
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&data["kubeconfig"]));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, token.secret.as_bytes());
        let mac = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
        data.insert(format!("jws-kubeconfig-{}", token.id), format!("{header}..{mac}"));
    }

    #[test]
    fn an_authority_is_believed_by_its_pin_or_by_the_tokens_secret_only() {
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem();
        let other = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem();
        let (pin, wrong) = (Pin::all_of(&ca).unwrap().remove(0), Pin::all_of(&other).unwrap().remove(0));
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let guess: Token = "abcdef.0123456789abcdee".parse().unwrap();
        let mut info = cluster_info(&ca);
        assert_eq!(believe(&info, &token, Some(&pin)).unwrap(), ca);
        fn error(info: &ConfigMap, token: &Token, pin: Option<&Pin>) -> String {
            believe(info, token, pin).unwrap_err().to_string()
        }
        assert!(error(&info, &token, Some(&wrong)).contains("--ca-hash"), "another CA");
        assert!(error(&info, &token, None).contains("not signed"), "nothing to believe it by");
        sign(&mut info, &token);
        assert_eq!(believe(&info, &token, None).unwrap(), ca);
        assert!(error(&info, &guess, None).contains("another token"), "another secret");
        assert!(error(&info, &token, Some(&wrong)).contains("--ca-hash"), "signed, but another CA");
        let forged = cluster_info(&other).data.unwrap().remove("kubeconfig").unwrap();
        info.data.as_mut().unwrap().insert("kubeconfig".into(), forged);
        assert!(error(&info, &token, None).contains("another token"), "another text under the signature");
    }

    #[test]
    fn pins_and_tokens_have_one_form() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(format!("sha256:{hex}").parse::<Pin>().unwrap().to_string(), format!("sha256:{hex}"));
        for wrong in ["", "sha256:", "sha256:zz", &hex, &format!("sha256:{hex}00"), "sha256:é"] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong}");
        }
        for wrong in ["", "abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "a.b.c"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        assert!(!format!("{token:?}").contains("0123456789abcdef"), "a secret is not shown");
    }
}
