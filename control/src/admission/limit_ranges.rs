//! Limit ranges: what a container gets that asks for nothing, and how much and how little one may ask for.

use super::{Operation, Write};
use crate::quota::{Amounts, amounts, pods};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::quantity::Quantity;
use knarr_api::{Status, meta};
use serde_json::Value;

/// What is said about the defaults that were filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

async fn ranges(server: &Server, namespace: &str) -> Result<Vec<Value>, Status> {
    server.objects_below(&format!("core/limitranges/{namespace}/")).await
}

/// The limits of a range for one type of object.
fn limits<'a>(range: &'a Value, of: &'a str) -> impl Iterator<Item = &'a Value> {
    fields::list(range, "/spec/limits").iter().filter(move |limit| fields::text(limit, "/type") == of)
}

pub(super) async fn fill_in(server: &Server, write: Write<'_>, pod: &mut Value) -> Result<(), Status> {
    for range in ranges(server, write.namespace).await? {
        let (mut requests, mut maxima) = (Amounts::new(), Amounts::new());
        for limit in limits(&range, "Container") {
            requests.extend(amounts(limit.get("defaultRequest")));
            maxima.extend(amounts(limit.get("default")));
        }
        let said = fill_containers(pod, &requests, &maxima);
        if !said.is_empty() {
            annotate(pod, &said);
        }
    }
    Ok(())
}

fn annotate(pod: &mut Value, said: &[String]) {
    let Some(annotations) =
        fields::child(pod, "metadata").and_then(|meta| fields::child(meta, "annotations"))
    else {
        return;
    };
    let text = format!("LimitRanger plugin set: {}", said.join("; "));
    fields::set(annotations, ANNOTATION, text.into());
}

/// Fills in what the containers leave open, and says what.
fn fill_containers(pod: &mut Value, requests: &Amounts, maxima: &Amounts) -> Vec<String> {
    let mut said = Vec::new();
    let Some(spec) = fields::child(pod, "spec") else { return said };
    for (group, word) in [("containers", "container"), ("initContainers", "init container")] {
        for container in fields::each(spec, group) {
            let name = fields::text(container, "/name").to_owned();
            for (field, which, defaults) in [("requests", "request", requests), ("limits", "limit", maxima)] {
                let set = fill_resources(container, field, defaults);
                if !set.is_empty() {
                    said.push(format!("{} {which} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    said
}

fn fill_resources(container: &mut Value, field: &str, defaults: &Amounts) -> Vec<String> {
    if defaults.is_empty() {
        return Vec::new();
    }
    let target = fields::child(container, "resources").and_then(|resources| fields::child(resources, field));
    let Some(target) = target else { return Vec::new() };
    let open: Vec<_> = defaults.iter().filter(|(name, _)| target.get(name.as_str()).is_none()).collect();
    for (name, amount) in &open {
        fields::set(target, name, amount.to_string().into());
    }
    open.into_iter().map(|(name, _)| name.clone()).collect()
}

/// Refuses what is outside a range; every fault is named.
pub(super) async fn check(server: &Server, write: Write<'_>, object: &Value) -> Result<(), Status> {
    let pod = write.creates("", "pods") || write.resizes();
    let claim = write.is("", "persistentvolumeclaims") && write.operation != Operation::Delete;
    if !pod && !claim || meta::deletion_timestamp(object).is_some() {
        return Ok(());
    }
    for range in ranges(server, write.namespace).await? {
        let faults = if pod { pod_faults(&range, object) } else { claim_faults(&range, object) };
        match faults.as_slice() {
            [] => {}
            [one] => return Err(write.forbidden(one)),
            many => return Err(write.forbidden(&format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

fn pod_faults(range: &Value, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    for limit in limits(range, "Container") {
        for group in ["containers", "initContainers"] {
            for container in fields::list(spec, &format!("/{group}")) {
                let of = |which: &str| amounts(container.pointer(&format!("/resources/{which}")));
                Range { kind: "Container", limit }.check(&of("requests"), &of("limits"), &mut faults);
            }
        }
    }
    for limit in limits(range, "Pod") {
        let of = |which: &str| pods::declared(pod, which);
        Range { kind: "Pod", limit }.check(&of("requests"), &of("limits"), &mut faults);
    }
    faults
}

/// Claims have requests only.
fn claim_faults(range: &Value, claim: &Value) -> Vec<String> {
    let asked = amounts(claim.pointer("/spec/resources/requests"));
    let mut faults = Vec::new();
    for limit in limits(range, "PersistentVolumeClaim") {
        let range = Range { kind: "PersistentVolumeClaim", limit };
        range.check_least(&asked, &Amounts::new(), &mut faults);
        for (name, most) in amounts(limit.get("max")) {
            let what = format!("maximum {name} usage per PersistentVolumeClaim is {most}");
            match asked.get(&name) {
                None => faults.push(format!("{what}.  No request is specified")),
                Some(asked) if *asked > most => faults.push(format!("{what}, but request is {asked}")),
                Some(_) => {}
            }
        }
    }
    faults
}

/// One limit, for one type of object.
struct Range<'a> {
    kind: &'a str,
    limit: &'a Value,
}

impl Range<'_> {
    fn check(&self, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
        self.check_least(requests, limits, faults);
        self.check_most(requests, limits, faults);
        self.check_ratio(requests, limits, faults);
    }

    fn check_least(&self, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
        for (name, least) in amounts(self.limit.get("min")) {
            let what = format!("minimum {name} usage per {} is {least}", self.kind);
            match (requests.get(&name), limits.get(&name)) {
                (None, _) => faults.push(format!("{what}.  No request is specified")),
                (Some(asked), _) if *asked < least => faults.push(format!("{what}, but request is {asked}")),
                (_, Some(most)) if *most < least => faults.push(format!("{what}, but limit is {most}")),
                _ => {}
            }
        }
    }

    fn check_most(&self, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
        for (name, most) in amounts(self.limit.get("max")) {
            let what = format!("maximum {name} usage per {} is {most}", self.kind);
            match (requests.get(&name), limits.get(&name)) {
                (_, None) => faults.push(format!("{what}.  No limit is specified")),
                (_, Some(limit)) if *limit > most => faults.push(format!("{what}, but limit is {limit}")),
                (Some(asked), _) if *asked > most => faults.push(format!("{what}, but request is {asked}")),
                _ => {}
            }
        }
    }

    fn check_ratio(&self, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
        for (name, most) in amounts(self.limit.get("maxLimitRequestRatio")) {
            let what = format!("{name} max limit to request ratio per {} is {most}", self.kind);
            let given = |amounts: &Amounts| amounts.get(&name).copied().filter(|amount| !amount.is_zero());
            match (given(requests), given(limits)) {
                (None, _) => faults.push(format!("{what}, but no request is specified or request is 0")),
                (_, None) => faults.push(format!("{what}, but no limit is specified or limit is 0")),
                (Some(asked), Some(limit)) => {
                    let ratio = as_number(limit) / as_number(asked);
                    if ratio > as_number(most) {
                        faults.push(format!("{what}, but provided ratio is {ratio:.6}"));
                    }
                }
            }
        }
    }
}

/// For ratios only, where rounding does not matter.
#[allow(clippy::cast_precision_loss)]
fn as_number(amount: Quantity) -> f64 {
    // Large amounts have no thousandths that fit.
    if amount.units() > 1 << 40 { amount.units() as f64 } else { amount.milli() as f64 / 1000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(requests: Value, limits: Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests, "limits": limits}}]}})
    }

    fn faults(limit: Value, pod: &Value) -> Vec<String> {
        pod_faults(&json!({"spec": {"limits": [limit]}}), pod)
    }

    #[test]
    fn defaults_are_filled_in_and_said() {
        let mut pod = json!({"spec": {"containers": [{"name": "c"}, {"name": "d", "resources": {"limits": {"cpu": "2"}}}],
            "initContainers": [{"name": "i"}]}});
        let of = |value: Value| amounts(Some(&value));
        let said =
            fill_containers(&mut pod, &of(json!({"cpu": "100m", "memory": "1Mi"})), &of(json!({"cpu": "1"})));
        let expected = [
            "cpu, memory request for container c",
            "cpu limit for container c",
            "cpu, memory request for container d",
            "cpu, memory request for init container i",
            "cpu limit for init container i",
        ];
        assert_eq!(said, expected);
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["memory"], "1Mi");
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"]["cpu"], "2");
    }

    #[test]
    fn what_is_outside_is_refused_in_the_words_of_kubernetes() {
        let max = json!({"type": "Container", "max": {"cpu": "1"}});
        assert_eq!(
            faults(max.clone(), &pod(json!({"cpu": "2"}), json!({"cpu": "2"}))),
            ["maximum cpu usage per Container is 1, but limit is 2"]
        );
        assert_eq!(
            faults(max.clone(), &pod(json!({}), json!({}))),
            ["maximum cpu usage per Container is 1.  No limit is specified"]
        );
        assert!(faults(max, &pod(json!({"cpu": "1"}), json!({"cpu": "1"}))).is_empty());
        let min = json!({"type": "Pod", "min": {"memory": "1Gi"}});
        assert_eq!(
            faults(min, &pod(json!({"memory": "1Mi"}), json!({}))),
            ["minimum memory usage per Pod is 1Gi, but request is 1Mi"]
        );
        let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        assert_eq!(
            faults(ratio, &pod(json!({"cpu": "100m"}), json!({"cpu": "300m"}))),
            ["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"]
        );
    }
}
