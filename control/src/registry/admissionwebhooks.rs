//! Configurations of webhooks that have a say in every change.

use super::columns::{age, integer, name};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, policy_rules, validation};
use crate::expressions::typing::{Kind, policies};
use knarr_api::names;
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
    let mutating = object["kind"] == "MutatingWebhookConfiguration";
    let webhooks = fields::list(object, "/webhooks");
    for (index, webhook) in webhooks.iter().enumerate() {
        let path = format!("webhooks[{index}]");
        let name = &webhook["name"];
        if webhooks[..index].iter().any(|other| other["name"] == *name) {
            faults.duplicate(format!("{path}.name"), name);
        }
        qualified(name, &format!("{path}.name"), faults);
        behaviour(webhook, &path, mutating, faults);
        client(&webhook["clientConfig"], &format!("{path}.clientConfig"), faults);
        let conditions = fields::list(webhook, "/matchConditions");
        let scope = policies::scope(Kind::Any, None, None);
        policy_rules::conditions(conditions, &format!("{path}.matchConditions"), &scope, faults);
        versions(fields::list(webhook, "/admissionReviewVersions"), &path, faults);
    }
}

/// A domain of three parts at least, so that webhooks of different makers do not have the same name.
fn qualified(name: &Value, path: &str, faults: &mut Faults) {
    let text = name.as_str().unwrap_or_default();
    let wrong = names::dns1123_subdomain(text);
    if text.is_empty() {
        faults.required(path, "");
    } else if !wrong.is_empty() {
        faults.invalid(path, name, &wrong.join(","));
    } else if text.split('.').count() < 3 {
        faults.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

/// What a webhook is asked about, and what follows when it does not answer.
fn behaviour(webhook: &Value, path: &str, mutating: bool, faults: &mut Faults) {
    for (index, one) in fields::list(webhook, "/rules").iter().enumerate() {
        policy_rules::rule(one, &format!("{path}.rules[{index}]"), faults);
    }
    let mut choice = |field: &str, allowed: &[&str]| {
        let text = fields::text(webhook, &format!("/{field}"));
        validation::optional_choice(&format!("{path}.{field}"), text, allowed, faults);
    };
    choice("failurePolicy", &["Fail", "Ignore"]);
    choice("matchPolicy", &["Equivalent", "Exact"]);
    choice("sideEffects", &["None", "NoneOnDryRun"]);
    if mutating {
        choice("reinvocationPolicy", &["IfNeeded", "Never"]);
    }
    if fields::text(webhook, "/sideEffects").is_empty() {
        faults.required(format!("{path}.sideEffects"), "must specify one of None, NoneOnDryRun");
    }
    let timeout = &webhook["timeoutSeconds"];
    if timeout.as_i64().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        faults.invalid(format!("{path}.timeoutSeconds"), timeout, why);
    }
    for selector in ["namespaceSelector", "objectSelector"] {
        validation::label_selector(&webhook[selector], &format!("{path}.{selector}"), faults);
    }
}

/// Where it is reached.
pub(super) fn client(client: &Value, path: &str, faults: &mut Faults) {
    match (client.get("service"), client.get("url")) {
        (None, Some(url)) => address(url.as_str().unwrap_or_default(), &format!("{path}.url"), faults),
        (Some(service), None) => {
            for field in ["name", "namespace"] {
                if fields::text(service, &format!("/{field}")).is_empty() {
                    faults.required(format!("{path}.service.{field}"), "");
                }
            }
            let port = &service["port"];
            if port.as_i64().is_some_and(|port| !(1..=65535).contains(&port)) {
                let why = "port is not valid: must be between 1 and 65535, inclusive";
                faults.invalid(format!("{path}.service.port"), port, why);
            }
            let on = fields::text(service, "/path");
            if !on.is_empty() && !on.starts_with('/') {
                faults.invalid(format!("{path}.service.path"), &json!(on), "must start with a '/'");
            }
        }
        _ => faults.required(path, "exactly one of url or service is required"),
    }
}

fn address(url: &str, path: &str, faults: &mut Faults) {
    let form = "desired format: https://host[/path]";
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut wrong = |part: &str, why: &str| faults.invalid(path, &json!(part), why);
    if scheme != "https" {
        wrong(scheme, &format!("'https' is the only allowed URL scheme; {form}"));
    }
    if host.is_empty() {
        wrong(host, &format!("host must be specified; {form}"));
    }
    for (part, what) in
        [(user, "user information is"), (fragment, "fragments are"), (query, "query parameters are")]
    {
        if !part.is_empty() {
            wrong(part, &format!("{what} not permitted in the URL"));
        }
    }
}

/// Of the reviews that it understands.
fn versions(versions: &[Value], path: &str, faults: &mut Faults) {
    let path = format!("{path}.admissionReviewVersions");
    if versions.is_empty() {
        faults.required(path, "must specify one of v1, v1beta1");
    } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
        faults.invalid(path, &json!(versions), "must include at least one of v1, v1beta1");
    }
}
