//! Policies say in their status what is wrong with their expressions for the kinds they are about: a field that a kind
//! does not have, a number compared with a text. A warning for the author; such a policy is in force all the same.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use crate::expressions::Expression;
use crate::expressions::typing::{Kind, Scope, Shape, policies};
use crate::registry::{Table, fields};
use crate::schema::types;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Kinds that one policy is checked for.
const MOST_KINDS: usize = 10;

/// Woken by its policies. A definition that comes later is seen when the policy changes next.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("policytypes", plane);
    let controller = PolicyTypes {
        client: wire.client(),
        policies: wire.keys(),
        definitions: wire.reads(),
        table: Table::builtin(),
    };
    wire.run(1, controller)
}

struct PolicyTypes {
    client: Client,
    policies: Lister<ValidatingAdmissionPolicy>,
    definitions: Lister<CustomResourceDefinition>,
    /// Of Kubernetes' own resources.
    table: Table,
}

impl Reconcile for PolicyTypes {
    /// Checks one policy, once for each state of it.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(policy) = self.policies.get(&key) else { return Ok(Next::Wait) };
        let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
        if observed.is_some() && observed == policy.metadata.generation {
            return Ok(Next::Wait);
        }
        let object = serde_json::to_value(&*policy).unwrap_or_default();
        let warnings = self.warnings(&object["spec"]);
        let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
        let status = json!({"observedGeneration": policy.metadata.generation, "typeChecking": checked});
        let api: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"uid": policy.metadata.uid}, "status": status}));
        ignore_not_found(api.patch_status(&key.name, &PatchParams::default(), &patch).await)?;
        Ok(Next::Wait)
    }
}

impl PolicyTypes {
    /// What is wrong with which expression, for all kinds together.
    fn warnings(&self, spec: &Value) -> Vec<Value> {
        let params = self.params(spec);
        let scopes: Vec<(String, Scope)> = self
            .kinds(spec)
            .into_iter()
            .map(|(name, kind)| (name, complete(spec, kind, params.as_ref())))
            .collect();
        let mut warnings = Vec::new();
        for (index, validation) in fields::list(spec, "/validations").iter().enumerate() {
            for field in ["expression", "messageExpression"] {
                let source = fields::text(validation, &format!("/{field}"));
                let Ok(expression) = Expression::compile(source) else { continue };
                let faults: Vec<String> = scopes
                    .iter()
                    .filter_map(|(name, scope)| {
                        Some(format!("{name}: {}\n", expression.kind_in(scope).err()?))
                    })
                    .collect();
                if !faults.is_empty() {
                    let place = format!("spec.validations[{index}].{field}");
                    warnings.push(json!({"fieldRef": place, "warning": faults.concat()}));
                }
            }
        }
        warnings
    }

    /// The kinds that the rules name, each as CEL names it; rules with wildcards name none.
    fn kinds(&self, spec: &Value) -> BTreeMap<String, Kind> {
        let mut kinds = BTreeMap::new();
        let named = |rule: &Value, list: &str| -> Vec<String> {
            let all = fields::list(rule, list).iter().filter_map(Value::as_str);
            all.filter(|name| !name.contains(['*', '/'])).map(str::to_owned).collect()
        };
        for rule in fields::list(spec, "/matchConstraints/resourceRules") {
            for group in named(rule, "/apiGroups") {
                for version in named(rule, "/apiVersions") {
                    for plural in named(rule, "/resources") {
                        kinds.extend(self.resource(&group, &version, &plural));
                    }
                }
            }
        }
        kinds.into_iter().take(MOST_KINDS).collect()
    }

    fn resource(&self, group: &str, version: &str, plural: &str) -> Option<(String, Kind)> {
        let named = |kind: &str| format!("{group}/{version}, Kind={kind}");
        if let Some(row) = self.table.find(group, version, plural) {
            let known = types::of_kind(group, version, &row.kind)?;
            return Some((named(&row.kind), Kind::Object(Shape::Known(known))));
        }
        let definition = self.definitions.get(&Key::new("", &format!("{plural}.{group}")))?;
        let kind = self.custom(&definition, version)?;
        Some((named(&definition.spec.names.kind), kind))
    }

    fn custom(&self, definition: &CustomResourceDefinition, version: &str) -> Option<Kind> {
        let version = definition.spec.versions.iter().find(|one| one.name == version)?;
        let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
        let schema = serde_json::to_value(schema).ok()?;
        let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
        Some(if free { Kind::Any } else { Kind::Object(Shape::Resource(Arc::new(schema))) })
    }

    /// The kind of `params`; nothing where the policy takes none.
    fn params(&self, spec: &Value) -> Option<Kind> {
        let (api, kind) =
            (fields::text(spec, "/paramKind/apiVersion"), fields::text(spec, "/paramKind/kind"));
        if kind.is_empty() {
            return None;
        }
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        if let Some(known) = types::of_kind(group, version, kind) {
            return Some(Kind::Object(Shape::Known(known)));
        }
        let mut all = self.definitions.all().into_iter();
        let found = all.find(|one| one.spec.group == group && one.spec.names.kind == kind);
        Some(found.and_then(|definition| self.custom(&definition, version)).unwrap_or(Kind::Any))
    }
}

/// What the expressions of a policy can use about an object of a kind, its variables among it.
fn complete(spec: &Value, object: Kind, params: Option<&Kind>) -> Scope {
    let mut named = BTreeMap::new();
    for variable in fields::list(spec, "/variables") {
        let scope = policies::scope(object.clone(), params, Some(&named));
        let expression = Expression::compile(fields::text(variable, "/expression"));
        let kind = expression.and_then(|expression| expression.kind_in(&scope)).unwrap_or(Kind::Any);
        named.insert(fields::text(variable, "/name").to_owned(), kind);
    }
    policies::scope(object, params, Some(&named))
}
