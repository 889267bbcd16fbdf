//! Custom resource definitions: rows of this very table that users add.

use super::columns::{created_at, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, admissionwebhooks, cells, definition_versions, faults::Faults, fields, validation};
use crate::extensions::FINALIZER;
use knarr_api::names::{dns1035_label, dns1123_subdomain};
use serde_json::{Value, json};

/// Says where a definition of a protected group was agreed on.
const APPROVED: &str = "api-approved.kubernetes.io";

pub(super) fn row() -> Resource {
    Row::cluster("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
        .short(&["crd", "crds"])
        .category("api-extensions")
        .status()
        .columns(vec![name(), created_at()])
        .rules(Rules {
            has_generation: true,
            defaults,
            on_create,
            validate,
            validate_create: approval,
            validate_update,
            ..Rules::NONE
        })
        .done()
}

fn defaults(definition: &mut Value) {
    let Some(spec) = fields::child(definition, "spec") else { return };
    fields::fill(spec, "conversion", json!({"strategy": "None"}));
    if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service") {
        fields::fill_int(service, "port", 443);
    }
    if let Some(names) = fields::child(spec, "names") {
        let kind = fields::text(names, "/kind").to_owned();
        fields::fill_text(names, "singular", &kind.to_lowercase());
        fields::fill_text(names, "listKind", &format!("{kind}List"));
    }
}

/// The finalizer keeps a deleted definition until its objects are gone.
fn on_create(definition: &mut Value) {
    let mut finalizers = fields::list(definition, "/metadata/finalizers").to_vec();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    fields::set_in(definition, "metadata", "finalizers", finalizers.into());
    let stored =
        fields::list(definition, "/spec/versions").iter().filter(|version| fields::flag(version, "/storage"));
    let versions: Vec<Value> = stored.map(|version| version["name"].clone()).collect();
    let names = json!({"kind": "", "plural": ""});
    fields::set(
        definition,
        "status",
        json!({"acceptedNames": names, "conditions": [], "storedVersions": versions}),
    );
}

fn validate(definition: &Value, faults: &mut Faults) {
    let plural = fields::text(definition, "/spec/names/plural");
    let group = fields::text(definition, "/spec/group");
    let name = fields::text(definition, "/metadata/name");
    if name != format!("{plural}.{group}") {
        faults.invalid("metadata.name", &json!(name), "must be spec.names.plural+\".\"+spec.group");
    }
    let why = dns1123_subdomain(group).join(",");
    if group.is_empty() {
        faults.required("spec.group", "");
    } else if !why.is_empty() {
        faults.invalid("spec.group", &json!(group), &why);
    } else if !group.contains('.') {
        faults.invalid("spec.group", &json!(group), "should be a domain with at least one dot");
    }
    validation::one_of(definition, "spec.scope", &["Cluster", "Namespaced"], faults);
    definition_versions::validate(definition, faults);
    definition_versions::names(definition.pointer("/spec/names").unwrap_or(&Value::Null), faults);
    conversion(definition, faults);
    if fields::flag(definition, "/spec/preserveUnknownFields") {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        faults.invalid("spec.preserveUnknownFields", &json!(true), detail);
    }
}

/// Groups of Kubernetes' own community ask for a sign that it agreed.
fn approval(definition: &Value, faults: &mut Faults) {
    let group = fields::text(definition, "/spec/group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if !protected {
        return;
    }
    let said = definition.pointer("/metadata/annotations").and_then(|all| all.get(APPROVED));
    let said = said.and_then(Value::as_str).unwrap_or_default();
    let must = format!("protected groups must have approval annotation {APPROVED:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let field = format!("metadata.annotations[{APPROVED}]");
    let is_url = said.parse::<http::Uri>().is_ok_and(|url| url.scheme().is_some() && url.host().is_some());
    if said.is_empty() {
        faults.required(field, &format!("{must}, {see}"));
    } else if !said.starts_with("unapproved") && !is_url {
        let detail = format!("{must} with either a URL or a reason starting with \"unapproved\", {see}");
        faults.invalid(field, &json!(said), &detail);
    }
}

/// The words are those of Kubernetes, whose internal type calls `webhook.clientConfig` so.
fn conversion(definition: &Value, faults: &mut Faults) {
    validation::one_of(definition, "spec.conversion.strategy", &["None", "Webhook"], faults);
    let webhook = definition.pointer("/spec/conversion/webhook").filter(|webhook| !webhook.is_null());
    let client = webhook.and_then(|webhook| webhook.get("clientConfig"));
    let path = "spec.conversion.webhookClientConfig";
    if fields::text(definition, "/spec/conversion/strategy") != "Webhook" {
        if webhook.is_some() {
            faults.forbidden(path, "should not be set when strategy is not set to Webhook");
        }
        return;
    }
    match client {
        None => faults.required(path, "required when strategy is set to Webhook"),
        Some(client) => admissionwebhooks::client(client, path, faults),
    }
    let reviews = fields::list(definition, "/spec/conversion/webhook/conversionReviewVersions");
    let path = "spec.conversion.conversionReviewVersions";
    if reviews.is_empty() {
        return faults.required(path, "");
    }
    for (index, version) in reviews.iter().enumerate() {
        let field = format!("{path}[{index}]");
        if reviews[..index].contains(version) {
            faults.invalid(field, version, "duplicate version");
        } else {
            validation::named(&field, version.as_str().unwrap_or_default(), dns1035_label, faults);
        }
    }
    if !reviews.iter().any(|version| version == "v1" || version == "v1beta1") {
        faults.invalid(path, &reviews.to_vec().into(), "must include at least one of v1, v1beta1");
    }
}

/// What is stored, and where, stays; the scope and the kind once the definition is in force.
fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let established = cells::condition_holds(old, "Established");
    for field in ["spec.scope", "spec.names.kind"].into_iter().filter(|_| established) {
        validation::unchanged(new, old, field, faults);
    }
    for field in ["spec.group", "spec.names.plural"] {
        validation::unchanged(new, old, field, faults);
    }
    stored_versions(new, faults);
    let said = |definition: &Value| {
        definition.pointer("/metadata/annotations").and_then(|all| all.get(APPROVED)).cloned()
    };
    if said(new) != said(old) {
        approval(new, faults);
    }
}

/// Objects may still be kept in each version that ever was the stored one.
fn stored_versions(definition: &Value, faults: &mut Faults) {
    let stored = fields::list(definition, "/status/storedVersions");
    let versions = fields::list(definition, "/spec/versions");
    for (index, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version.get("name") == Some(name)) {
            let name = name.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            faults.invalid(format!("status.storedVersions[{index}]"), &json!(name), &detail);
        }
    }
}
