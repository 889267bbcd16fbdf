//! What the credential of one node opens: its own pods and what they refer to, and nothing of its neighbours.

use super::*;

fn get(lab: &Lab, node: &str, path: &str) -> u16 {
    lab.call_as(User::node(node), "GET", path, &Value::Null).code
}

fn bind(lab: &Lab, name: &str, node: &str, spec: Value) {
    let mut object = pod(name);
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    assert_eq!(lab.post(PODS, &object).code, 201);
    let target = json!({"target": {"kind": "Node", "name": node}});
    assert_eq!(lab.post(&format!("{PODS}/{name}/binding"), &target).code, 201);
}

#[test]
fn a_node_reads_what_its_pods_refer_to() {
    let lab = lab();
    for name in ["mine", "theirs"] {
        let secret = json!({"metadata": {"name": name}});
        assert_eq!(lab.post("/api/v1/namespaces/default/secrets", &secret).code, 201);
    }
    let mounts = |secret: &str| json!({"volumes": [{"name": "v", "secret": {"secretName": secret}}]});
    let secret = |name: &str| format!("/api/v1/namespaces/default/secrets/{name}");
    assert_eq!(get(&lab, "a", &secret("mine")), 403, "no pod yet");
    bind(&lab, "one", "a", mounts("mine"));
    bind(&lab, "two", "b", mounts("theirs"));
    for (node, name, code) in
        [("a", "mine", 200), ("a", "theirs", 403), ("b", "theirs", 200), ("b", "mine", 403)]
    {
        assert_eq!(get(&lab, node, &secret(name)), code, "{node} {name}");
    }
    let all = "/api/v1/namespaces/default/secrets";
    assert_eq!(get(&lab, "a", all), 403, "no list of all");
    assert_eq!(get(&lab, "a", &format!("{all}?fieldSelector=metadata.name%3Dmine")), 200);
    assert_eq!(get(&lab, "a", &format!("{all}?fieldSelector=metadata.name%3Dtheirs")), 403);
    lab.delete(&format!("{PODS}/one"), &json!({"gracePeriodSeconds": 0}));
    assert_eq!(get(&lab, "a", &secret("mine")), 403, "the pod is gone");
}

#[test]
fn a_node_sees_its_own_pods_and_itself() {
    let lab = lab();
    bind(&lab, "one", "a", json!({}));
    bind(&lab, "two", "b", json!({}));
    let pods = |node: &str| format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    assert_eq!(get(&lab, "a", &pods("a")), 200);
    assert_eq!(lab.get(&pods("a")).names(), ["one"]);
    assert_eq!(get(&lab, "a", &pods("b")), 403);
    assert_eq!(get(&lab, "a", "/api/v1/pods"), 403);
    assert_eq!(get(&lab, "a", &format!("{PODS}/one")), 200);
    assert_eq!(get(&lab, "a", &format!("{PODS}/two")), 403);
    assert_eq!(get(&lab, "a", &format!("{PODS}/gone")), 404);
    for (name, code) in [("a", 201), ("b", 403)] {
        let created =
            lab.call_as(User::node("a"), "POST", "/api/v1/nodes", &json!({"metadata": {"name": name}}));
        assert_eq!(created.code, code, "{name}");
    }
    assert_eq!(get(&lab, "a", "/api/v1/nodes/a"), 200);
    assert_eq!(get(&lab, "b", "/api/v1/nodes/a"), 403);
    let outsider = lab.call_as(User::new("system:node:a", &[]), "GET", "/api/v1/nodes/a", &Value::Null);
    assert_eq!(outsider.code, 403, "the name alone makes no node");
}

#[test]
fn a_new_node_gets_no_pods_before_it_is_ready() {
    let lab = lab();
    let own = json!([{"key": "own", "effect": "NoSchedule"}]);
    let node = json!({"metadata": {"name": "a"}, "spec": {"taints": own}});
    let created = lab.post("/api/v1/nodes", &node);
    let taints: Vec<&Value> =
        created.at("/spec/taints").as_array().unwrap().iter().map(|taint| &taint["key"]).collect();
    assert_eq!(taints, ["own", "node.kubernetes.io/not-ready"], "{created:?}");
    let again = json!({"metadata": {"name": "b"}, "spec": {"taints": created.at("/spec/taints")}});
    assert_eq!(lab.post("/api/v1/nodes", &again).at("/spec/taints"), created.at("/spec/taints"));
}

#[test]
fn tokens_end_with_what_they_are_bound_to() {
    let lab = lab();
    lab.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "robot"}}));
    lab.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}}));
    lab.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}}));
    let ask = |kind: &str, name: &str| {
        let reference = json!({"apiVersion": "v1", "kind": kind, "name": name});
        let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
        lab.post(path, &json!({"spec": {"boundObjectRef": reference}}))
    };
    let review = |token: &str| {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        lab.post(path, &json!({"spec": {"token": token}})).at("/status/authenticated").clone()
    };
    for (kind, name, path) in
        [("Secret", "s", "/api/v1/namespaces/default/secrets/s"), ("Node", "n", "/api/v1/nodes/n")]
    {
        let token = ask(kind, name).text("/status/token");
        assert_eq!(review(&token), true, "{kind}");
        lab.delete(path, &Value::Null);
        assert_eq!(review(&token), false, "{kind} is gone");
    }
    assert_eq!(ask("Secret", "s").refusal(), (404, r#"secrets "s" not found"#.into()));
    let refused = ask("ConfigMap", "c").refusal();
    assert_eq!(refused, (400, "cannot bind token to object of type /v1, Kind=ConfigMap".into()));
}
