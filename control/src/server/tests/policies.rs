//! Policies in CEL and webhooks over real HTTPS; certificate requests from asking to signing.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

fn rules(resource: &str, operations: &[&str]) -> Value {
    json!([{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": operations, "resources": [resource]}])
}

fn policy(lab: &Lab, name: &str, spec: Value, actions: &[&str]) {
    let object = json!({"metadata": {"name": name}, "spec": spec});
    let created = lab.post(&format!("{ADMISSION}/validatingadmissionpolicies"), &object);
    assert_eq!(created.code, 201, "{created:?}");
    let mut binding = json!({"metadata": {"name": format!("{name}-binding")}, "spec": {"policyName": name, "validationActions": actions}});
    if spec_has_params(&created) {
        binding["spec"]["paramRef"] =
            json!({"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"});
    }
    let created = lab.post(&format!("{ADMISSION}/validatingadmissionpolicybindings"), &binding);
    assert_eq!(created.code, 201, "{created:?}");
}

fn spec_has_params(policy: &Response) -> bool {
    !policy.at("/spec/paramKind").is_null()
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": value}})
}

#[test]
fn policies_deny_and_warn_in_the_words_of_kubernetes() {
    let lab = lab();
    let spec = json!({
        "matchConstraints": {"resourceRules": rules("configmaps", &["CREATE", "UPDATE"])},
        "matchConditions": [{"name": "named", "expression": "object.metadata.name.startsWith('checked')"}],
        "variables": [{"name": "length", "expression": "size(object.data.a)"}],
        "validations": [
            {"expression": "variables.length <= 3"},
            {"expression": "object.data.a != 'bad'", "messageExpression": "'not ' + object.data.a"},
        ],
    });
    policy(&lab, "short", spec, &["Deny"]);
    assert_eq!(lab.post(CONFIG_MAPS, &map("free", "much too long")).code, 201);
    assert_eq!(lab.post(CONFIG_MAPS, &map("checked-a", "ok")).code, 201);
    let refused = lab.post(CONFIG_MAPS, &map("checked-b", "too long")).refusal();
    let expected = r#"configmaps "checked-b" is forbidden: ValidatingAdmissionPolicy 'short' with binding 'short-binding' denied request: failed expression: variables.length <= 3"#;
    assert_eq!(refused, (422, expected.into()));
    let refused = lab.post(CONFIG_MAPS, &map("checked-c", "bad")).refusal();
    assert!(refused.1.ends_with("denied request: not bad"), "{refused:?}");
    let patched =
        lab.patch(&format!("{CONFIG_MAPS}/checked-a"), "merge", &json!({"data": {"a": "long enough"}}));
    assert_eq!(patched.code, 422);
}

#[test]
fn policies_see_how_a_client_wants_it_done() {
    let lab = lab();
    let wanted = "!has(request.options.fieldManager) || request.options.fieldManager != 'robot'";
    let orphans = "!has(request.options.propagationPolicy) || request.options.propagationPolicy != 'Orphan'";
    let validations = json!([{"expression": wanted, "message": "no robots"}, {"expression": orphans, "message": "no orphans"}]);
    let spec = json!({"matchConstraints": {"resourceRules": rules("configmaps", &["*"])}, "validations": validations});
    policy(&lab, "manners", spec, &["Deny"]);
    let refused = lab.post(&format!("{CONFIG_MAPS}?fieldManager=robot"), &map("m", "x")).refusal();
    assert!(refused.1.ends_with("denied request: no robots"), "{refused:?}");
    assert_eq!(lab.post(&format!("{CONFIG_MAPS}?fieldManager=amy"), &map("m", "x")).code, 201);
    let one = format!("{CONFIG_MAPS}/m");
    let refused =
        lab.patch(&format!("{one}?fieldManager=robot"), "merge", &json!({"data": {"a": "y"}})).refusal();
    assert!(refused.1.ends_with("denied request: no robots"), "{refused:?}");
    let refused = lab.delete(&one, &json!({"propagationPolicy": "Orphan"})).refusal();
    assert!(refused.1.ends_with("denied request: no orphans"), "{refused:?}");
    assert_eq!(lab.delete(&one, &json!({"propagationPolicy": "Background"})).code, 200);
}

#[test]
fn policies_take_parameters() {
    let lab = lab();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": rules("deployments", &["CREATE"])},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)", "message": "too many", "reason": "Forbidden"}],
    });
    policy(&lab, "replicas", spec, &["Deny"]);
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let web = |name: &str, replicas: i64| json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let refused = lab.post(deployments, &web("a", 1)).refusal();
    assert!(refused.1.contains("no params found for policy binding"), "{refused:?}");
    lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "limits"}, "data": {"most": "2"}}));
    assert_eq!(lab.post(deployments, &web("a", 2)).code, 201);
    let refused = lab.post(deployments, &web("b", 3)).refusal();
    assert_eq!(refused.0, 403);
    assert!(refused.1.ends_with("denied request: too many"), "{refused:?}");
}

#[test]
fn policies_may_only_warn() {
    let lab = lab();
    let spec = json!({
        "matchConstraints": {"resourceRules": rules("configmaps", &["*"])},
        "validations": [{"expression": "object == null || has(object.metadata.labels)", "message": "no labels"}],
    });
    policy(&lab, "labels", spec, &["Warn", "Audit"]);
    let created = lab.post(CONFIG_MAPS, &map("m", "x"));
    assert_eq!(created.code, 201);
    let warning = created.headers["warning"].to_str().unwrap();
    assert!(warning.contains("Validation failed for ValidatingAdmissionPolicy 'labels' with binding 'labels-binding': no labels"), "{warning}");
    assert_eq!(lab.delete(&format!("{CONFIG_MAPS}/m"), &Value::Null).code, 200);
}

/// A webhook on a port of this machine; `answer` makes the response of the request in a review.
pub(super) fn webhook(lab: &Lab, answer: fn(&Value) -> Value) -> Value {
    let names = ["127.0.0.1".to_owned()];
    let identity = lab.pki.sign(&Subject { common_name: "hook", organization: None, names: &names }).unwrap();
    let config = tls::server(lab.pki.ca_pem(), tls::ServerCertificate::new(&identity).unwrap()).unwrap();
    let listener = lab.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    lab.runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let serve = service_fn(move |request: Request<hyper::body::Incoming>| async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let review: Value = serde_json::from_slice(&body).unwrap();
                    let mut response = answer(&review["request"]);
                    response["uid"] = review["request"]["uid"].clone();
                    let answer = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response});
                    Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(answer.to_string()))))
                });
                drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve).await);
            });
        }
    });
    json!({"url": format!("https://127.0.0.1:{port}/hook"), "caBundle": STANDARD.encode(lab.pki.ca_pem())})
}

fn configure(lab: &Lab, kind: &str, client: &Value, policy: &str) {
    let hook = json!({"name": "hook.example.com", "clientConfig": client, "rules": rules("configmaps", &["CREATE", "DELETE"]),
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": policy, "timeoutSeconds": 5,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}});
    let object = json!({"metadata": {"name": "hook"}, "webhooks": [hook]});
    let created = lab.post(&format!("{ADMISSION}/{kind}"), &object);
    assert_eq!(created.code, 201, "{created:?}");
}

#[test]
fn a_mutating_webhook_changes_what_is_stored() {
    let lab = lab();
    let client = webhook(&lab, |request| {
        assert_eq!(request["operation"], "CREATE");
        let patch = json!([{"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}}]).to_string();
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch)})
    });
    configure(&lab, "mutatingwebhookconfigurations", &client, "Fail");
    let created = lab.post(CONFIG_MAPS, &map("m", "x"));
    assert_eq!((created.code, created.text("/metadata/labels/by")), (201, "hook".into()), "{created:?}");
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    assert_eq!(lab.post(elsewhere, &map("m", "x")).at("/metadata/labels"), &Value::Null);
}

#[test]
fn a_validating_webhook_refuses_and_warns() {
    let lab = lab();
    let client = webhook(&lab, |request| {
        if request["operation"] == "DELETE" {
            assert!(request["object"].is_null() && request["oldObject"].is_object());
            return json!({"allowed": false, "status": {"message": "stays", "code": 403, "reason": "Forbidden"}});
        }
        let bad = request["object"]["data"]["a"] == "bad";
        json!({"allowed": !bad, "status": {"message": "it is bad"}, "warnings": ["looked at it"]})
    });
    configure(&lab, "validatingwebhookconfigurations", &client, "Fail");
    let refused = lab.post(CONFIG_MAPS, &map("m", "bad")).refusal();
    assert_eq!(
        refused,
        (400, r#"admission webhook "hook.example.com" denied the request: it is bad"#.into())
    );
    let created = lab.post(CONFIG_MAPS, &map("m", "good"));
    assert_eq!(
        (created.code, &created.headers["warning"]),
        (201, &"299 - \"looked at it\"".parse().unwrap())
    );
    let refused = lab.delete(&format!("{CONFIG_MAPS}/m"), &Value::Null).refusal();
    assert_eq!(refused, (403, r#"admission webhook "hook.example.com" denied the request: stays"#.into()));
}

#[test]
fn a_webhook_that_is_not_there_fails_or_is_ignored() {
    let lab = lab();
    // Nobody listens on port 1; one that was just closed may be given to another test, or be held by its child.
    let client = json!({"url": "https://127.0.0.1:1/x", "caBundle": STANDARD.encode(lab.pki.ca_pem())});
    configure(&lab, "validatingwebhookconfigurations", &client, "Fail");
    let refused = lab.post(CONFIG_MAPS, &map("m", "x")).refusal();
    assert_eq!(refused.0, 500);
    assert!(refused.1.starts_with(r#"Internal error occurred: failed calling webhook "hook.example.com": failed to call webhook: Post "https://127.0.0.1:1/x?timeout=5s": dial tcp "#), "{refused:?}");
    let path = format!("{ADMISSION}/validatingwebhookconfigurations/hook");
    let ignore = json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]);
    assert_eq!(lab.patch(&path, "json", &ignore).code, 200, "a broken configuration can be repaired");
    assert_eq!(lab.post(CONFIG_MAPS, &map("m", "x")).code, 201);
}

/// A certificate request of a node, in PEM and base64.
fn node_request(node: &str) -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let key = rcgen::KeyPair::generate().unwrap();
    STANDARD.encode(params.serialize_request(&key).unwrap().pem().unwrap())
}

fn bootstrap_token(lab: &Lab) {
    let data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"});
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "stringData": data});
    assert_eq!(lab.post("/api/v1/namespaces/kube-system/secrets", &secret).code, 201);
}

fn with_token(lab: &Lab, method: &str, path: &str, body: &Value) -> Response {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = request.header("authorization", "Bearer abcdef.0123456789abcdef");
    let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    lab.read(lab.runtime.block_on(lab.server.clone().handle(request)))
}

#[test]
fn a_node_joins_with_a_bootstrap_token() {
    let lab = lab();
    bootstrap_token(&lab);
    let pki = Arc::new(Pki::open(&lab._directory.path().join("pki")).unwrap());
    let client = {
        let _inside = lab.runtime.enter();
        crate::client::in_process(lab.server.clone(), User::server(), "test")
    };
    lab.runtime.spawn(crate::certificates::run(lab.server.clone(), client, pki, lab.stop.subscribe()));
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let spec = json!({"request": node_request("n"), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"], "username": "liar", "groups": ["system:masters"]});
    let created = with_token(&lab, "POST", path, &json!({"metadata": {"name": "n"}, "spec": spec}));
    assert_eq!(created.code, 201, "{created:?}");
    assert_eq!(created.text("/spec/username"), "system:bootstrap:abcdef");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let certificate = loop {
        let request = with_token(&lab, "GET", &format!("{path}/n"), &Value::Null);
        let certificate = request.text("/status/certificate");
        if !certificate.is_empty() {
            break certificate;
        }
        assert!(std::time::Instant::now() < deadline, "{request:?}");
        lab.runtime.block_on(tokio::task::yield_now());
    };
    let pem = STANDARD.decode(certificate).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    assert_eq!(User::from_certificate(&pem.contents).unwrap(), User::node("n"));
    let forbidden = with_token(&lab, "GET", "/api/v1/namespaces/kube-system/secrets", &Value::Null);
    assert_eq!(forbidden.code, 403);
}

#[test]
fn components_and_openapi_of_computed_kinds() {
    let lab = lab();
    assert_eq!(lab.get("/api/v1/componentstatuses").names(), ["controller-manager", "etcd-0", "scheduler"]);
    assert_eq!(lab.get("/api/v1/componentstatuses/scheduler").text("/conditions/0/type"), "Healthy");
    assert_eq!(lab.get("/api/v1/componentstatuses/x").code, 404);
    assert_eq!(lab.get("/apis/metrics.k8s.io/v1beta1/nodes").code, 200);
    let document = lab.get("/openapi/v3/apis/metrics.k8s.io/v1beta1");
    assert_eq!(document.code, 200);
}
