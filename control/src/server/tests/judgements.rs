//! What policies may ask of authorization, and in which version they see what is written.

use super::policies::webhook;
use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUTOSCALERS: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";

fn made(lab: &Lab, path: &str, object: &Value) {
    let created = lab.post(path, object);
    assert_eq!(created.code, 201, "{created:?}");
}

/// Lets a user or an account of the namespace do some things with some resource there.
fn grant(lab: &Lab, name: &str, subject: &Value, (resource, verbs): (&str, &[&str])) {
    let rules = json!([{"apiGroups": [""], "resources": [resource], "verbs": verbs}]);
    let there = format!("{RBAC}/namespaces/default");
    made(lab, &format!("{there}/roles"), &json!({"metadata": {"name": name}, "rules": rules}));
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    let binding = json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]});
    made(lab, &format!("{there}/rolebindings"), &binding);
}

/// Puts a policy of either kind in force for autoscalers or config maps.
fn enforce(lab: &Lab, kind: &str, name: &str, spec: &Value) {
    made(lab, &format!("{ADMISSION}/{kind}policies"), &json!({"metadata": {"name": name}, "spec": spec}));
    let mut binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    if kind.starts_with("validating") {
        binding["spec"]["validationActions"] = json!(["Deny"]);
    }
    made(lab, &format!("{ADMISSION}/{kind}policybindings"), &binding);
}

fn rules(group: &str, version: &str, resource: &str) -> Value {
    json!([{"apiGroups": [group], "apiVersions": [version], "operations": ["*"], "resources": [resource]}])
}

#[test]
fn expressions_ask_what_the_user_may_do() {
    let lab = lab();
    let bob = json!({"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"});
    grant(&lab, "maps", &bob, ("configmaps", &["create", "get"]));
    grant(&lab, "robots", &json!({"kind": "ServiceAccount", "name": "robot"}), ("pods", &["list"]));
    let maps = "authorizer.group('').resource('configmaps')";
    for (number, (expression, expected)) in [
        (format!("{maps}.namespace('default').check('create').allowed()"), true),
        (format!("{maps}.namespace('default').name('x').check('get').allowed()"), true),
        (format!("{maps}.namespace('default').check('delete').allowed()"), false),
        (format!("{maps}.namespace('other').check('create').allowed()"), false),
        (format!("{maps}.subresource('status').namespace('default').check('get').allowed()"), false),
        (format!("{maps}.namespace('default').check('get').errored()"), false),
        (format!("{maps}.check('get').error() == '' && {maps}.check('get').reason() == ''"), true),
        ("authorizer.requestResource.check('create').allowed()".to_owned(), true),
        ("authorizer.requestResource.check('create').allowed() && !authorizer.requestResource.check('update').allowed()".to_owned(), true),
        ("authorizer.path('/version').check('get').allowed()".to_owned(), true),
        ("authorizer.path('/metrics').check('get').allowed()".to_owned(), false),
        ("authorizer.serviceAccount('default', 'robot').group('').resource('pods').namespace('default').check('list').allowed()".to_owned(), true),
        ("authorizer.serviceAccount('default', 'other').group('').resource('pods').namespace('default').check('list').allowed()".to_owned(), false),
        ("variables.may.check('create').allowed()".to_owned(), true),
        ("type(authorizer) == kubernetes.authorization.Authorizer".to_owned(), true),
        ("authorizer.path('').check('get').allowed()".to_owned(), false),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("asks-{number}");
        let conditions = json!([{"name": "own", "expression": format!("object.metadata.name == '{name}'")}]);
        let spec = json!({
            "matchConstraints": {"resourceRules": rules("", "v1", "configmaps")},
            "matchConditions": conditions,
            "variables": [{"name": "may", "expression": format!("{maps}.namespace('default')")}],
            "validations": [{"expression": expression}],
        });
        enforce(&lab, "validatingadmission", &name, &spec);
        let user = User::new("bob", &[]);
        let answer = lab.call_as(user, "POST", CONFIG_MAPS, &json!({"metadata": {"name": name}}));
        assert_eq!(answer.code == 201, *expected, "{expression}: {answer:?}");
    }
}

#[test]
fn conditions_of_webhooks_ask_too() {
    let lab = lab();
    let client = webhook(&lab, |_| json!({"allowed": false, "status": {"message": "not you"}}));
    let condition = "!authorizer.group('').resource('configmaps').name('all').check('audit').allowed()";
    let hook = json!({"name": "hook.example.com", "clientConfig": client, "rules": rules("", "v1", "configmaps"),
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "matchConditions": [{"name": "others", "expression": condition}]});
    let configuration = json!({"metadata": {"name": "hook"}, "webhooks": [hook]});
    made(&lab, &format!("{ADMISSION}/validatingwebhookconfigurations"), &configuration);
    let bob = json!({"kind": "User", "name": "bob", "apiGroup": "rbac.authorization.k8s.io"});
    grant(&lab, "maps", &bob, ("configmaps", &["create"]));
    let map = json!({"metadata": {"name": "m"}});
    let refused = lab.call_as(User::new("bob", &[]), "POST", CONFIG_MAPS, &map).refusal();
    assert!(refused.1.ends_with("denied the request: not you"), "{refused:?}");
    assert_eq!(lab.post(CONFIG_MAPS, &map).code, 201, "a master may do everything, so nobody asks");
}

fn autoscaler(name: &str, percent: i64) -> Value {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    json!({"metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "maxReplicas": 5, "targetCPUUtilizationPercentage": percent}})
}

#[test]
fn a_rule_of_one_version_is_about_all() {
    let lab = lab();
    let seen = "object.apiVersion == 'autoscaling/v2' && request.kind.version == 'v2' && request.resource.version == 'v2'
        && request.requestKind.version == 'v1' && request.requestResource.version == 'v1'
        && (request.operation == 'CREATE' || oldObject.spec.metrics[0].type == 'Resource')
        && object.spec.metrics[0].resource.target.averageUtilization <= 80";
    let validations = json!([{"expression": seen, "message": "too hot"}]);
    let constraints = json!({"resourceRules": rules("autoscaling", "v2", "horizontalpodautoscalers")});
    let spec = json!({"matchConstraints": constraints, "validations": validations});
    enforce(&lab, "validatingadmission", "cool", &spec);
    made(&lab, AUTOSCALERS, &autoscaler("a", 80));
    let refused = lab.post(AUTOSCALERS, &autoscaler("b", 90)).refusal();
    assert!(refused.1.ends_with("denied request: too hot"), "{refused:?}");
    let hotter = json!({"spec": {"targetCPUUtilizationPercentage": 81}});
    assert_eq!(lab.patch(&format!("{AUTOSCALERS}/a"), "merge", &hotter).code, 422);
    let exact = json!([{"op": "replace", "path": "/spec/matchConstraints/matchPolicy", "value": "Exact"}]);
    let changed = lab.patch(&format!("{ADMISSION}/validatingadmissionpolicies/cool"), "json", &exact);
    assert_eq!(changed.code, 200, "{changed:?}");
    made(&lab, AUTOSCALERS, &autoscaler("b", 90));
}

#[test]
fn what_changes_objects_does_so_in_the_version_it_names() {
    let lab = lab();
    let constraints = json!({"resourceRules": rules("autoscaling", "v2", "horizontalpodautoscalers")});
    let least = "Object{spec: Object.spec{minReplicas: object.spec.metrics[0].resource.target.averageUtilization > 50 ? 2 : 3}}";
    let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": least}});
    let spec =
        json!({"matchConstraints": constraints, "reinvocationPolicy": "Never", "mutations": [mutation]});
    enforce(&lab, "mutatingadmission", "least", &spec);
    let client = webhook(&lab, |request| {
        assert_eq!(
            (&request["kind"]["version"], &request["requestKind"]["version"]),
            (&json!("v2"), &json!("v1"))
        );
        assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
        let path = "/spec/metrics/0/resource/target/averageUtilization";
        let patch = json!([{"op": "replace", "path": path, "value": 42}]).to_string();
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch)})
    });
    let hook = json!({"name": "hook.example.com", "clientConfig": client, "sideEffects": "None",
        "rules": rules("autoscaling", "v2", "horizontalpodautoscalers"), "admissionReviewVersions": ["v1"]});
    let configuration = json!({"metadata": {"name": "hook"}, "webhooks": [hook]});
    made(&lab, &format!("{ADMISSION}/mutatingwebhookconfigurations"), &configuration);
    let created = lab.post(AUTOSCALERS, &autoscaler("a", 80));
    assert_eq!(created.code, 201, "{created:?}");
    assert_eq!(created.text("/apiVersion"), "autoscaling/v1");
    assert_eq!(created.at("/spec/minReplicas"), 2, "{created:?}");
    assert_eq!(created.at("/spec/targetCPUUtilizationPercentage"), 42, "{created:?}");
}

#[test]
fn expressions_use_only_what_there_is() {
    let lab = lab();
    let policies = format!("{ADMISSION}/validatingadmissionpolicies");
    let constraints = json!({"resourceRules": rules("", "v1", "configmaps")});
    for (field, source, expected) in [
        (
            "expression",
            "objects.spec == 1",
            "spec.validations[0].expression: Invalid value: \"objects.spec == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'objects' (in container '')\n | objects.spec == 1\n | ^",
        ),
        ("expression", "params.data.a == ''", "undeclared reference to 'params'"),
        ("expression", "variables.second == 1", "undefined field 'second'"),
        ("expression", "request.nam == ''", "undefined field 'nam'"),
        ("expression", "'text'", "must evaluate to bool"),
        ("messageExpression", "size(object.data)", "must evaluate to string"),
        (
            "expression",
            "variables.first == 1 && request.userInfo.groups.exists(g, g == 'a') && oldObject == null",
            "",
        ),
        ("messageExpression", "'by ' + request.userInfo.username + namespaceObject.metadata.name", ""),
    ] {
        let mut validation = json!({"expression": "true"});
        validation[field] = source.into();
        let spec = json!({"matchConstraints": constraints, "validations": [validation],
            "variables": [{"name": "first", "expression": "1"}]});
        let object = json!({"metadata": {"generateName": "p-"}, "spec": spec});
        let answer = lab.post(&policies, &object);
        if expected.is_empty() {
            assert_eq!(answer.code, 201, "{source}: {answer:?}");
        } else {
            let (code, message) = answer.refusal();
            assert!(code == 422 && message.contains(expected), "{source}: {message}");
        }
    }
}
