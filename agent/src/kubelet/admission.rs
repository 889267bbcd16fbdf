//! Whether a pod that was bound to this node may run here: enough of everything, free host ports, matching labels.
//! A scheduler has usually asked the same; static pods and races get past it.

mod preemption;

pub use preemption::victims;

use crate::kubelet::pressure::{Conditions, is_critical};
use crate::kubelet::resources::{self, Amounts, HUGE_PAGES, Qos};
use crate::kubelet::{pod, security};
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use std::collections::BTreeMap;

/// The node, as far as admission goes.
#[derive(Debug, Clone, Default)]
pub struct NodeLimits {
    #[allow(missing_docs)]
    pub name: String,
    #[allow(missing_docs)]
    pub allocatable: Amounts,
    #[allow(missing_docs)]
    pub labels: BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub taints: Vec<Taint>,
    /// Containers may be in the groups of their pod alone.
    pub strict_groups: bool,
    /// Sysctls that pods may set although they are not safe.
    pub unsafe_sysctls: Vec<String>,
}

/// What is said of a pod that was driven out by one that is critical.
pub const PREEMPTED: &str = "Preempted in order to admit critical pod";

/// Every reason of a refusal.
pub const REASONS: [&str; 14] = [
    "NodeShutdown",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfephemeral-storage",
    "OutOfpods",
    "OutOfhugepages-2Mi",
    "OutOfhugepages-1Gi",
    "NodeAffinity",
    "NodePorts",
    "TaintToleration",
    "SupplementalGroupsPolicyNotSupported",
    "Evicted",
    "SysctlForbidden",
    "PodOSNotSupported",
];

/// Sysctls that are confined to the pod's own namespaces and can harm nobody else.
const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];

/// What admission asked for could not be had.
pub fn unexpected(message: String) -> Rejection {
    reject("UnexpectedAdmissionError", &message)
}

/// What was to be given to the pod alone could not be.
pub fn not_allocated(error: String) -> Rejection {
    unexpected(format!("Allocate failed due to {error}, which is unexpected"))
}

/// A node that goes down takes nothing more.
pub fn stays_up(shutting_down: bool) -> Result<(), Rejection> {
    match shutting_down {
        true => Err(reject("NodeShutdown", "Pod was rejected as the node is shutting down.")),
        false => Ok(()),
    }
}

/// A node that is short of something takes critical pods only; short of memory alone, also those that reserve some.
pub fn withstands(pod: &Pod, short: Conditions) -> Result<(), Rejection> {
    let names = short.names();
    if names.is_empty() || is_critical(pod) {
        return Ok(());
    }
    let reserves = resources::qos(pod) != Qos::BestEffort;
    let tolerates = pod::spec(pod).tolerations.iter().flatten().any(|toleration| {
        toleration.key.as_deref() == Some("node.kubernetes.io/memory-pressure")
            && matches!(toleration.effect.as_deref(), None | Some("" | "NoSchedule"))
    });
    if names == ["MemoryPressure"] && (reserves || tolerates) {
        return Ok(());
    }
    Err(reject("Evicted", &format!("The node had condition: [{}]. ", names.join(" "))))
}

/// Sysctls of others' namespaces, and those that the node does not allow, are refused.
pub fn allows_sysctls(pod: &Pod, unsafe_ones: &[String]) -> Result<(), Rejection> {
    let context = pod::spec(pod).security_context.as_ref();
    for sysctl in context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten() {
        // Slashes are another notation of the same name.
        let name = sysctl.name.replace('/', ".");
        let listed = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        };
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !unsafe_ones.iter().any(listed) {
            return Err(reject("SysctlForbidden", &format!("forbidden sysctl: \"{name}\" not allowlisted")));
        }
        let spec = pod::spec(pod);
        let shared = |host: Option<bool>, prefixes: &[&str]| {
            host == Some(true) && prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        let ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
        if shared(spec.host_network, &["net."]) || shared(spec.host_ipc, &ipc) {
            let message = format!("forbidden sysctl: \"{name}\" not allowed with host namespace enabled");
            return Err(reject("SysctlForbidden", &message));
        }
    }
    Ok(())
}

/// A pod that says for which operating system it is made runs on that one only.
pub fn is_for_this_system(pod: &Pod) -> Result<(), Rejection> {
    match pod::spec(pod).os.as_ref().is_none_or(|os| os.name == "linux") {
        true => Ok(()),
        false => {
            Err(reject("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"))
        }
    }
}

/// A pod that wants its containers in no other groups than its own must get that.
pub fn keeps_groups(pod: &Pod, node: &NodeLimits) -> Result<(), Rejection> {
    let context = pod::spec(pod).security_context.as_ref();
    let policy = context.and_then(|context| context.supplemental_groups_policy.as_deref());
    match policy == Some("Strict") && !node.strict_groups {
        true => {
            let text = "SupplementalGroupsPolicy=Strict is not supported in this node";
            Err(reject("SupplementalGroupsPolicyNotSupported", text))
        }
        false => Ok(()),
    }
}

/// Why a pod that was taken waits until it is deleted: it insists on what this node does not have. One that has begun
/// goes on.
pub fn holds_back(pod: &Pod, apparmor: bool) -> Option<Rejection> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let lacks = phase == "Pending" && !apparmor && security::needs_apparmor(pod);
    let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    lacks.then(|| ("AppArmor".to_string(), message.to_string()))
}

/// `status.reason` and `status.message` of a refusal.
pub type Rejection = (String, String);

/// Something that the node has too little of, in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Its name.
    pub resource: String,
    #[allow(missing_docs)]
    pub wanted: i64,
    #[allow(missing_docs)]
    pub used: i64,
    #[allow(missing_docs)]
    pub capacity: i64,
}

impl Shortage {
    fn missing(&self) -> i64 {
        self.wanted - (self.capacity - self.used)
    }

    /// The refusal of a pod for its sake.
    pub fn rejection(&self) -> Rejection {
        // Processors are told in thousandths, everything else in whole units.
        let unit = if self.resource == "cpu" { 1 } else { 1000 };
        let message = format!(
            "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
            self.resource,
            self.wanted / unit,
            self.used / unit,
            self.capacity / unit
        );
        reject(&format!("OutOf{}", self.resource), &message)
    }
}

/// Thousandths that a pod takes away from others.
fn takes(pod: &Pod, resource: &str) -> i64 {
    if resource == "pods" { 1000 } else { resources::pod_request(pod, resource) }
}

/// What `pod` asks for and the node does not have beside the `others` that run here already.
pub fn shortages(pod: &Pod, others: &[&Pod], node: &NodeLimits) -> Vec<Shortage> {
    let first = ["pods", "cpu", "memory", "ephemeral-storage"];
    let pages = node.allocatable.keys().map(String::as_str).filter(|name| name.starts_with(HUGE_PAGES));
    let short = first.into_iter().chain(pages).filter_map(|resource| {
        let capacity = node.allocatable.get(resource).and_then(resources::milli)?;
        let (wanted, used) =
            (takes(pod, resource), others.iter().map(|other| takes(other, resource)).sum::<i64>());
        let short = wanted > 0 && used.saturating_add(wanted) > capacity;
        short.then(|| Shortage { resource: resource.to_owned(), wanted, used, capacity })
    });
    short.collect()
}

/// Decides about `pod` beside the `others`, whatever room they leave.
pub fn suits(pod: &Pod, others: &[&Pod], node: &NodeLimits) -> Result<(), Rejection> {
    if !matches_node(pod, node) {
        return Err(reject(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ));
    }
    let taken: Vec<_> = others.iter().flat_map(|other| host_ports(other)).collect();
    if host_ports(pod).iter().any(|port| taken.iter().any(|other| conflict(port, other))) {
        let text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(reject("NodePorts", text));
    }
    let mut evicting = node.taints.iter().filter(|taint| taint.effect == "NoExecute");
    if !pod::is_static(pod) && evicting.any(|taint| !tolerates(pod, taint)) {
        let text = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        return Err(reject("TaintToleration", text));
    }
    Ok(())
}

/// Whether the pod may be where this taint is.
fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    let set = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let accepts = |toleration: &Toleration| {
        let same_key = set(&toleration.key).is_none_or(|key| key == taint.key);
        let same_effect = set(&toleration.effect).is_none_or(|effect| effect == taint.effect);
        let same_value = match toleration.operator.as_deref() {
            Some("Exists") => true,
            None | Some("" | "Equal") => {
                set(&toleration.key).is_some() && set(&toleration.value) == set(&taint.value)
            }
            _ => false,
        };
        same_key && same_effect && same_value
    };
    pod::spec(pod).tolerations.iter().flatten().any(accepts)
}

fn reject(reason: &str, message: &str) -> Rejection {
    (reason.to_string(), format!("Pod was rejected: {message}"))
}

type HostPort = (String, String, i32);

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let ports = pod::containers(pod).flat_map(|(_, container)| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let own = if pod::host_network(pod) { Some(port.container_port) } else { None };
            let number = port.host_port.filter(|port| *port > 0).or(own)?;
            let text = |field: &Option<String>, default: &str| {
                field.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_string())
            };
            Some((text(&port.protocol, "TCP"), text(&port.host_ip, "0.0.0.0"), number))
        })
        .collect()
}

fn conflict(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || any(&a.1) || any(&b.1))
}

fn matches_node(pod: &Pod, node: &NodeLimits) -> bool {
    let spec = pod::spec(pod);
    let mut wanted = spec.node_selector.iter().flatten();
    if !wanted.all(|(key, value)| node.labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

fn matches_term(term: &NodeSelectorTerm, node: &NodeLimits) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = |key: &str| (key == "metadata.name").then_some(&node.name);
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| matches(requirement, node.labels.get(&requirement.key)))
        && fields.iter().all(|requirement| matches(requirement, name(&requirement.key)))
}

fn matches(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(number(values.first())).is_some_and(|(own, bound)| own > bound),
        "Lt" => number(value).zip(number(values.first())).is_some_and(|(own, bound)| own < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn refusals_have_the_kubelets_words() {
        let node = NodeLimits {
            name: "n".into(),
            allocatable: [("cpu", "1"), ("memory", "1Gi"), ("pods", "2")]
                .map(|(name, amount)| (name.to_string(), Quantity(amount.into())))
                .into(),
            labels: [("disk".to_string(), "ssd".to_string())].into(),
            taints: Vec::new(),
            strict_groups: false,
            unsafe_sysctls: Vec::new(),
        };
        let cpu = |amount: &str| {
            pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}))
        };
        let port =
            pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}));
        let other = cpu("600m");
        let admit = |pod: &Pod, others: &[&Pod]| match shortages(pod, others, &node).first() {
            Some(shortage) => Err(shortage.rejection()),
            None => is_for_this_system(pod).and_then(|()| suits(pod, others, &node)),
        };
        let reason = |pod: &Pod, others: &[&Pod]| admit(pod, others).map_err(|(reason, _)| reason);
        assert_eq!(reason(&cpu("400m"), &[&other]), Ok(()));
        let (reason_text, message) = admit(&cpu("500m"), &[&other]).unwrap_err();
        assert_eq!(reason_text, "OutOfcpu");
        assert_eq!(
            message,
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000"
        );
        assert_eq!(reason(&cpu("1m"), &[&port, &port]), Err("OutOfpods".into()));
        assert_eq!(reason(&port, &[&port]), Err("NodePorts".into()));
        let picky = pod(json!({"nodeSelector": {"disk": "hdd"}, "containers": []}));
        assert_eq!(reason(&picky, &[]), Err("NodeAffinity".into()));
        let strict =
            pod(json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}, "containers": []}));
        let (refused, _) = keeps_groups(&strict, &node).unwrap_err();
        assert_eq!(refused, "SupplementalGroupsPolicyNotSupported");
        assert_eq!(keeps_groups(&strict, &NodeLimits { strict_groups: true, ..node.clone() }), Ok(()));
        assert_eq!(keeps_groups(&picky, &node), Ok(()));
        let foreign = |os: &str| pod(json!({"os": {"name": os}, "containers": []}));
        assert_eq!(reason(&foreign("linux"), &[]), Ok(()));
        assert_eq!(reason(&foreign("windows"), &[]), Err("PodOSNotSupported".into()));
    }

    #[test]
    fn huge_pages_run_out_like_everything_else() {
        let pages =
            |amount: &str| pod(json!({"resources": {"limits": {"hugepages-2Mi": amount}}, "containers": []}));
        let allocatable = [("hugepages-2Mi".to_string(), Quantity("4Mi".into()))].into();
        let node = NodeLimits { allocatable, ..NodeLimits::default() };
        assert_eq!(shortages(&pages("2Mi"), &[&pages("2Mi")], &node), []);
        let short = shortages(&pages("4Mi"), &[&pages("2Mi")], &node);
        let (reason, message) = short[0].rejection();
        assert_eq!(reason, "OutOfhugepages-2Mi");
        assert!(message.ends_with("requested: 4194304, used: 2097152, capacity: 4194304"), "{message}");
    }

    #[test]
    fn what_does_not_tolerate_a_taint_that_evicts_is_refused() {
        let taint = |effect: &str| Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: effect.into(),
            time_added: None,
        };
        let reason = |effect: &str, toleration: serde_json::Value| {
            let node = NodeLimits { taints: vec![taint(effect)], ..NodeLimits::default() };
            suits(&pod(json!({"containers": [], "tolerations": [toleration]})), &[], &node)
                .err()
                .map(|(reason, _)| reason)
        };
        let refused = Some("TaintToleration".to_string());
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), None),
            (json!({"key": "k", "operator": "Exists"}), None),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), refused.clone()),
            (json!({"key": "k", "value": "v"}), None),
            (json!({"key": "k", "value": "w"}), refused.clone()),
            (json!({"key": "other", "operator": "Exists"}), refused.clone()),
            (json!({}), refused.clone()),
        ] {
            assert_eq!(reason("NoExecute", toleration.clone()), expected, "{toleration}");
            assert_eq!(reason("NoSchedule", toleration), None);
        }
        let node = NodeLimits { taints: vec![taint("NoExecute")], ..NodeLimits::default() };
        let mut own = pod(json!({"containers": []}));
        own.metadata.annotations = Some([(pod::SOURCE_ANNOTATION.to_string(), "file".to_string())].into());
        assert_eq!(suits(&own, &[], &node), Ok(()), "the node's own");
    }

    #[test]
    fn what_must_be_confined_waits_on_a_node_without_apparmor() {
        let confined = json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}]});
        let mut wanted = pod(confined);
        assert_eq!(holds_back(&wanted, true), None);
        assert_eq!(holds_back(&pod(json!({"containers": [{"name": "c"}]})), false), None);
        let (reason, message) = holds_back(&wanted, false).unwrap();
        assert_eq!(reason, "AppArmor");
        assert_eq!(message, "Cannot enforce AppArmor: AppArmor is not enabled on the host");
        wanted.status = Some(serde_json::from_value(json!({"phase": "Running"})).unwrap());
        assert_eq!(holds_back(&wanted, false), None, "what runs is not asked again");
    }

    #[test]
    fn sysctls_must_be_safe_or_allowed() {
        let with = |name: &str, host: bool| {
            pod(json!({"hostNetwork": host, "containers": [],
                "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}))
        };
        let allowed = ["kernel.msg*".to_string(), "net.core.somaxconn".to_string()];
        assert_eq!(allows_sysctls(&with("net.ipv4.tcp_syncookies", false), &[]), Ok(()));
        assert_eq!(allows_sysctls(&with("kernel/msgmax", false), &allowed), Ok(()));
        let (reason, message) = allows_sysctls(&with("kernel.msgmax", false), &[]).unwrap_err();
        assert_eq!(reason, "SysctlForbidden");
        assert_eq!(message, "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted");
        let (_, message) = allows_sysctls(&with("net.core.somaxconn", true), &allowed).unwrap_err();
        assert!(message.contains("host namespace"), "{message}");
    }

    #[test]
    fn a_node_that_is_short_takes_few() {
        let memory = Conditions { memory: true, ..Default::default() };
        let disk = Conditions { disk: true, ..Default::default() };
        let best_effort = pod(json!({"containers": [{"name": "c"}]}));
        let burstable =
            pod(json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1"}}}]}));
        let critical = pod(json!({"priority": 2_000_000_000, "containers": [{"name": "c"}]}));
        assert_eq!(withstands(&best_effort, Conditions::default()), Ok(()));
        let (reason, message) = withstands(&best_effort, memory).unwrap_err();
        assert_eq!(
            (reason.as_str(), message.as_str()),
            ("Evicted", "Pod was rejected: The node had condition: [MemoryPressure]. ")
        );
        assert_eq!(withstands(&burstable, memory), Ok(()));
        assert!(withstands(&burstable, disk).is_err());
        assert_eq!(withstands(&critical, disk), Ok(()));
    }
}
