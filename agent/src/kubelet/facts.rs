//! What a container may learn about its pod and node: the downward API's field and resource references, as text.

use crate::kubelet::pod;
use crate::kubelet::resources::{self, Amounts};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// What the object itself does not say.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Addresses of the pod, primary first; those of the node for a host-network pod.
    pub pod_ips: Vec<String>,
    /// Addresses of the node.
    pub host_ips: Vec<String>,
    #[allow(missing_docs)]
    pub node_name: String,
    /// What limits default to.
    pub allocatable: Amounts,
}

/// The value of a `fieldRef`.
pub fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, String> {
    let spec = pod::spec(pod);
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => pod::name(pod).to_string(),
        "metadata.namespace" => pod::namespace(pod).to_string(),
        "metadata.uid" => pod::uid(pod).to_string(),
        "metadata.labels" => map_text(pod.metadata.labels.as_ref()),
        "metadata.annotations" => map_text(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return subscripted(pod, path),
    })
}

/// `metadata.labels['x']` and `metadata.annotations['x']`; an absent key is the empty string.
fn subscripted(pod: &Pod, path: &str) -> Result<String, String> {
    let unsupported = || format!("unsupported fieldPath: {path}");
    let (map, rest) = path.split_once("['").ok_or_else(unsupported)?;
    let key = rest.strip_suffix("']").ok_or_else(unsupported)?;
    let map = match map {
        "metadata.labels" => pod.metadata.labels.as_ref(),
        "metadata.annotations" => pod.metadata.annotations.as_ref(),
        _ => return Err(unsupported()),
    };
    Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default())
}

/// One `key="value"` per line, the value quoted as Go quotes strings.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn go_quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of a `resourceFieldRef`, in whole divisors, rounded up.
pub fn resource(
    pod: &Pod,
    facts: &Facts,
    own: &Container,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let found =
        named.map(|name| pod::find_container(pod, name).ok_or_else(|| format!("container {name} not found")));
    let container = match found.transpose()? {
        Some((_, container)) => container,
        None => own.clone(),
    };
    let (side, name) = selector.resource.split_once('.').unwrap_or(("", ""));
    let requirements = container.resources.as_ref();
    let milli = match side {
        "limits" => resources::container_limit(pod, &container, name)
            .or_else(|| facts.allocatable.get(name).and_then(resources::milli))
            .unwrap_or(0),
        "requests" => resources::request(requirements, name).unwrap_or(0),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let divisor =
        selector.divisor.as_ref().and_then(resources::milli).filter(|divisor| *divisor > 0).unwrap_or(1000);
    Ok((i128::from(milli) + i128::from(divisor) - 1).div_euclid(i128::from(divisor)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "c", "labels": {"k": "v\"", "l": "m"}},
            "spec": {"containers": []}
        }))
        .unwrap();
        let facts = Facts { pod_ips: vec!["10.0.0.2".into()], node_name: "n".into(), ..Default::default() };
        for (path, expected) in [
            ("metadata.name", Ok("a")),
            ("metadata.labels['l']", Ok("m")),
            ("metadata.labels['zz']", Ok("")),
            ("metadata.labels", Ok("k=\"v\\\"\"\nl=\"m\"")),
            ("status.podIP", Ok("10.0.0.2")),
            ("spec.nodeName", Ok("n")),
            ("spec.oops", Err("unsupported fieldPath: spec.oops")),
        ] {
            let expected = expected.map(str::to_string).map_err(str::to_string);
            assert_eq!(field(&pod, &facts, path), expected, "{path}");
        }
    }
}
