//! What the decoder accepts, drops and refuses.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

fn refuse(object: Value) -> String {
    decode("", "v1", "Pod", object, Written::Faults(Vec::new()), Strictness::Strict).unwrap_err().to_string()
}

#[test]
fn wrong_types_are_named_as_kubernetes_names_them() {
    let prefix = "Pod in version \"v1\" cannot be handled as a Pod: ";
    let table = [
        (
            pod(json!({"nodeName": 1})),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string",
        ),
        (
            pod(json!({"containers": [{"image": true}]})),
            "json: cannot unmarshal bool into Go struct field Container.spec.containers.image of type string",
        ),
        (
            pod(json!({"containers": {}})),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            pod(json!({"containers": [{"ports": [{"containerPort": 1.5}]}]})),
            "json: cannot unmarshal number 1.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            pod(json!({"nodeSelector": {"a": 1}})),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (
            pod(json!({"containers": [{"resources": {"limits": {"cpu": "fast"}}}]})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (json!("text"), "json: cannot unmarshal string into Go value of type v1.Pod"),
    ];
    for (object, message) in table {
        assert_eq!(refuse(object), format!("{prefix}{message}"));
    }
}

#[test]
fn what_a_strategic_patch_made_is_refused_in_other_words() {
    for (object, words) in [
        (json!({"metadata": {"labels": "x"}}), "cannot restore map from string"),
        (json!({"metadata": {"labels": {"a": 1}}}), "cannot convert int64 to string"),
        (pod(json!({"containers": "x"})), "cannot restore slice from string"),
        (pod(json!({"securityContext": true})), "cannot restore struct from: bool"),
        (pod(json!({"hostNetwork": {"a": 1}})), "unrecognized type: bool"),
        (pod(json!({"priority": "x"})), "unrecognized type: int32"),
        (pod(json!({"priority": 1.5})), "cannot convert float64 to int32"),
        (pod(json!({"nodeName": true})), "unrecognized type: string"),
    ] {
        let error =
            decode("", "v1", "Pod", object, Written::Faults(Vec::new()), Strictness::Strict).unwrap_err();
        assert_eq!(error.restored(), words);
    }
}

#[test]
fn unknown_fields_are_refused_or_dropped() {
    let object = pod(json!({"foo": 1, "containers": [{"name": "c", "bar": {}}]}));
    assert_eq!(
        refuse(object.clone()),
        "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: \
         unknown field \"spec.containers[0].bar\", unknown field \"spec.foo\""
    );
    let decoded =
        decode("", "v1", "Pod", object.clone(), Written::Faults(Vec::new()), Strictness::Warn).unwrap();
    assert_eq!(decoded.object, pod(json!({"containers": [{"name": "c"}]})));
    assert_eq!(decoded.warnings.len(), 2);
    let silent = decode("", "v1", "Pod", object, Written::Faults(Vec::new()), Strictness::Ignore).unwrap();
    assert!(silent.warnings.is_empty());
}

#[test]
fn faults_are_named_in_the_order_in_which_they_were_written() {
    let written =
        br#"{"spec": {"zoo": 1, "nodeName": "a", "nodeName": "b", "bar": 2}, "apiVersion": "v1", "ape": 3}"#;
    let object: Value = serde_json::from_slice(written).unwrap();
    let decoded = decode("", "v1", "Pod", object, Written::Json(written), Strictness::Warn).unwrap();
    let expected = [
        "unknown field \"spec.zoo\"",
        "duplicate field \"spec.nodeName\"",
        "unknown field \"spec.bar\"",
        "unknown field \"ape\"",
    ];
    assert_eq!(decoded.warnings, expected);
}

#[test]
fn values_get_their_canonical_form() {
    let object = json!({"metadata": {"name": "p", "creationTimestamp": null}, "spec": {
        "containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]},
        "status": {"startTime": "2026-01-01T02:00:00+02:00"}});
    let decoded =
        decode("", "v1", "Pod", object, Written::Faults(Vec::new()), Strictness::Strict).unwrap().object;
    assert_eq!(
        decoded["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "500m", "memory": "1Gi"})
    );
    assert_eq!(decoded["status"]["startTime"], "2026-01-01T00:00:00Z");
    assert_eq!(decoded["metadata"], json!({"name": "p"}));
    let lease = json!({"spec": {"renewTime": "2026-01-01T00:00:00.5Z"}});
    let decoded =
        decode("coordination.k8s.io", "v1", "Lease", lease, Written::Faults(Vec::new()), Strictness::Strict)
            .unwrap();
    assert_eq!(decoded.object["spec"]["renewTime"], "2026-01-01T00:00:00.500000Z");
}

#[test]
fn kinds_without_a_schema_pass() {
    let object = json!({"spec": {"anything": 1}});
    let decoded = decode(
        "stable.example.com",
        "v1",
        "CronTab",
        object.clone(),
        Written::Faults(Vec::new()),
        Strictness::Strict,
    );
    assert_eq!(decoded.unwrap().object, object);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9.]{0,8}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("containers"),
        Just("ports"),
        Just("labels"),
        Just("x")
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_decoded_once_decodes_unchanged(object in any_json()) {
        if let Ok(first) = decode("", "v1", "Pod", object, Written::Faults(Vec::new()), Strictness::Warn) {
            let again = decode("", "v1", "Pod", first.object.clone(), Written::Faults(Vec::new()), Strictness::Strict);
            prop_assert_eq!(again.map(|decoded| decoded.object), Ok(first.object));
        }
    }
}

#[test]
fn embedded_metadata_is_that_of_every_object() {
    let whole = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"template": whole}}}});
    let object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"template": {
        "apiVersion": "b/v1", "kind": "L", "metadata": {"name": "m", "owner": "x"}, "free": 1}}});
    let judged = |strictness| {
        decode_custom("v1", "K", &schema, object.clone(), Written::Faults(Vec::new()), strictness)
    };
    let refused = judged(Strictness::Strict).unwrap_err();
    assert_eq!(refused.detail, "strict decoding error: unknown field \"spec.template.metadata.owner\"");
    let kept = judged(Strictness::Ignore).unwrap().object["spec"]["template"].clone();
    assert_eq!((&kept["metadata"], &kept["free"]), (&json!({"name": "m"}), &json!(1)));
}
