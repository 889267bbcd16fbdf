//! The credentials on disk: one kubeconfig that holds all of them, readable by its owner only, which kubectl can read
//! too. It is replaced as a whole: a crash leaves the old one or the new one.

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate with its private key, both PEM, and its time.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) key: String,
    pub(crate) begins: Timestamp,
    pub(crate) ends: Timestamp,
    common_name: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads the first certificate of the chain.
    pub(crate) fn new(pem: String, key: String) -> anyhow::Result<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).context("certificate: not PEM")?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| anyhow::anyhow!("certificate: {error}"))?;
        let validity = parsed.validity();
        let begins = Timestamp::from_second(validity.not_before.timestamp())?;
        let ends = Timestamp::from_second(validity.not_after.timestamp())?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let common_name = name.unwrap_or_default().to_owned();
        Ok(Self { pem, key, begins, ends, common_name })
    }

    /// When to ask for the next one: after four fifths of its time, as kubelets do on average.
    pub(crate) fn renewal(&self) -> Timestamp {
        let whole = self.ends.as_second().saturating_sub(self.begins.as_second()).max(0);
        Timestamp::from_second(self.begins.as_second() + whole / 5 * 4).unwrap_or(self.ends)
    }
}

/// The text in a field of a kubeconfig that holds base64.
pub(super) fn decoded(holder: &Value, field: &str) -> anyhow::Result<String> {
    let data = holder[field].as_str().with_context(|| format!("no {field}"))?;
    let bytes = STANDARD.decode(data).with_context(|| field.to_owned())?;
    String::from_utf8(bytes).with_context(|| field.to_owned())
}

/// What is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) server: String,
    pub(super) ca_pem: String,
    pub(super) certificate: Certificate,
}

impl Kept {
    /// What `file` keeps for this node; `None` where there is no such file. An error says why it cannot be used.
    pub(super) fn read(file: &Path, node: &str, now: Timestamp) -> anyhow::Result<Option<Self>> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let kept = Self::parse(&text).with_context(|| file.display().to_string())?;
        let name = kept.certificate.common_name.strip_prefix("system:node:").unwrap_or_default();
        ensure!(name == node, "{}: the certificate is that of node {name:?}, not {node:?}", file.display());
        let ends = kept.certificate.ends;
        ensure!(now < ends, "{}: the certificate has ended at {ends}", file.display());
        Ok(Some(kept))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_saphyr::from_str(text)?;
        let (cluster, user) = (&value["clusters"][0]["cluster"], &value["users"][0]["user"]);
        let (pem, key) = (decoded(user, "client-certificate-data")?, decoded(user, "client-key-data")?);
        Ok(Self {
            server: cluster["server"].as_str().context("no server")?.to_owned(),
            ca_pem: decoded(cluster, "certificate-authority-data")?,
            certificate: Certificate::new(pem, key)?,
        })
    }

    /// Replaces `file`.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let directory = file.parent().context("no directory")?;
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        // Temporary files are made readable by their owner only.
        let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
        temporary.write_all(self.kubeconfig().as_bytes())?;
        temporary.as_file().sync_all()?;
        temporary.persist(file).with_context(|| file.display().to_string())?;
        Ok(())
    }

    /// The text of the file.
    pub(super) fn kubeconfig(&self) -> String {
        let kubeconfig = knarr_api::Kubeconfig {
            cluster: "cluster",
            context: "node",
            user: "node",
            server: &self.server,
            ca_pem: &self.ca_pem,
            certificate_pem: &self.certificate.pem,
            key_pem: &self.certificate.key,
        };
        kubeconfig.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(name: &str) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 11);
        let made = params.self_signed(&key).unwrap();
        Certificate::new(made.pem(), key.serialize_pem()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_while_it_holds_and_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("node.kubeconfig");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let good = at("2026-01-02T00:00:00Z");
        assert!(Kept::read(&file, "n", good).unwrap().is_none());
        let kept = Kept {
            server: "https://s:1".into(),
            ca_pem: "ca".into(),
            certificate: certificate("system:node:n"),
        };
        kept.write(&file).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let read = Kept::read(&file, "n", good).unwrap().unwrap();
        assert_eq!((read.server, read.ca_pem), (kept.server, kept.ca_pem));
        assert_eq!(read.certificate, kept.certificate);
        assert_eq!(read.certificate.renewal(), at("2026-01-09T00:00:00Z"));
        let error = |node, now| Kept::read(&file, node, now).unwrap_err().to_string();
        assert!(error("other", good).contains("that of node \"n\""));
        assert!(error("n", at("2026-01-11T00:00:00Z")).contains("has ended"));
        std::fs::write(&file, "kind: [").unwrap();
        assert!(Kept::read(&file, "n", good).is_err());
    }
}
