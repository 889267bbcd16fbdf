//! Runtime classes: a pod that names one gets what it costs to run (`overhead`) and where it can (`nodeSelector`,
//! `tolerations`). What a pod says of these itself must be the same.

use super::{Write, is_mirror};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::Status;
use knarr_api::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) async fn fill_in(server: &Server, write: Write<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = fields::text(pod, "/spec/runtimeClassName").to_owned();
    let mut class = Value::Null;
    if !name.is_empty() {
        let found = server.object_at(&format!("node.k8s.io/runtimeclasses/{name}")).await?;
        let missing = || write.forbidden(&format!("pod rejected: RuntimeClass {name:?} not found"));
        // The node runs a mirrored pod whatever the cluster says.
        if found.is_none() && is_mirror(pod) {
            return Ok(());
        }
        class = found.ok_or_else(missing)?;
    }
    apply(&class, pod).map_err(|why| write.forbidden(&why))
}

/// The pod with what its class (null where it names none) adds.
fn apply(class: &Value, pod: &mut Value) -> Result<(), String> {
    let (fixed, own) = (amounts(class, "/overhead/podFixed"), amounts(pod, "/spec/overhead"));
    match (fixed.is_empty(), own.is_empty()) {
        (false, true) => fields::set_in(pod, "spec", "overhead", class["overhead"]["podFixed"].clone()),
        (false, false) if fixed != own => {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
        }
        (true, false) => {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(why.into());
        }
        _ => {}
    }
    let Some(scheduling) = class.get("scheduling") else { return Ok(()) };
    let mut selector =
        pod["spec"].get("nodeSelector").cloned().unwrap_or_else(|| Value::Object(<_>::default()));
    for (key, value) in fields::pairs(scheduling, "/nodeSelector") {
        match selector.get(key).filter(|own| *own != value) {
            Some(own) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                    text(value),
                    text(own)
                ));
            }
            None => selector[key] = value.clone(),
        }
    }
    if selector.as_object().is_some_and(|selector| !selector.is_empty()) {
        fields::set_in(pod, "spec", "nodeSelector", selector);
    }
    let mut tolerations = fields::list(pod, "/spec/tolerations").to_vec();
    for more in fields::list(scheduling, "/tolerations") {
        if !tolerations.contains(more) {
            tolerations.push(more.clone());
        }
    }
    if !tolerations.is_empty() {
        fields::set_in(pod, "spec", "tolerations", tolerations.into());
    }
    Ok(())
}

fn amounts<'a>(object: &'a Value, pointer: &str) -> BTreeMap<&'a str, Option<Quantity>> {
    let amount = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
    fields::pairs(object, pointer).map(|(name, value)| (name, amount(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(class: Value, spec: Value) -> Result<Value, String> {
        let mut pod = json!({"spec": spec});
        apply(&class, &mut pod).map(|()| pod["spec"].take())
    }

    #[test]
    fn a_pod_gets_what_its_class_costs_and_needs() {
        let class = json!({"overhead": {"podFixed": {"cpu": "100m"}}, "scheduling": {"nodeSelector": {"a": "b"},
            "tolerations": [{"key": "k", "operator": "Exists"}]}});
        let expected = json!({"overhead": {"cpu": "100m"}, "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "k", "operator": "Exists"}]});
        assert_eq!(applied(class.clone(), json!({})), Ok(expected.clone()));
        assert_eq!(applied(class.clone(), expected.clone()), Ok(expected));
        let same = applied(class.clone(), json!({"overhead": {"cpu": "0.1"}})).unwrap();
        assert_eq!(same["overhead"]["cpu"], "0.1");
        let refused = |class: &Value, spec: Value| applied(class.clone(), spec).unwrap_err();
        assert!(refused(&class, json!({"overhead": {"cpu": "1"}})).contains("doesn't match"));
        assert!(refused(&Value::Null, json!({"overhead": {"cpu": "1"}})).contains("without corresponding"));
        assert!(refused(&class, json!({"nodeSelector": {"a": "c"}})).starts_with("conflict: "));
        assert_eq!(applied(Value::Null, json!({})), Ok(json!({})));
    }
}
