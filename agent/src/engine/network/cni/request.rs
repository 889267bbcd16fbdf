//! What a plugin is told, and what its result says; pure.

use super::super::PodAttachment;
use super::config::{NetworkList, Plugin};
use super::record::Attachment;
use anyhow::{Context, ensure};
use knarr_api::quantity::Quantity;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// The pod's link.
pub(crate) const LINK: &str = "eth0";
/// Plugins take a burst without a limit of its own.
const ANY_BURST: u64 = u32::MAX as u64;

/// `CNI_ARGS`, in the words that Kubernetes' plugins know.
pub(crate) fn args(pod: &PodAttachment) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        pod.namespace, pod.name, pod.sandbox_id, pod.uid
    )
}

/// Everything that we can tell, by capability; a plugin is told what it declares.
pub(crate) fn runtime_config(pod: &PodAttachment, pod_cidr: Option<&str>) -> Map<String, Value> {
    let mut config = Map::new();
    let mappings: Vec<Value> = pod
        .host_ports
        .iter()
        .filter(|port| port.host_port != 0)
        .map(super::super::HostPort::mapping)
        .collect();
    if !mappings.is_empty() {
        config.insert("portMappings".to_owned(), mappings.into());
    }
    if let Some(bandwidth) = bandwidth(pod) {
        config.insert("bandwidth".to_owned(), bandwidth);
    }
    if let Some(pod_cidr) = pod_cidr {
        let ranges = pod_cidr.split(',').map(|subnet| json!([{"subnet": subnet.trim()}]));
        config.insert("ipRanges".to_owned(), ranges.collect());
    }
    config.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(pod.annotations));
    config
}

/// Bits per second from the annotations that kubelets pass on; nonsense is no limit, as with other runtimes.
fn bandwidth(pod: &PodAttachment) -> Option<Value> {
    let rate = |direction: &str| {
        let text = pod.annotations.get(&format!("kubernetes.io/{direction}-bandwidth"))?;
        u64::try_from(text.parse::<Quantity>().ok()?.units()).ok().filter(|&rate| rate > 0)
    };
    let mut limits = Map::new();
    for direction in ["ingress", "egress"] {
        if let Some(rate) = rate(direction) {
            limits.insert(format!("{direction}Rate"), rate.into());
            limits.insert(format!("{direction}Burst"), ANY_BURST.into());
        }
    }
    (!limits.is_empty()).then_some(Value::Object(limits))
}

/// The configuration of one plugin, without what belongs to an attachment.
pub(crate) fn plain(list: &NetworkList, plugin: &Plugin) -> Value {
    let mut input = plugin.rest.clone();
    input.insert("type".to_owned(), plugin.kind.clone().into());
    input.insert("name".to_owned(), list.name.clone().into());
    input.insert("cniVersion".to_owned(), list.cni_version.clone().into());
    Value::Object(input)
}

/// The same for ADD, CHECK and DEL.
pub(crate) fn input(attachment: &Attachment, plugin: &Plugin, previous: Option<&Value>) -> Value {
    let mut input = plain(&attachment.list, plugin);
    let declared = |name: &String| plugin.capabilities.get(name).and_then(Value::as_bool).unwrap_or(false);
    let told: Map<String, Value> = attachment
        .runtime_config
        .iter()
        .filter(|(name, _)| declared(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !told.is_empty() {
        input["runtimeConfig"] = Value::Object(told);
    }
    if let Some(previous) = previous {
        input["prevResult"] = previous.clone();
    }
    input
}

/// The same for GC.
pub(crate) fn garbage(list: &NetworkList, plugin: &Plugin, living: &[Attachment]) -> Value {
    let mut input = plain(list, plugin);
    let valid = living.iter().map(|one| json!({"containerID": one.sandbox_id, "ifname": LINK}));
    input["cni.dev/valid-attachments"] = valid.collect();
    input
}

/// The pod's addresses in a result, the first one primary.
pub(crate) fn addresses(result: &Value) -> anyhow::Result<Vec<IpAddr>> {
    let inside = |ip: &Value| match ip["interface"].as_u64().and_then(|index| usize::try_from(index).ok()) {
        Some(index) => {
            result["interfaces"][index]["sandbox"].as_str().is_some_and(|sandbox| !sandbox.is_empty())
        }
        None => true,
    };
    let listed =
        result["ips"].as_array().into_iter().flatten().filter(|ip| inside(ip)).map(|ip| &ip["address"]);
    // Before version 0.3 there was one address per family.
    let old = [&result["ip4"]["ip"], &result["ip6"]["ip"]].into_iter().filter(|ip| ip.is_string());
    let parse = |text: &Value| {
        let text = text.as_str().context("an address in the CNI result is not a string")?;
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        address.parse().with_context(|| format!("the CNI result has an invalid address {text:?}"))
    };
    let addresses = listed.chain(old).map(parse).collect::<anyhow::Result<Vec<IpAddr>>>()?;
    ensure!(!addresses.is_empty(), "the CNI result has no address for the pod");
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::network::HostPort;

    fn pod() -> PodAttachment {
        PodAttachment {
            sandbox_id: "id".into(),
            namespace: "ns".into(),
            name: "web".into(),
            uid: "uid".into(),
            netns: "/run/ns".into(),
            host_ports: vec![HostPort {
                protocol: "tcp",
                host_ip: None,
                host_port: 8080,
                container_port: 80,
            }],
            annotations: [("kubernetes.io/ingress-bandwidth".to_owned(), "1M".to_owned())].into(),
        }
    }

    fn attachment(plugin: &Value) -> Attachment {
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [plugin]});
        Attachment::new(&pod(), "/x".as_ref(), serde_json::from_value(list).unwrap(), Some("10.42.1.0/24"))
    }

    #[test]
    fn a_plugin_is_told_what_it_declares() {
        let plugin = json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true, "bandwidth": false}});
        let attachment = attachment(&plugin);
        let input = input(&attachment, &attachment.list.plugins[0], Some(&json!({"ips": []})));
        let expected = json!({
            "type": "portmap", "snat": true, "name": "net", "cniVersion": "1.0.0", "prevResult": {"ips": []},
            "runtimeConfig": {"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
            ]},
        });
        assert_eq!(input, expected);
    }

    #[test]
    fn limits_and_ranges_are_told_too() {
        let attachment =
            attachment(&json!({"type": "x", "capabilities": {"bandwidth": true, "ipRanges": true}}));
        let input = input(&attachment, &attachment.list.plugins[0], None);
        let expected = json!({
            "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": u32::MAX},
            "ipRanges": [[{"subnet": "10.42.1.0/24"}]],
        });
        assert_eq!(input["runtimeConfig"], expected);
        assert_eq!(input.get("prevResult"), None);
    }

    #[test]
    fn addresses_of_the_pod_only() {
        let result = json!({
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/ns"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.2/24", "interface": 1},
                {"address": "fd00::2/64"},
            ],
        });
        let found: Vec<String> = addresses(&result).unwrap().iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.0.0.2", "fd00::2"]);
        assert_eq!(addresses(&json!({"ip4": {"ip": "10.0.0.9/24"}})).unwrap()[0].to_string(), "10.0.0.9");
        for bad in [json!({}), json!({"ips": [{"address": "x"}]}), json!({"ips": [{}]})] {
            assert!(addresses(&bad).is_err(), "{bad}");
        }
    }
}
