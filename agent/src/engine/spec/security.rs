//! Masked and read-only paths below /proc and /sys, and the AppArmor profile.

use super::Input;
use knarr_cri::{Status, v1};

/// What a container must not read: keys of the kernel, timers and power meters that leak what neighbours do.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What a container must not write: switches of the whole machine.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Masked and read-only paths. Two empty lists mean "the defaults" unless the pod has its own user namespace: only
/// there Kubernetes allows `procMount: Unmasked`, which is what empty lists say.
pub(super) fn hidden_paths(input: &Input<'_>) -> (Vec<String>, Vec<String>) {
    let security = input.security();
    if security.privileged {
        return (Vec::new(), Vec::new());
    }
    let unmasked_allowed = has_user_namespace(&input.sandbox.namespace_options());
    if security.masked_paths.is_empty() && security.readonly_paths.is_empty() && !unmasked_allowed {
        return default_hidden_paths();
    }
    (security.masked_paths, security.readonly_paths)
}

/// What no container sees, and what none may change, unless it is told otherwise.
pub(crate) fn default_hidden_paths() -> (Vec<String>, Vec<String>) {
    let own = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
    (own(&MASKED), own(&READONLY))
}

/// The pod asked for a user namespace of its own.
pub(crate) fn has_user_namespace(options: &v1::NamespaceOption) -> bool {
    options.userns_options.as_ref().is_some_and(|user| user.mode() == v1::NamespaceMode::Pod)
}

/// The name of the AppArmor profile; a named profile on a machine without AppArmor is an error, the default is not.
pub(super) fn apparmor(input: &Input<'_>) -> Result<String, Status> {
    let security = input.security();
    let profile = match (&security.apparmor, legacy_apparmor(&security)) {
        (Some(profile), _) => profile.clone(),
        (None, Some(profile)) => profile,
        (None, None) => return Ok(String::new()),
    };
    match profile.profile_type() {
        v1::security_profile::ProfileType::Localhost if !input.host.apparmor => {
            Err(Status::failed_precondition(format!(
                "apparmor is not supported: cannot load profile {:?}",
                profile.localhost_ref
            )))
        }
        v1::security_profile::ProfileType::Localhost => Ok(profile.localhost_ref),
        // The default profile is not loaded by this engine; without one a container runs unconfined.
        _ => Ok(String::new()),
    }
}

/// The old field: `runtime/default`, `unconfined` or `localhost/NAME`.
fn legacy_apparmor(security: &v1::LinuxContainerSecurityContext) -> Option<v1::SecurityProfile> {
    #[allow(deprecated)]
    super::seccomp::legacy_profile(&security.apparmor_profile)
}
