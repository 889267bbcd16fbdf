//! A node's certificate that the cluster's CA signed long ago, made with openssl: waiting for one to age would take days.

use knarr_tests::bins;
use std::path::Path;
use std::process::Command;

/// A certificate and its key, as a kubeconfig holds them.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    key: String,
}

/// What `openssl ca` needs to know.
const CONFIG: &str = "[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n\
    policy=any\nx509_extensions=client\n[any]\norganizationName=supplied\ncommonName=supplied\n[client]\n\
    keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nbasicConstraints=critical,CA:FALSE\n";

fn openssl(directory: &Path, arguments: &[&str]) -> String {
    bins::run(Command::new("openssl").args(arguments).current_dir(directory)).ok()
}

/// For `node`: of its twenty hours one is left.
pub(crate) fn almost_over(pki: &Path, work: &Path, node: &str) -> Pair {
    std::fs::create_dir(work).expect("a directory");
    for (name, text) in [("ca.cnf", CONFIG), ("index", ""), ("serial", "0A11\n")] {
        std::fs::write(work.join(name), text).expect("a file");
    }
    let subject = format!("/O=system:nodes/CN=system:node:{node}");
    openssl(work, &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]);
    openssl(work, &["req", "-new", "-key", "key.pem", "-subj", &subject, "-out", "request.pem"]);
    let date = |when: &str| {
        bins::run(Command::new("date").args(["-u", "-d", when, "+%Y%m%d%H%M%SZ"])).ok().trim().to_owned()
    };
    let (begin, end) = (date("19 hours ago"), date("1 hour"));
    let (ca, key) = (pki.join("ca.crt").display().to_string(), pki.join("ca.key").display().to_string());
    let words = ["ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", &ca, "-keyfile", &key];
    let rest = ["-startdate", &begin, "-enddate", &end, "-in", "request.pem", "-out", "certificate.pem"];
    openssl(work, &[&words[..], &rest[..]].concat());
    let coded = |name: &str| openssl(work, &["base64", "-A", "-in", name]).trim().to_owned();
    Pair { certificate: coded("certificate.pem"), key: coded("key.pem") }
}

/// The kubeconfig with another certificate and key.
pub(crate) fn replaced(kubeconfig: &str, pair: &Pair) -> String {
    let lines = kubeconfig.lines().map(|line| {
        let value = |field: &str, value: &str| {
            let (before, _) = line.split_once(field)?;
            Some(format!("{before}{field} {value}"))
        };
        let changed = value("client-certificate-data:", &pair.certificate);
        changed.or_else(|| value("client-key-data:", &pair.key)).unwrap_or_else(|| line.to_owned())
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}
