//! Who may do what: roles and bindings, tokens of service accounts, reviews.

use super::*;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn with_token(lab: &Lab, token: &str, path: &str) -> Response {
    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
    let request = request.body(Full::new(Bytes::new())).unwrap();
    lab.read(lab.runtime.block_on(lab.server.clone().handle(request)))
}

fn account(lab: &Lab, name: &str) -> Response {
    lab.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": name}}))
}

fn token(lab: &Lab, name: &str, spec: Value) -> Response {
    lab.post(&format!("/api/v1/namespaces/default/serviceaccounts/{name}/token"), &json!({"spec": spec}))
}

#[test]
fn a_service_account_is_known_by_its_token_while_it_lives() {
    let lab = lab();
    assert_eq!(account(&lab, "robot").code, 201);
    let issued = token(&lab, "robot", json!({"expirationSeconds": 600}));
    assert_eq!(issued.code, 201, "{issued:?}");
    let text = issued.text("/status/token");
    let refused = with_token(&lab, &text, CONFIG_MAPS).refusal();
    let expected = r#"configmaps is forbidden: User "system:serviceaccount:default:robot" cannot list resource "configmaps" in API group "" in the namespace "default""#;
    assert_eq!(refused, (403, expected.into()));
    let review = lab.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": text}}));
    assert_eq!(review.at("/status/authenticated"), true, "{review:?}");
    assert_eq!(review.text("/status/user/username"), "system:serviceaccount:default:robot");
    lab.delete("/api/v1/namespaces/default/serviceaccounts/robot", &Value::Null);
    account(&lab, "robot");
    assert_eq!(with_token(&lab, &text, CONFIG_MAPS).code, 401, "the new account is another one");
    for wrong in ["", "x", "a.b.c"] {
        assert_eq!(with_token(&lab, wrong, CONFIG_MAPS).code, 401);
    }
}

#[test]
fn a_bound_token_dies_with_its_pod() {
    let lab = lab();
    account(&lab, "robot");
    let mut object = pod("p");
    object["spec"]["serviceAccountName"] = "robot".into();
    let created = lab.post(PODS, &object);
    assert_eq!(created.code, 201, "{created:?}");
    let reference =
        json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": created.text("/metadata/uid")});
    let issued = token(&lab, "robot", json!({"boundObjectRef": reference}));
    let text = issued.text("/status/token");
    assert_eq!(with_token(&lab, &text, "/api").code, 200);
    lab.delete(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 0}));
    assert_eq!(with_token(&lab, &text, "/api").code, 401);
    assert_eq!(token(&lab, "robot", json!({"boundObjectRef": reference})).code, 404);
    assert_eq!(token(&lab, "robot", json!({"expirationSeconds": 1})).code, 422);
    assert_eq!(token(&lab, "nobody", json!({})).code, 404);
    let elsewhere = token(&lab, "robot", json!({"audiences": ["vault"]})).text("/status/token");
    assert_eq!(with_token(&lab, &elsewhere, "/api").code, 401, "not meant for the API server");
}

#[test]
fn bindings_take_effect_and_lose_it_at_once() {
    let lab = lab();
    account(&lab, "robot");
    let text = token(&lab, "robot", json!({})).text("/status/token");
    let binding = json!({
        "metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
    });
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let created = lab.post(&bindings, &binding);
    assert_eq!(created.code, 201, "{created:?}");
    assert_eq!(with_token(&lab, &text, CONFIG_MAPS).code, 200);
    assert_eq!(with_token(&lab, &text, "/api/v1/configmaps").code, 403);
    assert_eq!(with_token(&lab, &text, "/api/v1/namespaces/default/secrets").code, 403);
    let spec = |verb: &str| json!({"spec": {"user": "system:serviceaccount:default:robot", "resourceAttributes": {"verb": verb, "resource": "configmaps", "namespace": "default"}}});
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(lab.post(reviews, &spec("get")).at("/status/allowed"), true);
    assert_eq!(lab.post(reviews, &spec("delete")).at("/status/allowed"), false);
    lab.delete(&format!("{bindings}/b"), &Value::Null);
    assert_eq!(with_token(&lab, &text, CONFIG_MAPS).code, 403);
}

#[test]
fn only_those_who_may_vouch_speak_for_others() {
    let lab = lab();
    let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let ask = |vouches: Option<FrontProxy>, name: &str| {
        let body = Full::new(Bytes::from_static(b"{}"));
        let request =
            Request::builder().method("POST").uri(review).header("content-type", "application/json");
        let mut request =
            request.header("x-remote-user", name).header("x-remote-group", "dev").body(body).unwrap();
        if let Some(vouches) = vouches {
            request.extensions_mut().insert(vouches);
        }
        lab.read(lab.runtime.block_on(lab.server.clone().handle(request)))
    };
    let vouched = ask(Some(FrontProxy(Some(Vouches))), "amy");
    assert_eq!(vouched.text("/status/userInfo/username"), "amy", "{vouched:?}");
    assert_eq!(vouched.at("/status/userInfo/groups"), &json!(["dev", "system:authenticated"]));
    assert_eq!(ask(Some(FrontProxy(Some(Vouches))), "").code, 401, "nobody is named");
    assert_eq!(ask(Some(FrontProxy(None)), "amy").code, 401, "of the authority, but for something else");
    assert_eq!(ask(None, "amy").code, 403, "anonymous");
}
