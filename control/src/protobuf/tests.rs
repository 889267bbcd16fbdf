//! Bodies encoded by the published message types of Kubernetes, read by ours.

use super::*;
use k8s_pb::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    batch::v1 as batch, core::v1 as core,
};
use k8s_pb::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_pb::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1 as meta, util::intstr::IntOrString};
use proptest::prelude::*;
use prost::Message;
use serde_json::json;

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn body(api_version: &str, kind: &str, message: &impl Message) -> Vec<u8> {
    let kind = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &kind), field(2, &message.encode_to_vec()), field(3, b""), field(4, b"")]
        .concat()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn named(name: &str) -> Option<meta::ObjectMeta> {
    // kubectl sends Go's zero values along.
    Some(meta::ObjectMeta {
        name: text(name),
        namespace: text(""),
        generation: Some(0),
        creation_timestamp: Some(meta::Time::default()),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ..Default::default()
    })
}

#[test]
fn a_deployment_as_kubectl_create_sends_it() {
    let container = core::Container {
        name: text("nginx"),
        image: text("nginx:1"),
        working_dir: text(""),
        stdin: Some(false),
        resources: Some(core::ResourceRequirements {
            limits: [("cpu".to_owned(), Quantity { string: text("500m") })].into(),
            ..Default::default()
        }),
        ports: vec![core::ContainerPort {
            container_port: Some(80),
            host_port: Some(0),
            name: text(""),
            ..Default::default()
        }],
        ..Default::default()
    };
    let deployment = apps::Deployment {
        metadata: named("web"),
        spec: Some(apps::DeploymentSpec {
            replicas: Some(0),
            paused: Some(false),
            selector: Some(meta::LabelSelector {
                match_labels: [("app".to_owned(), "web".to_owned())].into(),
                ..Default::default()
            }),
            template: Some(core::PodTemplateSpec {
                metadata: named(""),
                spec: Some(core::PodSpec {
                    containers: vec![container],
                    volumes: vec![core::Volume {
                        name: text("v"),
                        volume_source: Some(core::VolumeSource {
                            empty_dir: Some(core::EmptyDirVolumeSource::default()),
                            ..Default::default()
                        }),
                    }],
                    ..Default::default()
                }),
            }),
            strategy: Some(apps::DeploymentStrategy {
                rolling_update: Some(apps::RollingUpdateDeployment {
                    max_surge: Some(IntOrString { r#type: Some(1), int_val: Some(0), str_val: text("25%") }),
                    max_unavailable: Some(IntOrString {
                        r#type: Some(0),
                        int_val: Some(2),
                        str_val: text(""),
                    }),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: Some(apps::DeploymentStatus { replicas: Some(0), ..Default::default() }),
    };
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 2}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{"name": "nginx", "image": "nginx:1", "ports": [{"containerPort": 80}],
                        "resources": {"limits": {"cpu": "500m"}}}],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                },
            },
        },
        "status": {"replicas": 0},
    });
    assert_eq!(decode(&body("apps/v1", "Deployment", &deployment)).unwrap(), expected);
}

#[test]
fn other_kinds_that_kubectl_sends() {
    let secret = core::Secret {
        metadata: named("s"),
        data: [("key".to_owned(), b"\x00\xff".to_vec())].into(),
        r#type: text("Opaque"),
        ..Default::default()
    };
    let decoded = decode(&body("v1", "Secret", &secret)).unwrap();
    assert_eq!((&decoded["data"], &decoded["type"]), (&json!({"key": "AP8="}), &json!("Opaque")));

    let review = authorization::SelfSubjectAccessReview {
        spec: Some(authorization::SelfSubjectAccessReviewSpec {
            resource_attributes: Some(authorization::ResourceAttributes {
                verb: text("get"),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let decoded = decode(&body("authorization.k8s.io/v1", "SelfSubjectAccessReview", &review)).unwrap();
    assert_eq!(decoded["spec"], json!({"resourceAttributes": {"verb": "get"}}));

    let token = authentication::TokenRequest {
        spec: Some(authentication::TokenRequestSpec { expiration_seconds: Some(600), ..Default::default() }),
        ..Default::default()
    };
    let decoded = decode(&body("authentication.k8s.io/v1", "TokenRequest", &token)).unwrap();
    assert_eq!(decoded["spec"]["expirationSeconds"], 600);

    let cron = batch::CronJob {
        spec: Some(batch::CronJobSpec {
            schedule: text("* * * * *"),
            suspend: Some(false),
            ..Default::default()
        }),
        ..Default::default()
    };
    let decoded = decode(&body("batch/v1", "CronJob", &cron)).unwrap();
    assert_eq!(decoded["spec"], json!({"schedule": "* * * * *", "suspend": false}));
}

#[test]
fn what_is_no_message_is_refused() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::Prefix));
    assert_eq!(decode(b"k8s\0\x12\x7f"), Err(ProtobufError::Truncated));
    let unheard = body("example.com/v1", "CronTab", &core::Pod::default());
    assert!(matches!(decode(&unheard), Err(ProtobufError::UnknownKind { .. })));
}

/// Objects with every type of field; the JSON is as Go writes it, so reading what was written gives it back.
/// Schemas with everything that stands in the place of one.
fn definition() -> Value {
    let schema = json!({"type": "object", "required": ["spec"], "x-kubernetes-preserve-unknown-fields": false,
        "properties": {"spec": {"type": "object", "maxProperties": 0,
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 2.5, "default": 1}},
            "list": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "x-kubernetes-list-type": "set"},
            "pair": {"items": [{"type": "string"}, {"type": "integer"}], "additionalItems": false},
            "open": {"type": "object", "additionalProperties": true, "example": {"any": [1]}},
            "tied": {"dependencies": {"a": ["b", "c"], "d": {"type": "object"}}},
            "sized": {"x-kubernetes-int-or-string": true, "x-kubernetes-validations": [{"rule": "true", "message": "m"}]}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "tabs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [{"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": schema}}]}})
}

fn written() -> Vec<Value> {
    let metadata = json!({"name": "n", "namespace": "d", "uid": "u", "resourceVersion": "7",
        "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b"},
        "managedFields": [{"manager": "m", "operation": "Apply", "time": "2026-01-02T03:04:05Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:x": {}}}}]});
    let pod = json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "500m"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "failureThreshold": 3},
            "securityContext": {"runAsUser": 0, "privileged": false}}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
        "tolerations": [{"key": "k", "effect": "NoExecute", "tolerationSeconds": 0}],
        "securityContext": {"supplementalGroups": [1, 2]}});
    vec![
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod,
            "status": {"podIPs": [{"ip": "10.0.0.1"}], "startTime": "2026-01-02T03:04:05Z"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 0,
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"k": "AP8="}, "type": "Opaque"}),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": 3,
            "data": {"spec": {"any": [1, "x"]}}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": 0}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true}}]}),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404,
            "reason": "NotFound", "message": "no", "details": {"name": "n", "causes": [{"reason": "r"}]}}),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": "u", "extra": {"a": ["b", "c"]}}, "status": {"allowed": false}}),
        definition(),
    ]
}

#[test]
fn what_is_written_is_read_again() {
    for object in written() {
        assert_eq!(decode(&answers::encode(&object).unwrap()).unwrap(), object);
    }
}

#[test]
fn others_read_what_is_written() {
    let objects = written();
    let raw = |object: &Value| answers::item(object);
    let pod = core::Pod::decode(&raw(&objects[0])[..]).unwrap();
    let spec = pod.spec.unwrap();
    assert_eq!(spec.containers[0].security_context.as_ref().unwrap().run_as_user, Some(0));
    assert_eq!(spec.security_context.unwrap().supplemental_groups, [1, 2]);
    assert_eq!(spec.tolerations[0].toleration_seconds, Some(0));
    assert_eq!(pod.metadata.unwrap().managed_fields[0].manager(), "m");
    let deployment = apps::Deployment::decode(&raw(&objects[1])[..]).unwrap().spec.unwrap();
    let rolling = deployment.strategy.unwrap().rolling_update.unwrap();
    assert_eq!(
        (rolling.max_surge.unwrap().str_val(), rolling.max_unavailable.unwrap().int_val()),
        ("25%", 0)
    );
    assert_eq!(core::Secret::decode(&raw(&objects[2])[..]).unwrap().data["k"], b"\x00\xff");

    let list = answers::list(
        "v1",
        "PodList",
        &json!({"resourceVersion": "9", "remainingItemCount": 2}),
        &[raw(&objects[0])],
    );
    let envelope = Envelope::read(list.strip_prefix(MAGIC).unwrap()).unwrap();
    let list = core::PodList::decode(envelope.raw).unwrap();
    assert_eq!((envelope.kind.as_str(), list.items.len()), ("PodList", 1));
    assert_eq!(list.metadata.unwrap().remaining_item_count, Some(2));

    let event = answers::event("ADDED", &objects[2]).unwrap();
    let (length, event) = event.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, event.len());
    let event = meta::WatchEvent::decode(event).unwrap();
    assert_eq!(event.r#type(), "ADDED");
    assert_eq!(decode(event.object.unwrap().raw()).unwrap(), objects[2]);
}

#[test]
fn schemas_have_in_their_place_what_others_write_there() {
    let bytes = answers::item(&definition());
    let read = extensions::CustomResourceDefinition::decode(&bytes[..]).unwrap().spec.unwrap();
    let schema = read.versions[0].schema.clone().unwrap().open_apiv3_schema.unwrap();
    let of = |name: &str| schema.properties[name].clone();
    let values = of("spec").additional_properties.unwrap();
    assert_eq!((values.allows, values.schema.unwrap().maximum), (Some(true), Some(2.5)));
    assert_eq!(of("open").additional_properties.unwrap().allows, Some(true));
    assert_eq!(of("list").items.unwrap().schema.unwrap().r#enum[1].raw(), b"\"b\"");
    assert_eq!(of("pair").items.unwrap().j_son_schemas.len(), 2);
    assert_eq!(of("pair").additional_items.unwrap().allows, Some(false));
    assert_eq!(of("tied").dependencies["a"].property, ["b", "c"]);
    assert!(of("tied").dependencies["d"].schema.is_some());
    // Go's own writer sends what is empty as well: an `items` of one schema has no list, a default may have no text.
    let mut theirs = extensions::CustomResourceDefinition::decode(&bytes[..]).unwrap();
    let version = &mut theirs.spec.as_mut().unwrap().versions[0];
    let schema = version.schema.as_mut().unwrap().open_apiv3_schema.as_mut().unwrap();
    schema.default = Some(extensions::Json { raw: Some(Vec::new()) });
    schema.nullable = Some(false);
    assert_eq!(
        decode(&body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &theirs)).unwrap(),
        definition()
    );
}

#[test]
fn kinds_without_a_message_are_not_written() {
    let object = |api_version: &str, kind: &str| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "n"}});
    assert!(answers::encode(&object("example.com/v1", "CronTab")).is_none());
    let metadata = answers::encode(&object("meta.k8s.io/v1", "PartialObjectMetadata")).unwrap();
    let envelope = Envelope::read(metadata.strip_prefix(MAGIC).unwrap()).unwrap();
    // `meta.v1.PartialObjectMetadata`: its first field is the metadata.
    assert_eq!(envelope.raw, field(1, &field(1, b"n")));
}

proptest! {
    #[test]
    fn no_body_panics(noise in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let pod = body("v1", "Pod", &core::Pod { metadata: named("p"), ..Default::default() });
        let _ = decode(&pod[..cut.min(pod.len())]);
        let kind = [field(1, b"v1"), field(2, b"Pod")].concat();
        let _ = decode(&[MAGIC.to_vec(), field(1, &kind), field(2, &noise)].concat());
    }
}
