//! What a webhook sees of writes to subresources: the kind of what is sent, the resource it is sent to, and both states.

use super::policies::webhook;
use super::*;
use crate::controllers::informer::Key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/d";

/// A webhook that is asked about every subresource, or about what `resources` say.
fn configure(lab: &Lab, kind: &str, resources: &[&str], answer: fn(&Value) -> Value) {
    let rule = json!({"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": resources});
    let hook = json!({"name": "hook.example.com", "clientConfig": webhook(lab, answer), "rules": [rule],
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 30});
    let object = json!({"metadata": {"name": "hook"}, "webhooks": [hook]});
    let created = lab.post(&format!("{ADMISSION}/{kind}"), &object);
    assert_eq!(created.code, 201, "{created:?}");
}

/// Refuses, and says what was asked.
fn refuse(request: &Value) -> Value {
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let said = format!(
        "{} {}/{}.{} {}/{} {} object {} old {}",
        text("/operation"),
        text("/kind/group"),
        text("/kind/version"),
        text("/kind/kind"),
        text("/resource/resource"),
        text("/subResource"),
        text("/name"),
        text("/object/kind"),
        text("/oldObject/kind"),
    );
    json!({"allowed": false, "status": {"message": said}})
}

fn seen(response: &Response) -> String {
    let (code, message) = response.refusal();
    let said = message.strip_prefix(r#"admission webhook "hook.example.com" denied the request: "#);
    assert_eq!(code, 400, "{message}");
    said.unwrap_or_else(|| panic!("{message}")).to_owned()
}

fn scene(lab: &Lab) {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    for (path, object) in [
        (PODS, pod("p")),
        ("/apis/apps/v1/namespaces/default/deployments", json!({"metadata": {"name": "d"}, "spec": spec})),
        ("/api/v1/nodes", json!({"metadata": {"name": "n"}})),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
        ),
        ("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "robot"}})),
        ("/api/v1/namespaces", json!({"metadata": {"name": "space"}})),
    ] {
        let created = lab.post(path, &object);
        assert_eq!(created.code, 201, "{path}: {created:?}");
    }
}

fn binding() -> Value {
    json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}})
}

#[test]
fn a_webhook_sees_what_is_sent_to_a_subresource() {
    let lab = lab();
    scene(&lab);
    configure(&lab, "validatingwebhookconfigurations", &["*/*"], refuse);
    let p = |part: &str| format!("{PODS}/p/{part}");
    let posts = [
        (p("binding"), binding(), "CREATE /v1.Binding pods/binding p object Binding old -"),
        (
            p("eviction"),
            json!({"metadata": {"name": "p"}}),
            "CREATE policy/v1.Eviction pods/eviction p object Eviction old -",
        ),
        (
            p("exec?command=ls&container=c"),
            Value::Null,
            "CONNECT /v1.PodExecOptions pods/exec p object PodExecOptions old -",
        ),
        (
            p("attach"),
            Value::Null,
            "CONNECT /v1.PodAttachOptions pods/attach p object PodAttachOptions old -",
        ),
        (
            p("portforward?ports=80"),
            Value::Null,
            "CONNECT /v1.PodPortForwardOptions pods/portforward p object PodPortForwardOptions old -",
        ),
        (p("proxy/x"), Value::Null, "CONNECT /v1.PodProxyOptions pods/proxy p object PodProxyOptions old -"),
        (
            "/api/v1/namespaces/default/services/s/proxy/".into(),
            Value::Null,
            "CONNECT /v1.ServiceProxyOptions services/proxy s object ServiceProxyOptions old -",
        ),
        (
            "/api/v1/nodes/n/proxy/".into(),
            Value::Null,
            "CONNECT /v1.NodeProxyOptions nodes/proxy n object NodeProxyOptions old -",
        ),
        (
            "/api/v1/namespaces/default/serviceaccounts/robot/token".into(),
            json!({"spec": {}}),
            "CREATE authentication.k8s.io/v1.TokenRequest serviceaccounts/token robot object TokenRequest old -",
        ),
        (
            "/api/v1/namespaces/default/bindings".into(),
            binding(),
            "CREATE /v1.Binding bindings/- p object Binding old -",
        ),
    ];
    for (path, body, expected) in posts {
        assert_eq!(seen(&lab.post(&path, &body)), expected, "{path}");
    }
    let replicas = json!({"spec": {"replicas": 3}});
    let conditions = json!({"status": {"conditions": [{"type": "X", "status": "True"}]}});
    let scaled = "UPDATE autoscaling/v1.Scale deployments/scale d object Scale old Scale";
    let patches = [
        (format!("{DEPLOYMENT}/scale"), &replicas, scaled),
        (
            format!("{DEPLOYMENT}/status"),
            &conditions,
            "UPDATE apps/v1.Deployment deployments/status d object Deployment old Deployment",
        ),
        (p("status"), &conditions, "UPDATE /v1.Pod pods/status p object Pod old Pod"),
        ("/api/v1/nodes/n/status".into(), &conditions, "UPDATE /v1.Node nodes/status n object Node old Node"),
    ];
    for (path, body, expected) in patches {
        assert_eq!(seen(&lab.patch(&path, "merge", body)), expected, "{path}");
    }
    let scale = lab.get(&format!("{DEPLOYMENT}/scale"));
    assert_eq!(scale.code, 200);
    let mut more = scale.at("").clone();
    more["spec"]["replicas"] = 2.into();
    assert_eq!(seen(&lab.put(&format!("{DEPLOYMENT}/scale"), &more)), scaled);
    let space = lab.get("/api/v1/namespaces/space").at("").clone();
    let finalized = "UPDATE /v1.Namespace namespaces/finalize space object Namespace old Namespace";
    assert_eq!(seen(&lab.put("/api/v1/namespaces/space/finalize", &space)), finalized);
    assert_eq!(lab.get(DEPLOYMENT).at("/spec/replicas"), 1);
}

#[test]
fn whole_objects_are_not_their_subresources() {
    let lab = lab();
    scene(&lab);
    configure(&lab, "validatingwebhookconfigurations", &["deployments", "pods"], refuse);
    let replicas = json!({"spec": {"replicas": 3}});
    let scaled = lab.patch(&format!("{DEPLOYMENT}/scale"), "merge", &replicas);
    assert_eq!((scaled.code, scaled.at("/spec/replicas")), (200, &json!(3)), "{scaled:?}");
    assert_eq!(
        seen(&lab.patch(DEPLOYMENT, "merge", &replicas)),
        "UPDATE apps/v1.Deployment deployments/- d object Deployment old Deployment"
    );
    assert_eq!(lab.post(&format!("{PODS}/p/eviction"), &json!({"metadata": {"name": "p"}})).code, 201);
}

#[test]
fn who_changes_objects_may_refuse_their_deletion_and_not_change_it() {
    let lab = lab();
    scene(&lab);
    configure(&lab, "mutatingwebhookconfigurations", &["pods", "configmaps"], |request| {
        let patch = STANDARD.encode(json!([{"op": "add", "path": "/data", "value": {}}]).to_string());
        match request["resource"]["resource"].as_str() {
            Some("pods") => refuse(request),
            _ => json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}),
        }
    });
    let path = format!("{PODS}/p");
    assert_eq!(seen(&lab.delete(&path, &Value::Null)), "DELETE /v1.Pod pods/- p object - old Pod");
    lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "m"}}));
    let refused = lab.delete(&format!("{CONFIG_MAPS}/m"), &Value::Null).refusal();
    let expected = r#"Internal error occurred: admission webhook "hook.example.com" attempted to modify the object, which is not supported for this operation"#;
    assert_eq!(refused, (500, expected.into()));
}

#[test]
fn a_webhook_changes_a_scale_and_a_binding() {
    let lab = lab();
    scene(&lab);
    configure(&lab, "mutatingwebhookconfigurations", &["deployments/scale", "pods/binding"], |request| {
        let patch = match request["subResource"].as_str() {
            Some("scale") => json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]),
            _ => json!([{"op": "add", "path": "/metadata/annotations", "value": {"by": "hook"}}]),
        };
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
    });
    let scaled = lab.patch(&format!("{DEPLOYMENT}/scale"), "merge", &json!({"spec": {"replicas": 3}}));
    assert_eq!((scaled.code, scaled.at("/spec/replicas")), (200, &json!(5)), "{scaled:?}");
    assert_eq!(lab.get(DEPLOYMENT).at("/spec/replicas"), 5);
    let bound = lab.post(&format!("{PODS}/p/binding"), &binding());
    assert_eq!(bound.code, 201, "{bound:?}");
    let bound = lab.get(&format!("{PODS}/p"));
    assert_eq!(
        (bound.text("/spec/nodeName"), bound.text("/metadata/annotations/by")),
        ("n".into(), "hook".into())
    );
}

#[test]
fn bindings_of_the_scheduler_are_judged_too() {
    let lab = lab();
    scene(&lab);
    let direct = Direct::new(lab.server.clone(), "kube-scheduler").unwrap();
    let bind = || {
        let key = Key::new("default", "p");
        let bound = lab.runtime.block_on(direct.bind(&key, "", "n"));
        bound.map_err(|status| status.message)
    };
    configure(&lab, "validatingwebhookconfigurations", &["pods/binding"], |request| {
        let who = format!("{} {}", request["userInfo"]["username"], request["object"]["target"]["name"]);
        json!({"allowed": false, "status": {"message": who}})
    });
    let refused = r#"admission webhook "hook.example.com" denied the request: "system:kube-scheduler" "n""#;
    assert_eq!(bind(), Err(refused.to_owned()));
    assert_eq!(lab.get(&format!("{PODS}/p")).at("/spec/nodeName"), &Value::Null);
    lab.delete(&format!("{ADMISSION}/validatingwebhookconfigurations/hook"), &Value::Null);
    assert_eq!(bind(), Ok(()));
    assert_eq!(lab.get(&format!("{PODS}/p")).text("/spec/nodeName"), "n");
}

#[test]
fn an_evicted_pod_says_so() {
    let lab = lab();
    scene(&lab);
    lab.post(&format!("{PODS}/p/binding"), &binding());
    assert_eq!(lab.post(&format!("{PODS}/p/eviction"), &json!({"metadata": {"name": "p"}})).code, 201);
    let evicted = lab.get(&format!("{PODS}/p"));
    assert!(!evicted.at("/metadata/deletionTimestamp").is_null(), "{evicted:?}");
    let conditions = evicted.at("/status/conditions").as_array().unwrap();
    let target = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
    assert_eq!(target["message"], "Eviction API: evicting");
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
}
