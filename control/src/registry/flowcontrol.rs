//! Priority and fairness: which requests belong together, and how many places they get. The server obeys them
//! (`server/flow_control.rs`).

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
use serde_json::{Value, json};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const NONE: &str = "<none>";

/// Both rows.
pub(super) fn rows() -> Vec<Resource> {
    vec![schemas(), levels()]
}

fn schemas() -> Resource {
    Row::cluster(GROUP, "v1", "FlowSchema", "flowschemas")
        .status()
        .columns(vec![
            name(),
            text("PriorityLevel", "Where its requests go.", |schema| {
                fields::text(schema, "/spec/priorityLevelConfiguration/name").to_owned()
            }),
            text("MatchingPrecedence", "The lowest that fits counts.", |schema| {
                fields::int(schema, "/spec/matchingPrecedence").unwrap_or(0).to_string()
            }),
            text("DistinguisherMethod", "What makes a flow.", |schema| {
                match fields::text(schema, "/spec/distinguisherMethod/type") {
                    "" => NONE.to_owned(),
                    method => method.to_owned(),
                }
            }),
            age(),
            text("MissingPL", "Whether its priority level is missing.", |schema| {
                let conditions = fields::list(schema, "/status/conditions").iter();
                let mut dangling = conditions.filter(|condition| condition["type"] == "Dangling");
                dangling.next().map_or("?".to_owned(), |found| fields::text(found, "/status").to_owned())
            }),
        ])
        .rules(Rules {
            has_generation: true,
            defaults: |schema| {
                if let Some(spec) = fields::child(schema, "spec") {
                    fields::fill_int(spec, "matchingPrecedence", 1000);
                }
            },
            validate: validate_schema,
            ..Rules::NONE
        })
        .done()
}

fn validate_schema(schema: &Value, faults: &mut Faults) {
    let precedence = fields::int(schema, "/spec/matchingPrecedence").unwrap_or(0);
    let exempt = fields::text(schema, "/metadata/name") == "exempt";
    if !(1..=10_000).contains(&precedence) {
        faults.invalid("spec.matchingPrecedence", &json!(precedence), "must be in the range [1, 10000]");
    } else if precedence == 1 && !exempt {
        faults.invalid(
            "spec.matchingPrecedence",
            &json!(1),
            "only the schema named 'exempt' may have matchingPrecedence 1",
        );
    }
    if fields::text(schema, "/spec/priorityLevelConfiguration/name").is_empty() {
        faults.required("spec.priorityLevelConfiguration.name", "must reference a priority level");
    }
    if schema.pointer("/spec/distinguisherMethod").is_some() {
        validation::one_of(schema, "spec.distinguisherMethod.type", &["ByNamespace", "ByUser"], faults);
    }
}

fn levels() -> Resource {
    Row::cluster(GROUP, "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations")
        .status()
        .columns(vec![
            name(),
            text("Type", "Whether it is limited.", |level| fields::text(level, "/spec/type").to_owned()),
            text("NominalConcurrencyShares", "Its part of the places.", |level| {
                let part = if fields::text(level, "/spec/type") == "Exempt" { "exempt" } else { "limited" };
                let shares = fields::int(level, &format!("/spec/{part}/nominalConcurrencyShares"));
                shares.map_or(NONE.to_owned(), |shares| shares.to_string())
            }),
            text("Queues", "How many queues.", |level| queue(level, "queues")),
            text("HandSize", "Queues of one flow.", |level| queue(level, "handSize")),
            text("QueueLengthLimit", "Requests in one queue.", |level| queue(level, "queueLengthLimit")),
            age(),
        ])
        .rules(Rules {
            has_generation: true,
            defaults: default_level,
            validate: validate_level,
            ..Rules::NONE
        })
        .done()
}

fn queue(level: &Value, field: &str) -> String {
    let number = fields::int(level, &format!("/spec/limited/limitResponse/queuing/{field}"));
    number.map_or(NONE.to_owned(), |number| number.to_string())
}

fn default_level(level: &mut Value) {
    let Some(spec) = fields::child(level, "spec") else { return };
    if spec["type"] == "Exempt" {
        if let Some(exempt) = fields::child(spec, "exempt") {
            fields::fill_int(exempt, "nominalConcurrencyShares", 0);
            fields::fill_int(exempt, "lendablePercent", 0);
        }
        return;
    }
    let Some(limited) = fields::child(spec, "limited") else { return };
    fields::fill(limited, "nominalConcurrencyShares", 30);
    fields::fill_int(limited, "lendablePercent", 0);
    let Some(response) = fields::child(limited, "limitResponse") else { return };
    if response["type"] != "Queue" {
        return;
    }
    fields::fill(response, "queuing", json!({}));
    if let Some(queuing) = fields::child(response, "queuing") {
        fields::fill_int(queuing, "queues", 64);
        fields::fill_int(queuing, "handSize", 8);
        fields::fill_int(queuing, "queueLengthLimit", 50);
    }
}

fn validate_level(level: &Value, faults: &mut Faults) {
    validation::one_of(level, "spec.type", &["Exempt", "Limited"], faults);
    let limited = fields::text(level, "/spec/type") == "Limited";
    match (limited, level.pointer("/spec/limited").is_some()) {
        (true, false) => faults.required("spec.limited", "must not be empty when type is Limited"),
        (false, true) => faults.forbidden("spec.limited", "must be nil if the type is not Limited"),
        (true, true) => {
            validation::one_of(level, "spec.limited.limitResponse.type", &["Queue", "Reject"], faults);
            validation::not_negative(level, "spec.limited.nominalConcurrencyShares", faults);
        }
        (false, false) => {}
    }
    for field in ["queues", "handSize", "queueLengthLimit"] {
        validation::positive(level, &format!("spec.limited.limitResponse.queuing.{field}"), faults);
    }
}
