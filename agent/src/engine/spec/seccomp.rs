//! `linux.seccomp`: none unless asked for, the engine's default profile, or a file of the node's.

use super::{Input, capabilities, seccomp_profile};
use knarr_cri::{
    Status,
    v1::{self, security_profile::ProfileType},
};
use knarr_runtime::spec::{Seccomp, parse};

pub(super) fn build(input: &Input<'_>) -> Result<Option<Seccomp>, Status> {
    let security = input.security();
    if security.privileged {
        return Ok(None);
    }
    match profile(&security).map(|profile| profile.profile_type()) {
        None | Some(ProfileType::Unconfined) => Ok(None),
        Some(ProfileType::RuntimeDefault) => {
            Ok(Some(seccomp_profile::default_profile(&capabilities::effective(input)?)))
        }
        Some(ProfileType::Localhost) => localhost(input).map(Some),
    }
}

/// The profile that is asked for, by the new field or by the old one.
pub(crate) fn profile(security: &v1::LinuxContainerSecurityContext) -> Option<v1::SecurityProfile> {
    #[allow(deprecated)]
    security.seccomp.clone().or_else(|| legacy_profile(&security.seccomp_profile_path))
}

/// The file that a profile names, if it names one.
pub(crate) fn localhost_file(security: &v1::LinuxContainerSecurityContext) -> Option<String> {
    let profile = profile(security).filter(|profile| profile.profile_type() == ProfileType::Localhost)?;
    Some(profile.localhost_ref)
}

/// A profile in the words of the deprecated string fields.
pub(super) fn legacy_profile(text: &str) -> Option<v1::SecurityProfile> {
    let (kind, file) = match text {
        "" => return None,
        "runtime/default" | "docker/default" => (ProfileType::RuntimeDefault, String::new()),
        "unconfined" => (ProfileType::Unconfined, String::new()),
        other => (ProfileType::Localhost, other.strip_prefix("localhost/").unwrap_or(other).to_owned()),
    };
    Some(v1::SecurityProfile { profile_type: kind as i32, localhost_ref: file })
}

fn localhost(input: &Input<'_>) -> Result<Seccomp, Status> {
    let text = input
        .localhost_seccomp
        .ok_or_else(|| Status::invalid_argument("seccomp profile of type Localhost names no file"))?;
    parse(text.as_bytes())
        .map_err(|error| Status::invalid_argument(format!("failed to decode seccomp profile: {error}")))
}
