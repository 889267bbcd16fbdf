//! Who a container runs as and what it may do.

use super::lab::{self, Lab};
use knarr_cri::v1::*;

fn with_security(
    lab: &Lab,
    name: &str,
    command: &[&str],
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> ContainerConfig {
    let mut config = lab.container(name, command);
    change(config.linux.as_mut().unwrap().security_context.as_mut().unwrap());
    config
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_groups_come_from_the_request_and_the_image() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("users")).await.unwrap();
        let by_name = with_security(&lab, "name", &["id"], |security| {
            security.run_as_username = "www-data".into();
            security.supplemental_groups = vec![1234];
        });
        let output = lab.output(&pod, by_name).await;
        assert!(output.starts_with("uid=33(www-data) gid=33(www-data)"), "{output}");
        assert!(output.contains("29(audio)") && output.contains("1234"), "{output}");
        let strict = with_security(&lab, "strict", &["id"], |security| {
            security.run_as_user = Some(Int64Value { value: 33 });
            security.run_as_group = Some(Int64Value { value: 77 });
            security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict as i32;
        });
        let output = lab.output(&pod, strict).await;
        assert!(output.contains("gid=77") && !output.contains("audio"), "{output}");
        let group_alone = with_security(&lab, "group", &["id"], |security| {
            security.run_as_group = Some(Int64Value { value: 77 });
        });
        assert!(lab.create(&pod, group_alone).await.unwrap_err().message().contains("without user"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_privileges_and_seccomp_are_as_asked() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("caps")).await.unwrap();
        let status = ["cat", "/proc/self/status"];
        let plain = lab.output(&pod, lab.container("plain", &status)).await;
        assert!(plain.contains("CapEff:\t00000000a80425fb"), "{plain}");
        assert!(plain.contains("Seccomp:\t0") && plain.contains("NoNewPrivs:\t0"), "{plain}");
        let tight = with_security(&lab, "tight", &status, |security| {
            security.no_new_privs = true;
            security.capabilities = Some(Capability {
                add_capabilities: words("NET_ADMIN"),
                drop_capabilities: words("ALL"),
                ..Default::default()
            });
            security.seccomp = Some(SecurityProfile::default());
        });
        let tight = lab.output(&pod, tight).await;
        assert!(tight.contains("CapEff:\t0000000000001000"), "{tight}");
        assert!(tight.contains("Seccomp:\t2") && tight.contains("NoNewPrivs:\t1"), "{tight}");
        let privileged =
            with_security(&lab, "privileged", &["sh", "-c", "hostname; ls /dev/kmsg"], |security| {
                security.privileged = true;
            });
        assert!(lab.output(&pod, privileged).await.contains("/dev/kmsg"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_seccomp_profile_refuses_a_new_host_name() {
    lab::with(async |lab| {
        let mut config = lab.pod("seccomp");
        // A host name of its own, or the test would rename the machine.
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().network = NamespaceMode::Pod as i32;
        let pod = lab.run_pod(config).await.unwrap();
        let admin = |security: &mut LinuxContainerSecurityContext| {
            security.capabilities = Some(Capability { add_capabilities: words("SYS_ADMIN"), ..Default::default() });
        };
        let script = ["sh", "-c", "hostname renamed && hostname"];
        let free = with_security(&lab, "free", &script, admin);
        assert_eq!(lab.output(&pod, free).await, "renamed\n");
        let allowed = with_security(&lab, "allowed", &script, |security| {
            admin(security);
            security.seccomp = Some(SecurityProfile::default());
        });
        assert_eq!(lab.output(&pod, allowed).await, "renamed\n");
        let profile = lab.path("deny.json");
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["sethostname"],"action":"SCMP_ACT_ERRNO"}]}"#;
        std::fs::write(&profile, text).unwrap();
        let denied = with_security(&lab, "denied", &script, |security| {
            admin(security);
            security.seccomp = Some(SecurityProfile {
                profile_type: security_profile::ProfileType::Localhost as i32,
                localhost_ref: profile.display().to_string(),
            });
        });
        assert!(lab.output(&pod, denied).await.contains("Operation not permitted"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_masked_and_a_root_can_be_read_only() {
    lab::with(async |lab| {
        let pod = lab.run_pod(lab.pod("paths")).await.unwrap();
        let defaults = lab
            .output(
                &pod,
                lab.container(
                    "defaults",
                    &["sh", "-c", "cat /proc/kcore /proc/keys | wc -c; echo 1 > /proc/sys/kernel/domainname"],
                ),
            )
            .await;
        assert!(defaults.contains("Read-only file system"), "{defaults}");
        let masked = with_security(&lab, "masked", &["sh", "-c", "/bin/ls / || echo refused"], |security| {
            security.masked_paths = words("/bin/ls");
        });
        assert!(lab.output(&pod, masked).await.contains("refused"));
        let readonly =
            with_security(&lab, "readonly", &["sh", "-c", "touch /tmp/x || echo refused"], |security| {
                security.readonly_rootfs = true;
            });
        assert!(lab.output(&pod, readonly).await.contains("refused"));
        assert_eq!(
            lab.output(&pod, lab.container("writable", &["sh", "-c", "touch /tmp/x && echo fine"])).await,
            "fine\n"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pid_namespaces_are_the_containers_the_pods_or_the_hosts() {
    lab::with(async |lab| {
        let in_mode = |name: &str, mode: NamespaceMode, command: &[&str]| {
            with_security(&lab, name, command, |security| {
                security.namespace_options.as_mut().unwrap().pid = mode as i32;
            })
        };
        let mut config = lab.pod("pids");
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().pid = NamespaceMode::Pod as i32;
        let pod = lab.run_pod(config).await.unwrap();
        let first = lab.run(&pod, in_mode("first", NamespaceMode::Pod, &["sleep", "1000"])).await;
        // The first one may not have begun its program yet.
        let script = "until ps -o args | grep -q '^sleep 1000'; do sleep 0.1; done; ps -o pid,args";
        let seen = lab.output(&pod, in_mode("second", NamespaceMode::Pod, &["sh", "-c", script])).await;
        assert!(seen.contains("1 /knarr-monitor init") && seen.contains("sleep 1000"), "{seen}");
        let own = lab.output(&pod, in_mode("own", NamespaceMode::Container, &["sh", "-c", "echo $$"])).await;
        assert_eq!(own, "1\n");
        let host = lab.output(&pod, in_mode("host", NamespaceMode::Node, &["sh", "-c", "echo $$"])).await;
        assert!(host.trim().parse::<u32>().unwrap() > 100, "{host}");
        let mut debug = in_mode("debug", NamespaceMode::Target, &["ps", "-o", "args"]);
        let security = debug.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().target_id = first.clone();
        assert!(lab.output(&pod, debug).await.contains("sleep 1000"));
        lab.stop(&first, 0).await;
        assert_eq!(lab.status(&first).await.exit_code, 137);
    })
    .await;
}
