//! Whom a network policy lets in or out: peers by labels or addresses, and ports.

use super::faults::Faults;
use super::{addresses, fields, validation};
use serde_json::{Value, json};

/// Every fault of the rules of one direction; `side` is the field that holds the peers.
pub(super) fn validate_rules(policy: &Value, direction: &str, side: &str, faults: &mut Faults) {
    for (index, rule) in fields::list(policy, &format!("/spec/{direction}")).iter().enumerate() {
        let path = format!("spec.{direction}[{index}]");
        for (at, port) in fields::list(rule, "/ports").iter().enumerate() {
            validate_port(port, &format!("{path}.ports[{at}]"), faults);
        }
        for (at, peer) in fields::list(rule, &format!("/{side}")).iter().enumerate() {
            validate_peer(peer, &format!("{path}.{side}[{at}]"), faults);
        }
    }
}

fn validate_port(port: &Value, path: &str, faults: &mut Faults) {
    let protocol = fields::text(port, "/protocol");
    validation::optional_choice(&format!("{path}.protocol"), protocol, &["TCP", "UDP", "SCTP"], faults);
    let (first, last) = (port.get("port").filter(|port| !port.is_null()), fields::int(port, "/endPort"));
    let end = format!("{path}.endPort");
    validation::port_or_name(&format!("{path}.port"), first, faults);
    match (first, last) {
        (Some(Value::Number(first)), Some(last)) => {
            if first.as_i64().is_some_and(|first| last < first) {
                let detail = "must be greater than or equal to `port`";
                faults.invalid(end.as_str(), &Value::Number(first.clone()), detail);
            }
            validation::port_number(&end, last, faults);
        }
        (Some(_), Some(last)) => {
            faults.invalid(end, &json!(last), "may not be specified when `port` is non-numeric");
        }
        (None, Some(last)) => {
            faults.invalid(end, &json!(last), "may not be specified when `port` is not specified");
        }
        (_, None) => {}
    }
}

fn validate_peer(peer: &Value, path: &str, faults: &mut Faults) {
    let mut kinds = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.get(field) {
            kinds += 1;
            validation::label_selector(selector, &format!("{path}.{field}"), faults);
        }
    }
    let block = peer.get("ipBlock");
    if let Some(block) = block {
        validate_block(block, &format!("{path}.ipBlock"), faults);
    }
    match (kinds, block) {
        (0, None) => faults.required(path, "must specify a peer"),
        (1.., Some(_)) => faults.forbidden(path, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn validate_block(block: &Value, path: &str, faults: &mut Faults) {
    let range = match fields::text(block, "/cidr") {
        "" => {
            faults.required(format!("{path}.cidr"), "");
            None
        }
        text => addresses::range(&format!("{path}.cidr"), text, faults),
    };
    for (index, except) in fields::list(block, "/except").iter().enumerate() {
        let field = format!("{path}.except[{index}]");
        let text = except.as_str().unwrap_or_default();
        let inner = addresses::range(&field, text, faults);
        if let (Some(outer), Some(inner)) = (range, inner)
            && !addresses::strictly_inside(inner, outer)
        {
            faults.invalid(field, &json!(text), "must be a strict subset of `cidr`");
        }
    }
}
