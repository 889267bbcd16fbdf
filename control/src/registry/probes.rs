//! Probes and lifecycle hooks of containers: defaults and rules.

use super::faults::Faults;
use super::{fields, validation};
use serde_json::{Value, json};

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
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
        handler(probe, &HANDLERS, &path, faults);
        let grace = fields::int(probe, "/terminationGracePeriodSeconds");
        if let Some(grace) = grace {
            grace_of(name, grace, &format!("{path}.terminationGracePeriodSeconds"), faults);
        }
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

/// A probe that ends its container may say how long the end may take.
fn grace_of(probe: &str, grace: i64, field: &str, faults: &mut Faults) {
    if probe == "readinessProbe" {
        faults.invalid(field, &json!(grace), "must not be set for readinessProbes");
    } else if grace <= 0 {
        faults.invalid(field, &json!(grace), "must be greater than 0");
    }
}

/// Every fault of what is run after the start of a container and before its end.
pub(super) fn hooks(container: &Value, grace: i64, path: &str, faults: &mut Faults) {
    for hook in ["postStart", "preStop"] {
        let Some(found) = container.pointer(&format!("/lifecycle/{hook}")) else { continue };
        let path = format!("{path}.lifecycle.{hook}");
        handler(found, &["exec", "httpGet", "tcpSocket", "sleep"], &path, faults);
        if let Some(seconds) =
            fields::int(found, "/sleep/seconds").filter(|seconds| !(0..=grace).contains(seconds))
        {
            let detail =
                format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            faults.invalid(format!("{path}.sleep"), &json!(seconds), &detail);
        }
    }
}

fn handler(probe: &Value, handlers: &[&str], path: &str, faults: &mut Faults) {
    let given: Vec<&str> = handlers.iter().copied().filter(|name| probe.get(*name).is_some()).collect();
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
    if let Some(request) = probe.get("httpGet") {
        http_request(request, &format!("{path}.httpGet"), faults);
    }
    if let Some(call) = probe.get("grpc") {
        let port = fields::int(call, "/port").unwrap_or(0);
        validation::port_number(&format!("{path}.grpc.port"), port, faults);
    }
    if probe.get("exec").is_some() && fields::list(probe, "/exec/command").is_empty() {
        faults.required(format!("{path}.exec.command"), "");
    }
}

fn http_request(request: &Value, path: &str, faults: &mut Faults) {
    let scheme = fields::text(request, "/scheme");
    validation::optional_choice(&format!("{path}.scheme"), scheme, &["HTTP", "HTTPS"], faults);
    for header in fields::list(request, "/httpHeaders") {
        let name = fields::text(header, "/name");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || !name.bytes().all(plain) {
            faults.invalid(format!("{path}.httpHeaders"), &json!(name), HEADER);
        }
    }
}
