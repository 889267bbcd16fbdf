//! Security contexts: what pod and container say, merged and put into CRI's terms. The container's word counts
//! before the pod's.

use crate::kubelet::{pod, user_namespaces};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile,
    SecurityContext,
};
use knarr_cri::v1;
use knarr_cri::v1::security_profile::ProfileType;
use knarr_cri::v1::{Int64Value, NamespaceMode, SecurityProfile};

/// Who a container will run as by its image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// A numeric USER.
    pub uid: Option<i64>,
    /// A USER by name; exclusive with `uid`.
    pub name: String,
}

fn pod_context(pod: &Pod) -> Option<&PodSecurityContext> {
    pod::spec(pod).security_context.as_ref()
}

fn user_of(pod: &Pod, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
    own.or_else(|| pod_context(pod)?.run_as_user)
}

/// The user that all containers of the pod run as, where the spec alone tells.
pub fn common_user(pod: &Pod) -> Option<u32> {
    let mut users = pod::containers(pod).map(|(_, container)| user_of(pod, container));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

/// Refuses a container that must not run as root but would; the text is the kubelet's.
pub fn check_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
    if own.or_else(|| pod_context(pod)?.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let who = format!("(pod: \"{}\", container: {})", pod::described(pod), container.name);
    match (user_of(pod, container), image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {who}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {who}")),
        (None, Some(_)) => Ok(()),
        (None, None) if !image.name.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {who}",
            image.name
        )),
        (None, None) => Err(format!("container has runAsNonRoot and image will run as root {who}")),
    }
}

/// The namespaces of the pod; `target` is the container whose processes an ephemeral one sees.
pub fn namespaces(pod: &Pod, target: Option<String>, first_id: Option<u32>) -> v1::NamespaceOption {
    let spec = pod::spec(pod);
    let node_or = |host: Option<bool>, other: NamespaceMode| match host {
        Some(true) => NamespaceMode::Node as i32,
        _ => other as i32,
    };
    let shared = spec.share_process_namespace == Some(true);
    let pid = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    let mut options = v1::NamespaceOption {
        network: node_or(spec.host_network, NamespaceMode::Pod),
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod),
        pid: node_or(spec.host_pid, pid),
        userns_options: first_id.map(user_namespaces::options),
        ..Default::default()
    };
    if let Some(target) = target {
        options.pid = NamespaceMode::Target as i32;
        options.target_id = target;
    }
    options
}

/// Groups that every process of the pod has beside its own.
fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let context = pod_context(pod);
    let mut groups = context.and_then(|context| context.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(context.and_then(|context| context.fs_group));
    groups
}

fn groups_policy(pod: &Pod) -> i32 {
    let policy = pod_context(pod).and_then(|context| context.supplemental_groups_policy.as_deref());
    match policy {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict as i32,
        _ => v1::SupplementalGroupsPolicy::Merge as i32,
    }
}

/// True when any container of the pod is privileged, which its sandbox must then be too.
fn has_privileged(pod: &Pod) -> bool {
    pod::containers(pod).any(|(_, c)| c.security_context.as_ref().is_some_and(|s| s.privileged == Some(true)))
}

/// The sandbox's security context.
pub fn sandbox_context(pod: &Pod, first_id: Option<u32>) -> v1::LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None, first_id)),
        selinux_options: context.and_then(|context| context.se_linux_options.as_ref()).map(selinux),
        run_as_user: context.and_then(|context| context.run_as_user).map(|value| Int64Value { value }),
        run_as_group: context.and_then(|context| context.run_as_group).map(|value| Int64Value { value }),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        privileged: has_privileged(pod),
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The container's security context; `image` tells the user where neither pod nor container does.
pub fn container_context(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target: Option<String>,
    first_id: Option<u32>,
    seccomp_default: bool,
) -> v1::LinuxContainerSecurityContext {
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let of_pod = pod_context(pod);
    let user = user_of(pod, container);
    let group = own.run_as_group.or_else(|| of_pod?.run_as_group);
    let privileged = own.privileged == Some(true);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let selinux_options = own.se_linux_options.as_ref().or_else(|| of_pod?.se_linux_options.as_ref());
    let seccomp_profile = own.seccomp_profile.as_ref().or_else(|| of_pod?.seccomp_profile.as_ref());
    let apparmor_profile = apparmor_profile(pod, container);
    v1::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities),
        privileged,
        namespace_options: Some(namespaces(pod, target, first_id)),
        selinux_options: selinux_options.map(selinux),
        run_as_user: user.or(image.uid).map(|value| Int64Value { value }),
        run_as_username: if user.is_none() && image.uid.is_none() {
            image.name.clone()
        } else {
            String::new()
        },
        run_as_group: group.map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { Vec::new() } else { strings(MASKED_PATHS) },
        readonly_paths: if unmasked { Vec::new() } else { strings(READONLY_PATHS) },
        seccomp: Some(seccomp(seccomp_profile, privileged, seccomp_default)),
        apparmor: apparmor_profile.map(apparmor),
        ..Default::default()
    }
}

const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
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
const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn capabilities(wanted: &Capabilities) -> v1::Capability {
    v1::Capability {
        add_capabilities: wanted.add.clone().unwrap_or_default(),
        drop_capabilities: wanted.drop.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn selinux(options: &SELinuxOptions) -> v1::SeLinuxOption {
    v1::SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}

/// Without a profile a container is unconfined, as in Kubernetes, unless the node says otherwise.
fn seccomp(profile: Option<&SeccompProfile>, privileged: bool, by_default: bool) -> SecurityProfile {
    let (kind, reference) = match profile {
        None if by_default && !privileged => ("RuntimeDefault", None),
        Some(profile) if !privileged => (profile.type_.as_str(), profile.localhost_profile.clone()),
        _ => ("Unconfined", None),
    };
    // A relative profile lies where kubelets keep them.
    let reference = reference.map(|path| format!("/var/lib/kubelet/seccomp/{path}"));
    security_profile(kind, reference)
}

fn apparmor_profile<'a>(pod: &'a Pod, container: &'a Container) -> Option<&'a AppArmorProfile> {
    let own = container.security_context.as_ref().and_then(|context| context.app_armor_profile.as_ref());
    own.or_else(|| pod_context(pod)?.app_armor_profile.as_ref())
}

/// Whether a container of the pod is to be confined by a profile, even if it is only the default one.
pub fn needs_apparmor(pod: &Pod) -> bool {
    let confined = |profile: &AppArmorProfile| profile.type_ != "Unconfined";
    pod::containers(pod).any(|(_, container)| apparmor_profile(pod, container).is_some_and(confined))
}

fn apparmor(profile: &AppArmorProfile) -> SecurityProfile {
    security_profile(&profile.type_, profile.localhost_profile.clone())
}

fn security_profile(kind: &str, reference: Option<String>) -> SecurityProfile {
    let profile_type = match kind {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    SecurityProfile { profile_type: profile_type as i32, localhost_ref: reference.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn non_root_is_checked_against_the_image() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}}))
        .unwrap();
        let container = &pod::spec(&pod).containers[0];
        let image = |uid, name: &str| ImageUser { uid, name: name.into() };
        assert!(check_non_root(&pod, container, &image(Some(5), "")).is_ok());
        let error = check_non_root(&pod, container, &image(Some(0), "")).unwrap_err();
        assert!(error.starts_with("container has runAsNonRoot and image will run as root"), "{error}");
        let error = check_non_root(&pod, container, &image(None, "www")).unwrap_err();
        assert!(error.contains("non-numeric user (www)"), "{error}");
    }

    #[test]
    fn apparmor_is_needed_where_a_container_is_to_be_confined() {
        let kind = |kind: Option<&str>| match kind {
            Some(kind) => json!({"appArmorProfile": {"type": kind, "localhostProfile": "p"}}),
            None => json!({}),
        };
        for (of_pod, of_container, needed) in [
            (None, None, false),
            (Some("Unconfined"), None, false),
            (Some("RuntimeDefault"), None, true),
            (Some("RuntimeDefault"), Some("Unconfined"), false),
            (None, Some("Localhost"), true),
            (Some("Unconfined"), Some("RuntimeDefault"), true),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": {"securityContext": kind(of_pod),
                "containers": [{"name": "c", "securityContext": kind(of_container)}]}}))
            .unwrap();
            assert_eq!(needs_apparmor(&pod), needed, "{of_pod:?} {of_container:?}");
        }
    }

    #[test]
    fn the_containers_word_counts_before_the_pods() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"hostPID": true,
            "securityContext": {"runAsUser": 1, "fsGroup": 7, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 2, "allowPrivilegeEscalation": false}}]}}))
        .unwrap();
        let context = container_context(
            &pod,
            &pod::spec(&pod).containers[0],
            &ImageUser { uid: Some(9), name: String::new() },
            None,
            None,
            false,
        );
        assert_eq!(context.run_as_user, Some(Int64Value { value: 2 }));
        assert_eq!(context.supplemental_groups, [7]);
        assert!(context.no_new_privs);
        assert_eq!(context.seccomp.unwrap().profile_type, ProfileType::RuntimeDefault as i32);
        assert_eq!(context.namespace_options.unwrap().pid, NamespaceMode::Node as i32);
    }
}
