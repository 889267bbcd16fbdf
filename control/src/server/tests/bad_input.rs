//! Requests that no honest client sends: each gets a Status with the right code, and the server goes on as before.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn code(lab: &Lab, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> u16 {
    let response = lab.read(lab.send(User::server(), method, path, content_type, body));
    if response.code >= 400 {
        assert_eq!(response.body["kind"], "Status", "{response:?}");
    }
    response.code
}

#[test]
fn monsters_are_refused() {
    let lab = lab();
    lab.config_map("m", &"x".repeat(60));
    let one = &format!("{CONFIG_MAPS}/m");
    let apply = &format!("{one}?fieldManager=x");
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(50_000), close.repeat(50_000)).into_bytes();
    let laughs: String = std::iter::once("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned())
        .chain((1..9).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","))))
        .collect();
    let copies: Value =
        (0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/x{n}")})).collect();
    let many: Value =
        (0..10_001).map(|_| json!({"op": "test", "path": "/kind", "value": "ConfigMap"})).collect();
    let bytes = |value: &Value| value.to_string().into_bytes();
    let big = json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(1_100_000)}});
    let (js, yaml) = ("application/json", "application/yaml");
    let cases: Vec<(&str, &str, &str, Vec<u8>, u16)> = vec![
        ("POST", CONFIG_MAPS, js, deep("{\"a\":", "}"), 400),
        ("POST", CONFIG_MAPS, js, deep("[", "]"), 400),
        ("POST", CONFIG_MAPS, yaml, deep("[", "]"), 400),
        ("POST", CONFIG_MAPS, yaml, laughs.clone().into_bytes(), 400),
        ("PATCH", apply, "application/apply-patch+yaml", laughs.into_bytes(), 400),
        ("PATCH", one, "application/json-patch+json", bytes(&copies), 400),
        ("PATCH", one, "application/json-patch+json", bytes(&many), 400),
        ("PATCH", one, "application/strategic-merge-patch+json", deep("{\"a\":", "}"), 400),
        ("POST", CONFIG_MAPS, js, vec![b' '; MAX_BODY + 1], 413),
        ("POST", CONFIG_MAPS, js, bytes(&big), 422),
        (
            "POST",
            CONFIG_MAPS,
            "application/vnd.kubernetes.protobuf",
            b"k8s\0\x0a\xff\xff\xff\xff\x0f".to_vec(),
            400,
        ),
        ("POST", CONFIG_MAPS, "text/html", b"x".to_vec(), 415),
        ("POST", CONFIG_MAPS, js, b"{\"metadata\":{\"name\":\"\\ud800\"}}".to_vec(), 400),
        ("POST", CONFIG_MAPS, js, Vec::new(), 400),
        ("BREW", CONFIG_MAPS, js, Vec::new(), 405),
    ];
    for (method, path, content_type, body, expected) in cases {
        let length = body.len();
        assert_eq!(
            code(&lab, method, path, content_type, body),
            expected,
            "{method} {content_type} {length}"
        );
    }
    assert_eq!(lab.get(one).code, 200, "and nothing has changed");
}

#[test]
fn noise_is_never_the_servers_fault() {
    let lab = lab();
    lab.config_map("m", "v");
    let types = prop::sample::select(vec![
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ]);
    let structured = prop::sample::select(vec![
        "{\"metadata\":",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "null",
        "\"name\"",
        "\"a\"",
        "\"$patch\"",
        "1e999",
        "-1",
        "\"data\"",
        "true",
        "\"metadata\"",
        "\"kind\":\"ConfigMap\",",
        "\"managedFields\":[{}]",
        "- ",
        "\n",
        "&a",
        "*a",
    ]);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(structured, 0..20).prop_map(|parts| parts.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(|tail| [b"k8s\0", &tail[..]].concat()),
    ];
    let methods = prop::sample::select(vec!["POST", "PUT", "PATCH", "DELETE"]);
    let kinds = prop::sample::select(vec!["configmaps", "pods", "services", "secrets"]);
    let mut runner = TestRunner::new(Config::with_cases(300));
    let outcome = runner.run(&(methods, kinds, types, body), |(method, kind, content_type, body)| {
        let all = format!("/api/v1/namespaces/default/{kind}");
        let path = if method == "POST" { all } else { format!("{all}/m?fieldManager=x") };
        let code = code(&lab, method, &path, content_type, body);
        prop_assert!(code < 500, "{code}");
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(lab.get("/readyz").code, 200);
}

#[test]
fn a_path_leads_nowhere_else() {
    let lab = lab();
    for path in [
        "/api/v1/namespaces/default/configmaps/../secrets",
        "/api/v1/namespaces/default/configmaps/%2e%2e",
        "/api/v1/namespaces/default/configmaps/a%2f..%2fb",
        "/api/v1/namespaces/default%2fconfigmaps/m",
        "/api/v1/namespaces/%00/configmaps",
        "/api/v1/namespaces/default/configmaps/m/status/more",
        "/apis//v1/pods",
        "/api/v1/namespaces/default/configmaps/%ff",
    ] {
        let found = lab.get(path);
        assert!(matches!(found.code, 400 | 404), "{path}: {found:?}");
    }
}

/// Recorded from kube-apiserver: options that it refuses, and its words.
#[test]
fn options_that_are_none_are_refused_before_anything_happens() {
    let lab = lab();
    lab.config_map("a", "1");
    let (one, map) = (format!("{CONFIG_MAPS}/a"), json!({"metadata": {"name": "b"}}));
    let sar = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let cases = [
        (
            "DELETE",
            one.clone(),
            json!({"dryRun": ["x"]}),
            "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"x\"]: supported values: \"All\"",
        ),
        (
            "DELETE",
            one.clone(),
            json!({"propagationPolicy": "Foo"}),
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Foo\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            "DELETE",
            one.clone(),
            json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
        ),
        (
            "POST",
            format!("{CONFIG_MAPS}?dryRun=Foo"),
            map.clone(),
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Foo\"]: supported values: \"All\"",
        ),
        (
            "POST",
            format!("{CONFIG_MAPS}?fieldValidation=Foo"),
            map,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Foo\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        (
            "GET",
            format!("{CONFIG_MAPS}?sendInitialEvents=true"),
            Value::Null,
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list",
        ),
        (
            "POST",
            sar.to_owned(),
            json!({"spec": {}}),
            ".authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \"\": at least one of user or group must be specified]",
        ),
        (
            "POST",
            sar.to_owned(),
            json!({"spec": {"user": "a", "resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"path": "/"}}}),
            ".authorization.k8s.io \"\" is invalid: spec.nonResourceAttributes: Invalid value: {\"Path\":\"/\",\"Verb\":\"\"}: cannot be specified in combination with resourceAttributes",
        ),
    ];
    for (method, path, body, words) in cases {
        let answer = lab.call(method, &path, "application/json", &body);
        assert_eq!(answer.refusal(), (422, words.to_owned()), "{method} {path}");
    }
    let forced = lab.call("PATCH", &format!("{one}?force=true"), "application/merge-patch+json", &json!({}));
    let words = "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch";
    assert_eq!(forced.refusal(), (422, words.to_owned()));
    assert_eq!(lab.get(&one).code, 200, "nothing has happened");
}
