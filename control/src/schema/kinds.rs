//! Which generated Rust type describes which kind.

use k8s_openapi::Resource;
use k8s_openapi::api::{
    admissionregistration::v1 as admission, admissionregistration::v1alpha1 as early_admission,
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling_v2, batch::v1 as batch,
    certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, flowcontrol::v1 as flowcontrol,
    networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Where definitions refer to each other, as OpenAPI 3 has it.
pub(crate) const REFERENCE: &str = "#/components/schemas/";

/// One kind and the type that describes it.
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    name: fn() -> std::borrow::Cow<'static, str>,
    describe: fn(&mut SchemaGenerator),
}

impl Kind {
    /// Name of its definition: `io.k8s.api.core.v1.Pod`.
    pub(crate) fn type_name(&self) -> String {
        (self.name)().into_owned()
    }

    /// Its definition and all it refers to, by name.
    pub(crate) fn definitions(&self) -> Map<String, Value> {
        let mut generator = generator();
        self.describe(&mut generator);
        generator.take_definitions(false).into_iter().collect()
    }

    /// Adds its definition and all it refers to.
    pub(crate) fn describe(&self, generator: &mut SchemaGenerator) {
        (self.describe)(generator);
    }
}

/// A generator whose references are those of OpenAPI 3.
pub(crate) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    settings.into_generator()
}

/// The type of a kind. The options of the meta API belong to every group.
pub(crate) fn find(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    let meta = |known: &&Kind| known.group == "meta.k8s.io" && known.kind == kind;
    let exact = |known: &&Kind| (known.group, known.version, known.kind) == (group, version, kind);
    KINDS.iter().find(exact).or_else(|| KINDS.iter().find(meta))
}

const fn of<T: Resource + JsonSchema>() -> Kind {
    Kind {
        group: T::GROUP,
        version: T::VERSION,
        kind: T::KIND,
        name: T::schema_name,
        describe: |generator| drop(generator.subschema_for::<T>()),
    }
}

const fn meta<T: JsonSchema>(kind: &'static str) -> Kind {
    Kind {
        group: "meta.k8s.io",
        version: "v1",
        kind,
        name: T::schema_name,
        describe: |generator| drop(generator.subschema_for::<T>()),
    }
}

/// A kind that is the same in a later version than the one whose type describes it.
const fn later<T: Resource + JsonSchema>(version: &'static str) -> Kind {
    Kind { version, ..of::<T>() }
}

static KINDS: &[Kind] = &[
    of::<admission::MutatingWebhookConfiguration>(),
    of::<early_admission::MutatingAdmissionPolicy>(),
    of::<early_admission::MutatingAdmissionPolicyBinding>(),
    later::<early_admission::MutatingAdmissionPolicy>("v1beta1"),
    later::<early_admission::MutatingAdmissionPolicyBinding>("v1beta1"),
    later::<early_admission::MutatingAdmissionPolicy>("v1"),
    later::<early_admission::MutatingAdmissionPolicyBinding>("v1"),
    of::<admission::ValidatingAdmissionPolicy>(),
    of::<admission::ValidatingAdmissionPolicyBinding>(),
    of::<admission::ValidatingWebhookConfiguration>(),
    of::<apps::ControllerRevision>(),
    of::<apps::DaemonSet>(),
    of::<apps::Deployment>(),
    of::<apps::ReplicaSet>(),
    of::<apps::StatefulSet>(),
    of::<authentication::SelfSubjectReview>(),
    of::<authentication::TokenRequest>(),
    of::<authentication::TokenReview>(),
    of::<authorization::LocalSubjectAccessReview>(),
    of::<authorization::SelfSubjectAccessReview>(),
    of::<authorization::SelfSubjectRulesReview>(),
    of::<authorization::SubjectAccessReview>(),
    of::<autoscaling_v1::HorizontalPodAutoscaler>(),
    of::<autoscaling_v1::Scale>(),
    of::<autoscaling_v2::HorizontalPodAutoscaler>(),
    of::<batch::CronJob>(),
    of::<batch::Job>(),
    of::<certificates::CertificateSigningRequest>(),
    of::<coordination::Lease>(),
    of::<core::Binding>(),
    of::<core::ComponentStatus>(),
    of::<core::ConfigMap>(),
    of::<core::Endpoints>(),
    of::<core::Event>(),
    of::<core::LimitRange>(),
    of::<core::Namespace>(),
    of::<core::Node>(),
    of::<core::PersistentVolume>(),
    of::<core::PersistentVolumeClaim>(),
    of::<core::Pod>(),
    of::<core::PodTemplate>(),
    of::<core::ReplicationController>(),
    of::<core::ResourceQuota>(),
    of::<core::Secret>(),
    of::<core::Service>(),
    of::<core::ServiceAccount>(),
    of::<discovery::EndpointSlice>(),
    of::<events::Event>(),
    of::<extensions::CustomResourceDefinition>(),
    of::<flowcontrol::FlowSchema>(),
    of::<flowcontrol::PriorityLevelConfiguration>(),
    of::<networking::IPAddress>(),
    of::<networking::Ingress>(),
    of::<networking::IngressClass>(),
    of::<networking::NetworkPolicy>(),
    of::<networking::ServiceCIDR>(),
    of::<node::RuntimeClass>(),
    of::<policy::Eviction>(),
    of::<policy::PodDisruptionBudget>(),
    of::<rbac::ClusterRole>(),
    of::<rbac::ClusterRoleBinding>(),
    of::<rbac::Role>(),
    of::<rbac::RoleBinding>(),
    of::<registration::APIService>(),
    of::<scheduling::PriorityClass>(),
    of::<storage::CSIDriver>(),
    of::<storage::CSINode>(),
    of::<storage::CSIStorageCapacity>(),
    of::<storage::StorageClass>(),
    of::<storage::VolumeAttachment>(),
    meta::<meta::DeleteOptions>("DeleteOptions"),
    Kind { group: "", ..meta::<meta::Status>("Status") },
];
