//! Configurations of webhooks that have a say in every change.

use super::columns::{age, integer, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields};
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration.k8s.io";

/// The rows of both kinds.
pub(super) fn rows() -> Vec<Resource> {
    let rules = Rules { has_generation: true, defaults, validate, ..Rules::NONE };
    let columns = || {
        let count = integer("Webhooks", "Number of webhooks.", |object| {
            fields::list(object, "/webhooks").len() as i64
        });
        vec![name(), count, age()]
    };
    let row = |kind, plural| Row::cluster(GROUP, "v1", kind, plural).category("api-extensions");
    vec![
        row("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            .columns(columns())
            .rules(rules)
            .done(),
        row("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
            .columns(columns())
            .rules(rules)
            .done(),
    ]
}

fn defaults(object: &mut Value) {
    let mutating = object["kind"] == "MutatingWebhookConfiguration";
    for webhook in fields::each(object, "webhooks") {
        fields::fill_text(webhook, "failurePolicy", "Fail");
        fields::fill_text(webhook, "matchPolicy", "Equivalent");
        fields::fill(webhook, "namespaceSelector", json!({}));
        fields::fill(webhook, "objectSelector", json!({}));
        fields::fill(webhook, "timeoutSeconds", 10);
        if mutating {
            fields::fill_text(webhook, "reinvocationPolicy", "Never");
        }
        for rule in fields::each(webhook, "rules") {
            fields::fill_text(rule, "scope", "*");
        }
        if let Some(service) = webhook.pointer_mut("/clientConfig/service") {
            fields::fill(service, "port", 443);
        }
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    for (index, webhook) in fields::list(object, "/webhooks").iter().enumerate() {
        let path = format!("webhooks[{index}]");
        if fields::text(webhook, "/sideEffects").is_empty() {
            faults.required(format!("{path}.sideEffects"), "must specify one of None, NoneOnDryRun");
        }
        if fields::list(webhook, "/admissionReviewVersions").is_empty() {
            faults.required(format!("{path}.admissionReviewVersions"), "must specify one of v1, v1beta1");
        }
        let (service, url) = (webhook.pointer("/clientConfig/service"), webhook.pointer("/clientConfig/url"));
        if service.is_some() == url.is_some() {
            faults.required(format!("{path}.clientConfig"), "exactly one of url or service is required");
        }
    }
}
