//! The level `baseline`: nothing that is known to lead out of a container.

use super::super::containers;
use super::words::{Finding, about, plural, quoted, setters, unique};
use super::{context, named};
use crate::registry::fields;
use knarr_api::meta;
use serde_json::Value;

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Every finding, in the order of the checks' names.
pub(super) fn all(pod: &Value, spec: &Value) -> Vec<Finding> {
    let capabilities = added_capabilities(spec, &CAPABILITIES, "non-default capabilities");
    let findings = [app_armor(pod, spec), capabilities, host_namespaces(spec), host_path(spec)];
    let seccomp = seccomp(spec);
    findings.into_iter().chain(rest(spec)).chain([seccomp, sysctls(spec)]).flatten().collect()
}

/// What `restricted` has in common with this level and does not say more strictly.
pub(super) fn shared(pod: &Value, spec: &Value) -> Vec<Finding> {
    let first = [app_armor(pod, spec), host_namespaces(spec)];
    first.into_iter().chain(rest(spec)).chain([sysctls(spec)]).flatten().collect()
}

fn rest(spec: &Value) -> [Option<Finding>; 4] {
    [host_ports(spec), privileged(spec), proc_mount(spec), se_linux(spec)]
}

fn app_armor(pod: &Value, spec: &Value) -> Option<Finding> {
    let kind = |object: &Value| fields::text(context(object), "/appArmorProfile/type").to_owned();
    let bad = |object: &Value| kind(object) == "Unconfined";
    let annotated = |container: &Value| {
        let key =
            format!("container.apparmor.security.beta.kubernetes.io/{}", fields::text(container, "/name"));
        meta::annotation(pod, &key) == Some("unconfined")
    };
    let names = named(spec, |container| bad(container) || annotated(container));
    let who = setters(bad(spec), &names);
    (!who.is_empty()).then(|| Finding {
        reason: "forbidden AppArmor profile",
        detail: format!("{who} must not set AppArmor profile type to \"Unconfined\""),
    })
}

/// Capabilities added beyond `allowed`.
pub(super) fn added_capabilities(spec: &Value, allowed: &[&str], reason: &'static str) -> Option<Finding> {
    let added = |container: &Value| -> Vec<String> {
        let added = fields::list(container, "/securityContext/capabilities/add").iter();
        added.filter_map(Value::as_str).filter(|name| !allowed.contains(name)).map(str::to_owned).collect()
    };
    let names = named(spec, |container| !added(container).is_empty());
    let values = unique(containers(spec).flat_map(added).collect());
    let what = format!("must not include {} in securityContext.capabilities.add", quoted(&values));
    about(reason, &names, &what)
}

fn host_namespaces(spec: &Value) -> Option<Finding> {
    let used = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| spec[*name] == true);
    let detail = used.map(|name| format!("{name}=true")).collect::<Vec<_>>().join(", ");
    (!detail.is_empty()).then_some(Finding { reason: "host namespaces", detail })
}

fn host_path(spec: &Value) -> Option<Finding> {
    let volumes = fields::list(spec, "/volumes").iter().filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| fields::text(volume, "/name")).collect();
    let word = plural("volume", "volumes", names.len());
    let detail = format!("{word} {}", quoted(&names));
    (!names.is_empty()).then_some(Finding { reason: "hostPath volumes", detail })
}

fn host_ports(spec: &Value) -> Option<Finding> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = fields::list(container, "/ports").iter();
        ports.filter_map(|port| fields::int(port, "/hostPort")).filter(|port| *port != 0).collect()
    };
    let names = named(spec, |container| !ports(container).is_empty());
    let mut all: Vec<i64> = containers(spec).flat_map(ports).collect();
    all.sort_unstable();
    all.dedup();
    let numbers = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let verb = plural("uses", "use", names.len());
    about("hostPort", &names, &format!("{verb} {} {numbers}", plural("hostPort", "hostPorts", all.len())))
}

fn privileged(spec: &Value) -> Option<Finding> {
    let names = named(spec, |container| fields::flag(context(container), "/privileged"));
    about("privileged", &names, "must not set securityContext.privileged=true")
}

fn proc_mount(spec: &Value) -> Option<Finding> {
    let mount = |container: &Value| fields::text(context(container), "/procMount").to_owned();
    let bad = |container: &Value| !matches!(&*mount(container), "" | "Default");
    let names = named(spec, bad);
    let values = unique(containers(spec).filter(|one| bad(one)).map(mount).collect());
    about("procMount", &names, &format!("must not set securityContext.procMount to {}", quoted(&values)))
}

/// The faults of one set of SELinux options.
fn se_linux_faults(object: &Value) -> Vec<String> {
    let Some(options) = context(object).get("seLinuxOptions") else { return Vec::new() };
    let kind = fields::text(options, "/type");
    let mut faults = Vec::new();
    if !SELINUX_TYPES.contains(&kind) {
        faults.push(format!("type {kind:?}"));
    }
    for field in ["user", "role"] {
        if !fields::text(options, &format!("/{field}")).is_empty() {
            faults.push(format!("{field} may not be set"));
        }
    }
    faults
}

fn se_linux(spec: &Value) -> Option<Finding> {
    let names = named(spec, |container| !se_linux_faults(container).is_empty());
    let own = se_linux_faults(spec);
    let who = setters(!own.is_empty(), &names);
    let faults = unique(own.into_iter().chain(containers(spec).flat_map(se_linux_faults)).collect());
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", faults.join("; "));
    (!who.is_empty()).then_some(Finding { reason: "seLinuxOptions", detail })
}

/// A seccomp profile that is named and is none of the allowed ones.
pub(super) fn seccomp(spec: &Value) -> Option<Finding> {
    let kind = |object: &Value| fields::text(context(object), "/seccompProfile/type").to_owned();
    let bad = |object: &Value| !matches!(&*kind(object), "" | "RuntimeDefault" | "Localhost");
    let names = named(spec, bad);
    let who = setters(bad(spec), &names);
    let own = Some(spec).into_iter().chain(containers(spec));
    let values = unique(own.filter(|object| bad(object)).map(kind).collect());
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&values));
    (!who.is_empty()).then_some(Finding { reason: "seccompProfile", detail })
}

fn sysctls(spec: &Value) -> Option<Finding> {
    let names = fields::list(context(spec), "/sysctls").iter().map(|sysctl| fields::text(sysctl, "/name"));
    let bad: Vec<&str> = names.filter(|name| !SYSCTLS.contains(name)).collect();
    (!bad.is_empty()).then(|| Finding { reason: "forbidden sysctls", detail: bad.join(", ") })
}
