//! One attempt of a probe.

use super::{grpc, seconds};
use crate::kubelet::env;
use crate::kubelet::hooks::{absolute, port_number};
use crate::kubelet::host::{Host, rpc_error};
use crate::kubelet::http_call::{HttpCall, dial_error, headers};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knarr_cri::Code;
use knarr_cri::v1::ExecSyncRequest;
use std::time::Duration;

/// Most bytes of output in a message.
const OUTPUT_LIMIT: usize = 10 * 1024;

/// Why a probe did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// The container is not well.
    Failed(String),
    /// It could not be asked.
    Errored(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Refused {
        Refused::Failed(reason)
    }
}

impl Refused {
    /// As the event says it of the probe with this name.
    pub(super) fn told(&self, probe: &str) -> String {
        match self {
            Refused::Failed(reason) => format!("{probe} probe failed: {reason}"),
            Refused::Errored(reason) => {
                format!("{probe} probe errored and resulted in unknown state: {reason}")
            }
        }
    }
}

/// A success; what must be told of it although it is one.
pub(super) type Passed = Option<String>;

/// Probes once.
pub(super) async fn attempt(
    host: &Host,
    container: &Container,
    probe: &Probe,
    container_id: &str,
    ip: &str,
) -> Result<Passed, Refused> {
    let timeout = seconds(probe.timeout_seconds, 1);
    let port = |port| port_number(port, container).ok_or_else(|| Refused::Errored(no_port(port)));
    if let Some(exec) = &probe.exec {
        let command = expanded(exec.command.as_deref().unwrap_or_default(), container);
        return exec_probe(host, container_id, command, timeout).await.map(|()| None);
    }
    if let Some(get) = &probe.http_get {
        return Ok(http_probe(get, port(&get.port)?, ip, timeout).await?);
    }
    if let Some(tcp) = &probe.tcp_socket {
        let to = tcp.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
        tcp_probe(to, port(&tcp.port)?, timeout).await?;
        return Ok(None);
    }
    if let Some(check) = &probe.grpc {
        let number = u16::try_from(check.port).map_err(|error| error.to_string())?;
        grpc::check(ip, number, check.service.as_deref().unwrap_or_default(), timeout).await?;
        return Ok(None);
    }
    Err(Refused::Errored("missing probe handler".to_string()))
}

/// A command knows the variables that its container's spec gives values; those from elsewhere are empty to it.
fn expanded(command: &[String], container: &Container) -> Vec<String> {
    let lookup = |name: &str| {
        let found = container.env.iter().flatten().rev().find(|variable| variable.name == name)?;
        Some(found.value.as_deref().unwrap_or_default())
    };
    command.iter().map(|word| env::expand(word, &lookup)).collect()
}

/// What a kubelet says of a name that no port has, which it tries as a number.
fn no_port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("strconv.Atoi: parsing {name:?}: invalid syntax"),
    }
}

async fn exec_probe(host: &Host, id: &str, cmd: Vec<String>, timeout: Duration) -> Result<(), Refused> {
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(1);
    let words = cmd.join(" ");
    let request = ExecSyncRequest { container_id: id.to_string(), cmd, timeout: seconds };
    let answer =
        tokio::time::timeout(timeout + Duration::from_secs(5), host.runtime.exec_sync(request)).await;
    let timed_out = || Refused::Failed(format!("command timed out: \"{words}\" timed out after {seconds}s"));
    let answer = match answer {
        Err(_) => return Err(timed_out()),
        Ok(Err(status)) if status.code() == Code::DeadlineExceeded => return Err(timed_out()),
        Ok(Err(status)) => return Err(Refused::Errored(rpc_error(&status))),
        Ok(Ok(answer)) => answer,
    };
    if answer.exit_code == 0 {
        return Ok(());
    }
    let output = [answer.stdout, answer.stderr].concat();
    Err(String::from_utf8_lossy(&output[..output.len().min(OUTPUT_LIMIT)]).into_owned().into())
}

async fn http_probe(get: &HTTPGetAction, port: u16, ip: &str, timeout: Duration) -> Result<Passed, String> {
    let call = HttpCall {
        https: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| ip.to_string()),
        port,
        path: absolute(get.path.as_deref()),
        agent: "kube-probe",
        headers: headers(get.http_headers.as_ref()),
    };
    let (status, body) = call.get(timeout).await?;
    match status.as_u16() {
        200..300 => Ok(None),
        300..400 => Ok(Some(format!("Probe terminated redirects, Response body: {body}"))),
        other => Err(format!("HTTP probe failed with statuscode: {other}")),
    }
}

async fn tcp_probe(to: &str, port: u16, timeout: Duration) -> Result<(), String> {
    let address = format!("{to}:{port}");
    match tokio::time::timeout(timeout, tokio::net::TcpStream::connect((to, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(dial_error("tcp", &address, &error)),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_know_the_variables_of_the_spec() {
        let container = Container {
            env: serde_json::from_value(
                serde_json::json!([{"name": "A", "value": "old"}, {"name": "A", "value": "a"},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            )
            .unwrap(),
            ..Container::default()
        };
        let words = ["$(A)", "x$(F)y", "$(B)", "$$(A)"].map(str::to_owned);
        assert_eq!(expanded(&words, &container), ["a", "xy", "$(B)", "$(A)"]);
    }

    #[test]
    fn what_could_not_be_asked_is_told_apart() {
        let name = Refused::Errored(no_port(&IntOrString::String("http".into())));
        let text = "Readiness probe errored and resulted in unknown state: strconv.Atoi: parsing \"http\": invalid syntax";
        assert_eq!(name.told("Readiness"), text);
        assert_eq!(no_port(&IntOrString::Int(0)), "invalid port number: 0");
        assert_eq!(Refused::from("no".to_owned()).told("Liveness"), "Liveness probe failed: no");
    }
}
