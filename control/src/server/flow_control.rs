//! Priority and fairness: how many requests are in work at once, and whose turn is next.
//!
//! FlowSchema objects sort a request into a priority level and, there, into a flow (usually: its user).
//! PriorityLevelConfiguration objects divide the places among the levels. Within a level flows take turns, and no flow
//! holds more than three quarters of the places ([`seats`]): whoever floods the server waits for himself.
//! Both kinds are compiled from the store and compiled anew when one has changed. Watches and streams take no place.

use crate::authn::User;
use crate::authz::Attributes;
use crate::authz::rbac::rule_allows;
use crate::registry::fields;
use crate::store::{Compiled, Store};
use knarr_api::{Status, meta};
use seats::{Entry, Seats};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) mod defaults;
mod seats;

/// Places of all levels together.
const SEATS: u64 = 600;
/// A request that got no place within this is sent away.
const PATIENCE: Duration = Duration::from_secs(15);
/// Schemas, then levels.
const KINDS: [&str; 2] = [
    "flowcontrol.apiserver.k8s.io/flowschemas/",
    "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations/",
];

/// The compiled objects.
pub(crate) struct FlowControl {
    rules: Compiled<Rules>,
}

#[derive(Default)]
struct Rules {
    /// The first that fits counts.
    schemas: Vec<Schema>,
    levels: HashMap<String, Arc<Level>>,
}

struct Schema {
    name: String,
    level: String,
    /// `ByUser`, `ByNamespace` or empty.
    distinguisher: String,
    rules: Vec<Rule>,
}

/// Who, and what.
struct Rule {
    subjects: Vec<Value>,
    /// Rules of resources and where they hold.
    resources: Vec<(Value, Placed)>,
    paths: Vec<Value>,
}

/// Where a rule of resources holds.
struct Placed {
    cluster: bool,
    namespaces: Vec<Value>,
}

/// One level; it lives on while its places are taken, whatever becomes of its object.
#[derive(Debug)]
struct Level {
    exempt: bool,
    /// Short sections without await.
    seats: Mutex<Seats>,
}

/// A place among the requests in work; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    level: Arc<Level>,
    flow: String,
    /// Still waiting: the place may come at any time.
    turn: Option<oneshot::Receiver<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let held = match &mut self.turn {
            None => true,
            Some(turn) => {
                turn.close();
                turn.try_recv().is_ok()
            }
        };
        if held {
            self.level.seats.lock().unwrap_or_else(PoisonError::into_inner).leave(&self.flow);
        }
    }
}

impl FlowControl {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { rules: Compiled::new(store, &KINDS) }
    }

    /// Waits for a place; `None` where none is needed.
    pub(super) async fn enter(
        &self,
        user: &User,
        attributes: &Attributes<'_>,
    ) -> Result<Option<Place>, Status> {
        let compile = |objects: &[Vec<Value>], before: &Rules| match objects {
            [schemas, levels] => compile(schemas, levels, &before.levels),
            _ => Rules::default(),
        };
        let rules = self.rules.get(compile).map_err(Status::internal)?;
        let Some((level, flow)) = rules.classify(user, attributes) else { return Ok(None) };
        if level.exempt {
            return Ok(None);
        }
        let entry = level.seats.lock().unwrap_or_else(PoisonError::into_inner).enter(&flow);
        let turn = match entry {
            Entry::Seated => None,
            Entry::Waits(turn) => Some(turn),
            Entry::Full => return Err(too_many()),
        };
        let mut place = Place { level, flow, turn };
        if let Some(turn) = &mut place.turn {
            match tokio::time::timeout(PATIENCE, turn).await {
                Ok(Ok(())) => place.turn = None,
                _ => return Err(too_many()),
            }
        }
        Ok(Some(place))
    }

    /// Requests in work, for the metrics.
    pub(super) fn seated(&self) -> usize {
        let seated = |level: &Arc<Level>| level.seats.lock().unwrap_or_else(PoisonError::into_inner).seated();
        self.rules.last().levels.values().map(seated).sum()
    }
}

fn too_many() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", Some(1))
}

/// Levels that were there before keep who is seated and who waits.
fn compile(schemas: &[Value], levels: &[Value], before: &HashMap<String, Arc<Level>>) -> Rules {
    let shares = |level: &Value| {
        let spec = &level["spec"];
        let part = if spec["type"] == "Exempt" { "exempt" } else { "limited" };
        spec[part]["nominalConcurrencyShares"].as_u64().unwrap_or(0)
    };
    let all: u64 = levels.iter().map(shares).sum::<u64>().max(1);
    let level = |object: &Value| {
        let exempt = object["spec"]["type"] == "Exempt";
        let places = usize::try_from((SEATS * shares(object)).div_ceil(all)).unwrap_or(1).max(1);
        let (per_flow, together) = queues(&object["spec"]["limited"]["limitResponse"]);
        let name = meta::name(object).to_owned();
        match before.get(&name).filter(|known| known.exempt == exempt) {
            Some(known) => {
                known.seats.lock().unwrap_or_else(PoisonError::into_inner).resize(places, per_flow, together);
                (name, known.clone())
            }
            None => {
                let seats = Mutex::new(Seats::new(places, per_flow, together));
                (name, Arc::new(Level { exempt, seats }))
            }
        }
    };
    let mut ordered: Vec<&Value> = schemas.iter().collect();
    let precedence = |schema: &Value| fields::int(schema, "/spec/matchingPrecedence").unwrap_or(1000);
    ordered.sort_by(|a, b| (precedence(a), meta::name(a)).cmp(&(precedence(b), meta::name(b))));
    Rules { schemas: ordered.into_iter().map(schema).collect(), levels: levels.iter().map(level).collect() }
}

/// How many requests of one flow may wait, and how many of all flows.
fn queues(response: &Value) -> (usize, usize) {
    if response["type"] != "Queue" {
        return (0, 0);
    }
    let number = |field: &str, usual: u64| {
        let given = response["queuing"][field].as_u64().unwrap_or(usual);
        usize::try_from(given).unwrap_or(usize::MAX)
    };
    let length = number("queueLengthLimit", 50);
    (number("handSize", 8).saturating_mul(length), number("queues", 64).saturating_mul(length))
}

fn schema(object: &Value) -> Schema {
    Schema {
        name: meta::name(object).to_owned(),
        level: fields::text(object, "/spec/priorityLevelConfiguration/name").to_owned(),
        distinguisher: fields::text(object, "/spec/distinguisherMethod/type").to_owned(),
        rules: fields::list(object, "/spec/rules").iter().map(rule).collect(),
    }
}

fn rule(rule: &Value) -> Rule {
    let placed = |rule: &Value| Placed {
        cluster: fields::flag(rule, "/clusterScope"),
        namespaces: fields::list(rule, "/namespaces").to_vec(),
    };
    let resources = fields::list(rule, "/resourceRules").iter();
    Rule {
        subjects: fields::list(rule, "/subjects").to_vec(),
        resources: resources.map(|rule| (any_part(rule), placed(rule))).collect(),
        paths: fields::list(rule, "/nonResourceRules").to_vec(),
    }
}

impl Rules {
    /// The level of a request, and its flow there.
    fn classify(&self, user: &User, attributes: &Attributes<'_>) -> Option<(Arc<Level>, String)> {
        let fits = |schema: &&Schema| {
            self.levels.contains_key(&schema.level)
                && schema.rules.iter().any(|rule| rule_fits(rule, user, attributes))
        };
        let schema = self.schemas.iter().find(fits)?;
        let within = match (&*schema.distinguisher, attributes) {
            ("ByUser", _) => &*user.name,
            ("ByNamespace", Attributes::Resource { namespace, .. }) => namespace,
            _ => "",
        };
        Some((self.levels.get(&schema.level)?.clone(), format!("{}/{within}", schema.name)))
    }
}

fn rule_fits(rule: &Rule, user: &User, attributes: &Attributes<'_>) -> bool {
    let target = || match attributes {
        Attributes::Path { .. } => rule.paths.iter().any(|rule| rule_allows(rule, attributes)),
        Attributes::Resource { namespace, .. } => {
            let fits = |(rule, placed): &(Value, Placed)| {
                placed.holds_in(namespace) && rule_allows(rule, attributes)
            };
            rule.resources.iter().any(fits)
        }
    };
    rule.subjects.iter().any(|subject| is_subject(subject, user)) && target()
}

impl Placed {
    fn holds_in(&self, namespace: &str) -> bool {
        if namespace.is_empty() {
            return self.cluster;
        }
        self.namespaces.iter().filter_map(Value::as_str).any(|one| one == "*" || one == namespace)
    }
}

/// Unlike a role, a flow schema that names a resource means its subresources by their own names only, and `*` all.
fn any_part(rule: &Value) -> Value {
    json!({"verbs": rule["verbs"], "apiGroups": rule["apiGroups"], "resources": rule["resources"]})
}

fn is_subject(subject: &Value, user: &User) -> bool {
    let name = |part: &str| subject[part]["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str().unwrap_or_default() {
        "User" => matches!(name("user"), "*") || name("user") == user.name,
        "Group" => matches!(name("group"), "*") || user.is_in(name("group")),
        "ServiceAccount" => {
            let namespace = subject["serviceAccount"]["namespace"].as_str().unwrap_or_default();
            let own = user.name.strip_prefix(&format!("system:serviceaccount:{namespace}:"));
            own.is_some_and(|own| matches!(name("serviceAccount"), "*") || name("serviceAccount") == own)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_sorted_as_kubernetes_sorts_them() {
        let rules = compile(&defaults::schemas(), &defaults::levels(), &HashMap::new());
        let level = |name: &str| rules.levels.get(name).unwrap().clone();
        let on = |verb, resource, namespace| Attributes::Resource {
            verb,
            group: if resource == "leases" { "coordination.k8s.io" } else { "" },
            resource,
            subresource: "",
            namespace,
            name: "",
            fields: None,
        };
        let account =
            |name: &str| User::new(format!("system:serviceaccount:{name}"), &["system:serviceaccounts"]);
        let cases = [
            (User::server(), on("list", "pods", ""), "exempt"),
            (User::node("n"), on("update", "leases", "kube-node-lease"), "node-high"),
            (User::node("n"), on("list", "pods", ""), "system"),
            (User::new("bob", &[]), on("list", "pods", "a"), "global-default"),
            (account("a:b"), on("list", "pods", "a"), "workload-low"),
            (User::anonymous(), on("list", "pods", "a"), "global-default"),
        ];
        for (user, attributes, expected) in cases {
            let (found, _) = rules.classify(&user, &attributes).unwrap();
            assert!(Arc::ptr_eq(&found, &level(expected)), "{} {attributes:?}", user.name);
        }
        let flow = |user: &User| rules.classify(user, &on("list", "pods", "a")).unwrap().1;
        assert_ne!(flow(&User::new("bob", &[])), flow(&User::new("eve", &[])));
    }

    #[test]
    fn a_changed_level_keeps_who_is_in_it() {
        let before = compile(&defaults::schemas(), &defaults::levels(), &HashMap::new());
        let known = before.levels.get("workload-low").unwrap();
        assert!(matches!(known.seats.lock().unwrap().enter("a"), Entry::Seated));
        let after = compile(&defaults::schemas(), &defaults::levels()[1..], &before.levels);
        assert_eq!(after.levels.get("workload-low").unwrap().seats.lock().unwrap().seated(), 1);
    }
}
