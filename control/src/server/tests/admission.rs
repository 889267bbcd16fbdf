//! Policies of the cluster as a client meets them: accounts, priorities, limits, quotas, levels, escalation.

use super::*;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn limited(name: &str, cpu: &str) -> Value {
    let mut object = pod(name);
    object["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    object
}

fn user_of(lab: &Lab, user: User, method: &str, path: &str, body: &Value) -> Response {
    lab.read(lab.send(user, method, path, "application/json", body.to_string().into_bytes()))
}

#[test]
fn pods_get_the_token_of_their_account() {
    let lab = lab();
    let account = json!({"metadata": {"name": "robot"}, "imagePullSecrets": [{"name": "key"}]});
    assert_eq!(lab.post(ACCOUNTS, &account).code, 201);
    let mut object = pod("p");
    object["spec"]["serviceAccountName"] = "robot".into();
    let created = lab.post(PODS, &object);
    assert_eq!(created.code, 201, "{created:?}");
    assert_eq!(created.text("/spec/imagePullSecrets/0/name"), "key");
    assert_eq!(
        created.text("/spec/containers/0/volumeMounts/0/mountPath"),
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    assert!(created.text("/spec/volumes/0/name").starts_with("kube-api-access-"));
    let mut without = pod("q");
    without["spec"]["automountServiceAccountToken"] = false.into();
    assert_eq!(lab.post(PODS, &without).at("/spec/volumes"), &Value::Null);
    object["spec"]["serviceAccountName"] = "nobody".into();
    object["metadata"]["name"] = "r".into();
    let refused = lab.post(PODS, &object).refusal();
    let expected = r#"pods "r" is forbidden: error looking up service account default/nobody: serviceaccount "nobody" not found"#;
    assert_eq!(refused, (403, expected.to_owned()));
    object["metadata"] = json!({"generateName": "web-"});
    let refused = lab.post(PODS, &object).refusal();
    assert!(
        refused.1.starts_with(r#"pods "web-" is forbidden: "#),
        "the same words at each attempt: {refused:?}"
    );
}

#[test]
fn priorities_come_from_classes() {
    let lab = lab();
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    assert_eq!(lab.get(&format!("{classes}/system-node-critical")).at("/value"), 2_000_001_000);
    let class = json!({"metadata": {"name": "high"}, "value": 1000, "globalDefault": true, "preemptionPolicy": "Never"});
    assert_eq!(lab.post(classes, &class).code, 201);
    let created = lab.post(PODS, &pod("p"));
    assert_eq!(
        (created.at("/spec/priority"), created.text("/spec/preemptionPolicy")),
        (&json!(1000), "Never".into())
    );
    assert_eq!(created.text("/spec/priorityClassName"), "high");
    let mut unknown = pod("q");
    unknown["spec"]["priorityClassName"] = "nope".into();
    let refused = lab.post(PODS, &unknown).refusal();
    assert_eq!(refused, (403, r#"pods "q" is forbidden: no PriorityClass with name nope was found"#.into()));
    let second = json!({"metadata": {"name": "other"}, "value": 1, "globalDefault": true});
    let refused = lab.post(classes, &second).refusal();
    assert!(
        refused.1.ends_with("PriorityClass high is already marked as default. Only one default can exist")
    );
}

#[test]
fn limit_ranges_fill_in_and_refuse() {
    let lab = lab();
    let limit = json!({"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}});
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [limit]}});
    assert_eq!(lab.post("/api/v1/namespaces/default/limitranges", &range).code, 201);
    let created = lab.post(PODS, &pod("p"));
    assert_eq!(created.text("/spec/containers/0/resources/requests/cpu"), "100m", "{created:?}");
    assert_eq!(
        created.text("/metadata/annotations/kubernetes.io~1limit-ranger"),
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let refused = lab.post(PODS, &limited("q", "2")).refusal();
    let expected = r#"pods "q" is forbidden: maximum cpu usage per Container is 1, but limit is 2"#;
    assert_eq!(refused, (403, expected.into()));
}

#[test]
fn quotas_hold_whatever_comes_at_once() {
    let lab = lab();
    let quota = json!({"metadata": {"name": "q1"}, "spec": {"hard": {"pods": "1", "requests.cpu": "1"}}});
    assert_eq!(lab.post("/api/v1/namespaces/default/resourcequotas", &quota).code, 201);
    let refused = lab.post(PODS, &pod("open")).refusal();
    assert_eq!(
        refused,
        (403, r#"pods "open" is forbidden: failed quota: q1: must specify requests.cpu for: c"#.into())
    );
    assert_eq!(lab.post(PODS, &limited("a", "100m")).code, 201);
    let refused = lab.post(PODS, &limited("b", "2")).refusal();
    let expected = r#"pods "b" is forbidden: exceeded quota: q1, requested: pods=1,requests.cpu=2, used: pods=1,requests.cpu=100m, limited: pods=1,requests.cpu=1"#;
    assert_eq!(refused, (403, expected.into()));
    lab.delete(&format!("{PODS}/a"), &json!({"gracePeriodSeconds": 0}));
    assert_eq!(lab.post(PODS, &limited("b", "1")).code, 201, "the place is free again");
}

#[test]
fn levels_of_a_namespace_refuse_pods_and_warn_of_workloads() {
    let lab = lab();
    let labels = |level: &str| json!({"metadata": {"name": "secure", "labels": {"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/warn": "restricted"}}});
    assert_eq!(lab.post("/api/v1/namespaces", &labels("baseline")).code, 201);
    let pods = "/api/v1/namespaces/secure/pods";
    let mut object = pod("p");
    let created = lab.post(pods, &object);
    assert_eq!(created.code, 201);
    let warning = created.headers["warning"].to_str().unwrap();
    assert!(
        warning.contains(
            r#"would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false"#
        )
    );
    object["spec"]["hostNetwork"] = true.into();
    object["metadata"]["name"] = "q".into();
    let refused = lab.post(pods, &object).refusal();
    let expected = r#"pods "q" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)"#;
    assert_eq!(refused, (403, expected.into()));
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": object["spec"]});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let created = lab.post("/apis/apps/v1/namespaces/secure/deployments", &deployment);
    assert_eq!(created.code, 201, "{created:?}");
    assert!(created.headers.contains_key("warning"));
    let merge = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}});
    assert_eq!(lab.patch("/api/v1/namespaces/secure", "merge", &merge).code, 422);
    let merge = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let raised = lab.patch("/api/v1/namespaces/secure", "merge", &merge);
    assert!(raised.headers["warning"].to_str().unwrap().contains("existing pods in namespace"), "{raised:?}");
}

#[test]
fn images_are_allowed_by_rules_that_refusals_name() {
    let lab = lab();
    let maps = "/api/v1/namespaces/kube-system/configmaps";
    let map = |policy: &str| json!({"metadata": {"name": "knarr-image-policy"}, "data": {"policy": policy}});
    assert_eq!(lab.post(maps, &map("rules: [{}]")).code, 422);
    let policy = "rules:\n- {name: no-hub, action: deny, images: [\"docker.io/*\"]}\n";
    assert_eq!(lab.post(maps, &map(policy)).code, 201);
    let refused = lab.post(PODS, &pod("p")).refusal();
    assert_eq!(
        refused,
        (403, r#"pods "p" is forbidden: image policy refuses image "i:1": rule "no-hub""#.into())
    );
    let mut object = pod("p");
    object["spec"]["containers"][0]["image"] = "registry.example.com/i:1".into();
    assert_eq!(lab.post(PODS, &object).code, 201);
}

#[test]
fn claims_get_the_default_class() {
    let lab = lab();
    let class = json!({"metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"});
    assert_eq!(lab.post("/apis/storage.k8s.io/v1/storageclasses", &class).code, 201);
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = |name: &str, class: Value| json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(lab.post(claims, &claim("a", Value::Null)).text("/spec/storageClassName"), "fast");
    assert_eq!(lab.post(claims, &claim("b", "".into())).text("/spec/storageClassName"), "");
}

#[test]
fn claims_grow_where_their_class_says_so() {
    let lab = lab();
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    for (name, grows) in [("fixed", false), ("grows", true)] {
        let class = json!({"metadata": {"name": name}, "provisioner": "p", "allowVolumeExpansion": grows});
        assert_eq!(lab.post(classes, &class).code, 201);
    }
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let grown = |class: &str| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeName": "v",
            "resources": {"requests": {"storage": "1Gi"}}});
        assert_eq!(lab.post(claims, &json!({"metadata": {"name": class}, "spec": spec})).code, 201);
        let path = format!("{claims}/{class}");
        let status = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        assert_eq!(lab.patch(&format!("{path}/status"), "merge", &status).code, 200);
        lab.patch(&path, "merge", &json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}))
    };
    assert_eq!(grown("grows").code, 200);
    let words = "persistentvolumeclaims \"fixed\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    assert_eq!(grown("fixed").refusal(), (403, words.to_owned()));
}

#[test]
fn nobody_gives_away_more_than_they_hold() {
    let lab = lab();
    let bob = || User::new("bob", &[]);
    let rule =
        |resource: &str, verbs: &[&str]| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
    let roles = json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create", "update"]});
    let role = json!({"metadata": {"name": "bob"}, "rules": [rule("pods", &["get"]), roles]});
    assert_eq!(lab.post(&format!("{RBAC}/clusterroles"), &role).code, 201);
    let binding = |role: &str| json!({"metadata": {"name": role}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]});
    assert_eq!(lab.post(&format!("{RBAC}/clusterrolebindings"), &binding("bob")).code, 201);
    let path = format!("{RBAC}/namespaces/default/roles");
    let own = json!({"metadata": {"name": "r"}, "rules": [rule("pods", &["get"])]});
    let created = user_of(&lab, bob(), "POST", &path, &own);
    assert_eq!(created.code, 201, "{created:?}");
    let more = json!({"metadata": {"name": "s"}, "rules": [rule("secrets", &["get"])]});
    let refused = user_of(&lab, bob(), "POST", &path, &more).refusal();
    let expected = "roles.rbac.authorization.k8s.io \"s\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}";
    assert_eq!(refused, (403, expected.into()));
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    assert_eq!(user_of(&lab, bob(), "POST", &bindings, &binding("bob")).code, 201);
    assert_eq!(user_of(&lab, bob(), "POST", &bindings, &binding("cluster-admin")).code, 403);
}

#[test]
fn who_may_acts_as_another() {
    let lab = lab();
    let ask = |user: User, headers: &[(&str, &str)]| {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let mut request = Request::post(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        request.extensions_mut().insert(TransportUser(user));
        lab.read(lab.runtime.block_on(lab.server.clone().handle(request)))
    };
    let answer = ask(User::server(), &[("impersonate-user", "amy"), ("impersonate-group", "dev")]);
    assert_eq!(answer.text("/status/userInfo/username"), "amy", "{answer:?}");
    assert_eq!(answer.at("/status/userInfo/groups"), &json!(["dev", "system:authenticated"]));
    let refused = ask(User::new("bob", &[]), &[("impersonate-user", "amy")]).refusal();
    let expected = r#"users "amy" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope"#;
    assert_eq!(refused, (403, expected.into()));
}

#[test]
fn what_one_may_do_is_listed() {
    let lab = lab();
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]});
    lab.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding);
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let ask = |namespace: &str| {
        let bob = User::new("bob", &["system:authenticated"]);
        user_of(&lab, bob, "POST", reviews, &json!({"spec": {"namespace": namespace}}))
    };
    let lists_pods = |answer: &Response| {
        let rules = answer.at("/status/resourceRules").as_array().cloned().unwrap_or_default();
        rules
            .iter()
            .any(|rule| rule["resources"].as_array().is_some_and(|names| names.contains(&"pods".into())))
    };
    let (here, there) = (ask("default"), ask("kube-system"));
    assert!(lists_pods(&here) && !lists_pods(&there), "{here:?}");
    assert_eq!(here.at("/status/incomplete"), false);
    let paths = here.at("/status/nonResourceRules").as_array().unwrap();
    assert!(paths.iter().any(|rule| rule["nonResourceURLs"].to_string().contains("/openapi")), "{paths:?}");
}

#[test]
fn leases_are_made_by_put_and_config_maps_are_not() {
    let lab = lab();
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    assert_eq!(lab.put(path, &lease).code, 201);
    assert_eq!(lab.put(path, &lease).code, 200);
    let map = json!({"metadata": {"name": "m"}});
    assert_eq!(lab.put(&format!("{CONFIG_MAPS}/m"), &map).code, 404);
}

#[test]
fn a_pod_grows_only_as_far_as_ranges_and_quotas_allow() {
    let lab = lab();
    let mut small = pod("p");
    small["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "600m"}});
    assert_eq!(lab.post(PODS, &small).code, 201);
    let quota = json!({"metadata": {"name": "most"}, "spec": {"hard": {"requests.cpu": "1"}}});
    assert_eq!(lab.post("/api/v1/namespaces/default/resourcequotas", &quota).code, 201);
    let limit = json!({"type": "Container", "max": {"cpu": "3"}});
    let range = json!({"metadata": {"name": "range"}, "spec": {"limits": [limit]}});
    assert_eq!(lab.post("/api/v1/namespaces/default/limitranges", &range).code, 201);
    let resize = |request: &str, limit: &str| {
        let resources = json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        lab.patch(&format!("{PODS}/p/resize"), "strategic-merge", &patch)
    };
    let refused = resize("800m", "4").refusal();
    assert_eq!(refused.0, 403);
    assert!(refused.1.contains("maximum cpu usage per Container is 3, but limit is 4"), "{refused:?}");
    let refused = resize("2", "2").refusal();
    let why = "exceeded quota: most, requested: requests.cpu=1500m, used: requests.cpu=500m, limited: requests.cpu=1";
    assert!(refused.1.ends_with(why), "{refused:?}");
    let grown = resize("800m", "2");
    assert_eq!(
        (grown.code, grown.text("/spec/containers/0/resources/requests/cpu")),
        (200, "800m".into()),
        "{grown:?}"
    );
}
