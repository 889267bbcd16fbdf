//! The whole chain, as tables: what CRI and image say on one side, what `config.json` says on the other.

use super::*;
use knarr_cri::v1::{
    Capability, ContainerConfig, Int64Value, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, MountPropagation, NamespaceMode, NamespaceOption, SecurityProfile,
};
use knarr_runtime::spec::NamespaceKind;

/// A container in a pod with namespaces of its own.
struct Case {
    config: ContainerConfig,
    image: ImageDefaults,
    host: HostFacts,
    mounts: Vec<ResolvedMount>,
    pod: v1::PodSandboxConfig,
}

fn case() -> Case {
    Case {
        config: ContainerConfig::default(),
        image: ImageDefaults { cmd: vec!["sh".into()], ..ImageDefaults::default() },
        host: HostFacts {
            capabilities: vec!["CAP_CHOWN".into(), "CAP_SYS_ADMIN".into()],
            ..HostFacts::default()
        },
        mounts: Vec::new(),
        pod: v1::PodSandboxConfig::default(),
    }
}

impl Case {
    fn security(mut self, change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> Self {
        let linux = self.config.linux.get_or_insert_default();
        change(linux.security_context.get_or_insert_default());
        self
    }

    fn spec(&self) -> Result<Spec, String> {
        let sandbox = SandboxRecord {
            id: "pod".into(),
            created_at: 1,
            boot_id: String::new(),
            phase: crate::engine::records::SandboxPhase::Ready,
            config: self.pod.clone(),
            runtime_handler: String::new(),
            cgroup_parent: "/kubepods/pod1".into(),
            owns_cgroup_parent: false,
            addresses: Vec::new(),
        };
        let namespaces = [NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts, NamespaceKind::Pid]
            .map(|kind| (kind, PathBuf::from(format!("/ns/{kind:?}"))))
            .into();
        let user = UserRecord { uid: 7, gid: 8, groups: vec![8] };
        build(&Input {
            id: "ctr",
            sandbox: &sandbox,
            config: &self.config,
            image: &self.image,
            host: &self.host,
            user: &user,
            hostname: "web-0",
            files: &PodFiles::default(),
            mounts: &self.mounts,
            volumes: &[],
            devices: &devices::HostDevices::default(),
            namespaces: &namespaces,
            localhost_seccomp: Some(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#),
        })
        .map_err(|status| status.message().to_owned())
    }

    fn process(&self) -> knarr_runtime::spec::Process {
        self.spec().unwrap().process.unwrap()
    }

    fn linux(&self) -> Linux {
        self.spec().unwrap().linux.unwrap()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn command_and_args_replace_what_the_image_says() {
    for (entrypoint, cmd, command, args, expected) in [
        ("", "sh", "", "", Some("sh")),
        ("/e", "a b", "", "", Some("/e a b")),
        ("/e", "a b", "", "x", Some("/e x")),
        ("/e", "a b", "/c", "", Some("/c")),
        ("/e", "a b", "/c", "x y", Some("/c x y")),
        ("", "", "", "", None),
    ] {
        let mut case = case();
        case.image =
            ImageDefaults { entrypoint: words(entrypoint), cmd: words(cmd), ..ImageDefaults::default() };
        (case.config.command, case.config.args) = (words(command), words(args));
        let made = case.spec().map(|spec| spec.process.unwrap().args);
        assert_eq!(made.ok(), expected.map(words), "{entrypoint}|{cmd}|{command}|{args}");
    }
}

#[test]
fn later_variables_win_in_place() {
    let mut case = case();
    case.image.env = words("PATH=/bin A=1 B=2");
    case.config.envs = vec![KeyValue { key: "A".into(), value: b"3".to_vec() }];
    assert_eq!(case.process().env, words("PATH=/bin A=3 B=2 HOSTNAME=web-0"));
}

#[test]
fn the_working_directory_is_absolute() {
    let mut case = case();
    assert_eq!(case.process().cwd, "/");
    case.image.working_dir = "/app".into();
    assert_eq!(case.process().cwd, "/app");
    case.config.working_dir = "relative".into();
    assert!(case.spec().unwrap_err().contains("working_dir"));
}

#[test]
fn capabilities_are_added_dropped_and_never_inherited() {
    let set = |add: &str, drop: &str| {
        let change = |security: &mut LinuxContainerSecurityContext| {
            security.capabilities = Some(Capability {
                add_capabilities: words(add),
                drop_capabilities: words(drop),
                ..Default::default()
            });
        };
        case().security(change).process().capabilities.unwrap()
    };
    let default = set("", "");
    assert_eq!(default.bounding.len(), 14);
    assert!(default.inheritable.is_empty() && default.ambient.is_empty());
    assert_eq!(set("net_admin", "ALL").effective, words("CAP_NET_ADMIN"));
    assert_eq!(set("ALL", "").permitted, words("CAP_CHOWN CAP_SYS_ADMIN"));
    assert_eq!(set("ALL", "CAP_CHOWN").permitted, words("CAP_SYS_ADMIN"));
    assert!(set("", "ALL").bounding.is_empty());
    let unknown = case().security(|security| {
        security.capabilities = Some(Capability { add_capabilities: words("FLY"), ..Default::default() });
    });
    assert!(unknown.spec().unwrap_err().contains("unknown capability"));
}

#[test]
fn privileged_means_everything_but_another_user() {
    let case = case().security(|security| {
        security.privileged = true;
        security.no_new_privs = true;
        security.seccomp = Some(SecurityProfile::default());
    });
    let spec = case.spec().unwrap();
    let (process, linux) = (spec.process.unwrap(), spec.linux.unwrap());
    assert_eq!(process.capabilities.unwrap().bounding, words("CAP_CHOWN CAP_SYS_ADMIN"));
    assert!(!process.no_new_privileges && linux.seccomp.is_none());
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert!(linux.resources.unwrap().devices.iter().all(|rule| rule.allow));
    let sysfs = spec.mounts.iter().find(|mount| mount.destination == "/sys").unwrap();
    assert!(sysfs.options.contains(&"rw".to_owned()));
}

#[test]
fn namespaces_follow_the_pod_and_the_containers_pid_mode() {
    let kinds = |network, ipc, pid| {
        let mut case = case();
        let option = NamespaceOption { network, ipc, pid, ..Default::default() };
        let linux = case.pod.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().namespace_options = Some(option);
        let namespaces = case.linux().namespaces;
        namespaces.iter().map(|ns| (ns.kind, ns.path.is_empty())).collect::<BTreeMap<_, _>>()
    };
    let (pod, container, node) =
        (NamespaceMode::Pod as i32, NamespaceMode::Container as i32, NamespaceMode::Node as i32);
    let own = kinds(pod, pod, container);
    assert!(own[&NamespaceKind::Pid]);
    assert!(!own[&NamespaceKind::Network]);
    assert!(!kinds(pod, pod, pod)[&NamespaceKind::Pid]);
    assert_eq!(kinds(node, node, node).keys().copied().collect::<Vec<_>>(), [NamespaceKind::Mount]);
}

#[test]
fn a_requested_mount_replaces_the_standard_one_and_parents_come_first() {
    let mut case = case();
    let mount = |place: &str, propagation: MountPropagation, readonly| ResolvedMount {
        request: v1::Mount {
            container_path: place.into(),
            propagation: propagation as i32,
            readonly,
            ..Default::default()
        },
        source: "/src".into(),
    };
    case.mounts = vec![
        mount("/a/b", MountPropagation::PropagationPrivate, true),
        mount("/a", MountPropagation::PropagationHostToContainer, false),
        mount("/etc/hosts/", MountPropagation::PropagationPrivate, false),
    ];
    let spec = case.spec().unwrap();
    let places: Vec<&str> = spec.mounts.iter().map(|mount| mount.destination.as_str()).collect();
    assert_eq!(&places[places.len() - 3..], ["/a", "/a/b", "/etc/hosts/"]);
    assert!(!places.contains(&"/etc/hosts"));
    let options =
        |place: &str| spec.mounts.iter().find(|mount| mount.destination == place).unwrap().options.clone();
    assert_eq!(options("/a"), words("rbind rslave rw"));
    assert_eq!(options("/a/b"), words("rbind rprivate ro"));
    assert_eq!(spec.linux.unwrap().rootfs_propagation, "rslave");
}

#[test]
fn recursive_read_only_has_its_rules() {
    let check = |readonly, propagation: MountPropagation| {
        let mut case = case();
        let request = v1::Mount {
            container_path: "/a".into(),
            readonly,
            recursive_read_only: true,
            propagation: propagation as i32,
            ..Default::default()
        };
        case.mounts = vec![ResolvedMount { request, source: "/s".into() }];
        case.spec().map(|spec| spec.mounts.last().unwrap().options.clone())
    };
    assert_eq!(check(true, MountPropagation::PropagationPrivate).unwrap(), words("rbind rprivate rro"));
    assert!(check(false, MountPropagation::PropagationPrivate).is_err());
    assert!(check(true, MountPropagation::PropagationHostToContainer).is_err());
    assert!(check(true, MountPropagation::PropagationBidirectional).is_err());
}

#[test]
fn limits_are_passed_on_and_scores_clamped() {
    let mut case = case();
    case.host.lowest_oom_score_adj = Some(0);
    let resources = LinuxContainerResources {
        cpu_shares: 512,
        memory_limit_in_bytes: 1 << 20,
        oom_score_adj: -998,
        ..Default::default()
    };
    case.config.linux = Some(LinuxContainerConfig { resources: Some(resources), security_context: None });
    let spec = case.spec().unwrap();
    assert_eq!(spec.process.unwrap().oom_score_adj, Some(0));
    let linux = spec.linux.unwrap();
    let resources = linux.resources.unwrap();
    assert_eq!(resources.memory.unwrap().limit, Some(1 << 20));
    assert_eq!(resources.cpu.unwrap().shares, Some(512));
    assert!(!resources.devices[0].allow);
    assert_eq!(linux.cgroups_path, "/kubepods/pod1/ctr");
}

#[test]
fn seccomp_is_unconfined_unless_asked() {
    let profile = |kind: v1::security_profile::ProfileType| {
        let change = |security: &mut LinuxContainerSecurityContext| {
            security.seccomp = Some(SecurityProfile { profile_type: kind as i32, localhost_ref: "x".into() });
        };
        case().security(change).linux().seccomp.map(|seccomp| seccomp.default_action)
    };
    use v1::security_profile::ProfileType::{Localhost, RuntimeDefault, Unconfined};
    assert_eq!(case().linux().seccomp, None);
    assert_eq!(profile(Unconfined), None);
    assert_eq!(profile(RuntimeDefault).unwrap(), "SCMP_ACT_ERRNO");
    assert_eq!(profile(Localhost).unwrap(), "SCMP_ACT_ALLOW");
}

#[test]
fn masked_paths_are_the_defaults_unless_named() {
    assert!(case().linux().masked_paths.contains(&"/proc/kcore".to_owned()));
    let named = case().security(|security| security.masked_paths = words("/bin/ls")).linux();
    assert_eq!((named.masked_paths, named.readonly_paths), (words("/bin/ls"), Vec::new()));
}

#[test]
fn the_user_and_groups_are_numeric() {
    let security =
        |security: &mut LinuxContainerSecurityContext| security.run_as_user = Some(Int64Value { value: 7 });
    let user = case().security(security).process().user;
    assert_eq!((user.uid, user.gid, user.additional_gids), (7, 8, vec![8]));
}

#[test]
fn who_asks_for_memory_alone_gets_no_swap() {
    let host = HostFacts { swap_limit: true, ..HostFacts::default() };
    let limits = |memory, swap| LinuxContainerResources {
        memory_limit_in_bytes: memory,
        memory_swap_limit_in_bytes: swap,
        ..Default::default()
    };
    let swap =
        |resources: &LinuxContainerResources| resources::to_oci(resources, &host).memory.and_then(|m| m.swap);
    assert_eq!(
        [(5, 0), (5, 7), (5, -1), (0, 0)].map(|(m, s)| swap(&limits(m, s))),
        [Some(5), Some(7), Some(-1), None]
    );
    let merged = |update: &LinuxContainerResources| swap(&resources::merge(&limits(5, 7), update));
    assert_eq!([(9, 0), (0, 8), (0, 0)].map(|(m, s)| merged(&limits(m, s))), [Some(9), Some(8), Some(7)]);
}

#[test]
fn huge_pages_are_limited_where_the_kernel_can() {
    for can in [true, false] {
        let mut case = case();
        case.host.hugepage_limits = can;
        let limit = v1::HugepageLimit { page_size: "2MB".into(), limit: 0 };
        let resources = LinuxContainerResources { hugepage_limits: vec![limit], ..Default::default() };
        case.config.linux.get_or_insert_default().resources = Some(resources);
        let limits = case.spec().unwrap().linux.unwrap().resources.unwrap().hugepage_limits;
        assert_eq!(limits.len(), usize::from(can));
    }
}
