//! From when to when a certificate holds, and whether an existing one still serves.

use jiff::{Span, Timestamp, Zoned, tz::TimeZone};
use rcgen::CertificateParams;
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

/// A certificate is replaced this long before its end: machines are off for weeks.
const RENEW_DAYS: i64 = 120;

/// From yesterday (clocks differ) for `years`.
pub(super) fn set(params: &mut CertificateParams, years: i16) -> anyhow::Result<()> {
    let now = Zoned::new(Timestamp::now(), TimeZone::UTC);
    let (from, until) = (now.checked_sub(Span::new().days(1))?, now.checked_add(Span::new().years(years))?);
    params.not_before =
        rcgen::date_time_ymd(from.year().into(), from.month().try_into()?, from.day().try_into()?);
    params.not_after =
        rcgen::date_time_ymd(until.year().into(), until.month().try_into()?, until.day().try_into()?);
    Ok(())
}

/// From five minutes ago (clocks differ) until `seconds` from now.
pub(super) fn set_seconds(params: &mut CertificateParams, seconds: i64) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now();
    let skew = std::time::Duration::from_secs(300);
    params.not_before = (now - skew).into();
    params.not_after = (now + std::time::Duration::from_secs(seconds.try_into()?)).into();
    Ok(())
}

/// Whether `certificate` is signed by this CA, holds long enough, and carries all of `names`.
pub(super) fn serves(certificate: &str, ca: &str, names: &[String]) -> bool {
    let parsed = (parse_x509_pem(certificate.as_bytes()), parse_x509_pem(ca.as_bytes()));
    let (Ok((_, leaf)), Ok((_, ca))) = &parsed else { return false };
    let (Ok(leaf), Ok(ca)) = (leaf.parse_x509(), ca.parse_x509()) else { return false };
    let left = leaf.validity().not_after.timestamp() - Timestamp::now().as_second();
    leaf.issuer() == ca.subject()
        && left > RENEW_DAYS * 86_400
        && names.iter().all(|name| carries(&leaf, name))
}

fn carries(leaf: &X509Certificate<'_>, name: &str) -> bool {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return false };
    let address = name.parse::<IpAddr>().ok();
    extension.value.general_names.iter().any(|general| match (general, address) {
        (GeneralName::DNSName(found), None) => *found == name,
        (GeneralName::IPAddress(bytes), Some(IpAddr::V4(address))) => **bytes == address.octets(),
        (GeneralName::IPAddress(bytes), Some(IpAddr::V6(address))) => **bytes == address.octets(),
        _ => false,
    })
}
