//! The cluster's own certificate authority: made once, kept under `DATA_DIR/pki`, and the certificates it signs.
//!
//! A certificate is signed anew when it is missing, damaged, nears its end, or no longer carries the names it must;
//! the CA itself is never replaced, because clients hold copies of it.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

mod validity;

const CA_YEARS: i16 = 10;
const LEAF_YEARS: i16 = 1;

/// The CA and the directory of its certificates.
pub struct Pki {
    directory: PathBuf,
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// What a signed request may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usages {
    Client,
    Server,
}

/// What a certificate says.
#[derive(Debug, Clone, Default)]
pub struct Subject<'a> {
    /// The user's or server's name.
    pub common_name: &'a str,
    /// The user's group.
    pub organization: Option<&'a str>,
    /// Names and addresses of a server; a client has none.
    pub names: &'a [String],
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Pki({})", self.directory.display())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Identity(..)")
    }
}

impl Pki {
    /// Reads the CA of `directory`, or makes one.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        Self::authority(directory, "ca")
    }

    /// The authority beside it that signs those who may speak for others, and nobody else.
    pub fn open_front_proxy(directory: &Path) -> anyhow::Result<Self> {
        Self::authority(directory, "front-proxy-ca")
    }

    fn authority(directory: &Path, name: &str) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let (certificate, key) =
            (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        if !key.exists() {
            let ca = new_authority(name)?;
            // The key last: it is what says that the authority exists.
            write_private(&certificate, &ca.certificate)?;
            write_private(&key, &ca.key)?;
        }
        let ca_pem = read(&certificate)?;
        let key_pair = KeyPair::from_pem(&read(&key)?).with_context(|| key.display().to_string())?;
        let issuer =
            Issuer::from_ca_cert_pem(&ca_pem, key_pair).with_context(|| certificate.display().to_string())?;
        Ok(Self { directory: directory.to_owned(), ca_pem, issuer })
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The certificate kept as `NAME.crt` and `NAME.key`, signed anew where it no longer serves.
    pub fn identity(&self, name: &str, subject: &Subject<'_>) -> anyhow::Result<Identity> {
        let paths = [self.directory.join(format!("{name}.crt")), self.directory.join(format!("{name}.key"))];
        if let (Ok(certificate), Ok(key)) = (read(&paths[0]), read(&paths[1]))
            && validity::serves(&certificate, &self.ca_pem, subject.names)
        {
            return Ok(Identity { certificate, key });
        }
        let identity = self.sign(subject)?;
        write_private(&paths[0], &identity.certificate)?;
        write_private(&paths[1], &identity.key)?;
        Ok(identity)
    }

    /// A new key and its certificate, kept nowhere.
    pub fn sign(&self, subject: &Subject<'_>) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(subject.names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = subject.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, subject.common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !subject.names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        validity::set(&mut params, LEAF_YEARS)?;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The certificate that a request asks for; what it may be used for is said here, not by the request.
    pub(crate) fn sign_request(
        &self,
        mut request: CertificateSigningRequestParams,
        usages: Usages,
        seconds: i64,
    ) -> anyhow::Result<String> {
        let params = &mut request.params;
        params.is_ca = IsCa::NoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match usages {
            Usages::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usages::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        validity::set_seconds(params, seconds)?;
        Ok(request.signed_by(&self.issuer)?.pem())
    }

    /// A secret kept as `NAME`, made by `make` at the first call.
    pub fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let path = self.directory.join(name);
        if !path.exists() {
            write_private(&path, &make()?)?;
        }
        read(&path)
    }
}

fn new_authority(name: &str) -> anyhow::Result<Identity> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    // Distinct even between two clusters on one machine: clients find the issuer by its name.
    let suffix = crate::random::suffix(8);
    params.distinguished_name.push(DnType::CommonName, format!("knarr-{name}-{suffix}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity::set(&mut params, CA_YEARS)?;
    let key = KeyPair::generate()?;
    Ok(Identity { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Writes a file that only its owner can read, whole or not at all. One that holds `content` already is left alone:
/// a full disk is no reason not to start.
pub fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    if std::fs::read(path).is_ok_and(|found| found == content.as_bytes()) {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
    };
    let written = write();
    if written.is_err() {
        // The file may not exist; what counts is that nothing half made stays.
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_kept_until_they_no_longer_serve() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["kubernetes".to_owned(), "127.0.0.1".to_owned()];
        let more = [names[0].clone(), names[1].clone(), "10.0.0.1".to_owned()];
        let subject = |names| Subject { common_name: "server", organization: None, names };
        let pki = Pki::open(directory.path()).unwrap();
        let first = pki.identity("server", &subject(&names)).unwrap();
        let again = Pki::open(directory.path()).unwrap();
        assert_eq!(again.ca_pem(), pki.ca_pem());
        assert!(again.identity("server", &subject(&names)).unwrap() == first);
        let extended = again.identity("server", &subject(&more)).unwrap();
        assert!(extended != first);
        assert!(
            again.identity("server", &subject(&names)).unwrap() == extended,
            "more names than needed still serve"
        );
        std::fs::write(directory.path().join("server.crt"), "damaged").unwrap();
        assert!(again.identity("server", &subject(&names)).unwrap() != extended);
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        Pki::open(directory.path()).unwrap();
        let mode = std::fs::metadata(directory.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
