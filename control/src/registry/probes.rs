//! Probes and lifecycle hooks of containers: defaults and rules.

use super::faults::Faults;
use super::{fields, validation};
use serde_json::{Value, json};

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HANDLERS: [&str; 4] = ["exec", "grpc", "httpGet", "tcpSocket"];

/// Once every ten seconds, a second of patience, three failures.
pub(super) fn defaults(container: &mut Value) {
    for name in PROBES {
        let Some(probe) = container.get_mut(name) else { continue };
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            fields::fill_int(probe, field, value);
        }
        handler_defaults(probe);
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container.pointer_mut(&format!("/lifecycle/{hook}")) {
            handler_defaults(handler);
        }
    }
}

fn handler_defaults(handler: &mut Value) {
    if let Some(request) = handler.get_mut("httpGet") {
        fields::fill_text(request, "path", "/");
        fields::fill_text(request, "scheme", "HTTP");
    }
    if let Some(request) = handler.get_mut("grpc") {
        fields::fill(request, "service", "");
    }
}

/// Every fault of the probes of one container.
pub(super) fn validate(container: &Value, path: &str, faults: &mut Faults) {
    for name in PROBES {
        let Some(probe) = container.get(name) else { continue };
        let path = format!("{path}.{name}");
        handler(probe, &path, faults);
        for field in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            if let Some(value) = fields::int(probe, &format!("/{field}")).filter(|value| *value < 0) {
                faults.invalid(
                    format!("{path}.{field}"),
                    &json!(value),
                    "must be greater than or equal to 0",
                );
            }
        }
        if name != "readinessProbe"
            && let Some(value) = fields::int(probe, "/successThreshold").filter(|value| *value != 1)
        {
            faults.invalid(format!("{path}.successThreshold"), &json!(value), "must be 1");
        }
    }
}

fn handler(probe: &Value, path: &str, faults: &mut Faults) {
    let given: Vec<&str> = HANDLERS.into_iter().filter(|name| probe.get(*name).is_some()).collect();
    match given.as_slice() {
        [] => faults.required(path, "must specify a handler type"),
        [_] => {}
        [_, more @ ..] => {
            for name in more {
                faults.forbidden(format!("{path}.{name}"), "may not specify more than 1 handler type");
            }
        }
    }
    for name in ["httpGet", "tcpSocket"] {
        if let Some(port) = probe.get(name).and_then(|handler| handler.get("port")) {
            validation::port_or_name(&format!("{path}.{name}.port"), Some(port), faults);
        }
    }
    if probe.get("exec").is_some() && fields::list(probe, "/exec/command").is_empty() {
        faults.required(format!("{path}.exec.command"), "");
    }
}
