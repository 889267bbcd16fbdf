//! Lifecycle hooks: what runs in or against a container right after its start and right before its stop.

use crate::kubelet::events::Severity;
use crate::kubelet::host::Host;
use crate::kubelet::http_call::{HttpCall, headers, is_plain};
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knarr_cri::v1::ExecSyncRequest;
use std::time::Duration;

/// Longest wait for an answer of an HTTP hook; the grace period bounds it further.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs one hook to its end; the error is for `status`, and too private for an event.
pub async fn run(
    host: &Host,
    hook: &LifecycleHandler,
    pod: &Pod,
    container: &Container,
    container_id: &str,
    pod_ip: &str,
) -> Result<(), String> {
    let done = run_one(host, hook, pod, container, container_id, pod_ip).await;
    done.map_err(|error| {
        let name = &container.name;
        format!(
            "{} for Container \"{name}\" in Pod \"{}\" failed - error: {error}",
            named(hook),
            pod::described(pod)
        )
    })
}

/// The hook as messages call it.
fn named(hook: &LifecycleHandler) -> String {
    if let Some(exec) = &hook.exec {
        return format!("Exec lifecycle hook ([{}])", exec.command.clone().unwrap_or_default().join(" "));
    }
    if let Some(get) = &hook.http_get {
        return format!("HTTP lifecycle hook ({})", get.path.as_deref().unwrap_or_default());
    }
    match &hook.sleep {
        Some(sleep) => format!("Sleep lifecycle hook ({})", sleep.seconds),
        None => "Lifecycle hook".to_string(),
    }
}

async fn run_one(
    host: &Host,
    hook: &LifecycleHandler,
    pod: &Pod,
    container: &Container,
    container_id: &str,
    pod_ip: &str,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        return run_exec(host, container_id, exec.command.clone().unwrap_or_default()).await;
    }
    if let Some(get) = &hook.http_get {
        let port = port_number(&get.port, container).ok_or("the hook's port is unknown")?;
        let call = HttpCall {
            https: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_string()),
            port,
            path: absolute(get.path.as_deref()),
            agent: "kube-lifecycle",
            headers: headers(get.http_headers.as_ref()),
        };
        return request(host, pod, call).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    if let Some(tcp) = &hook.tcp_socket {
        let port = port_number(&tcp.port, container).ok_or("the hook's port is unknown")?;
        return tokio::net::TcpStream::connect((pod_ip, port))
            .await
            .map(drop)
            .map_err(|error| error.to_string());
    }
    Err("invalid handler: it names no action".to_string())
}

/// Hooks once spoke no TLS whatever their scheme: a server that does not is asked again without, and without what is not
/// for every ear.
async fn request(host: &Host, pod: &Pod, call: HttpCall) -> Result<(), String> {
    let Err(error) = call.get(HTTP_TIMEOUT).await else { return Ok(()) };
    if !call.https || !is_plain(&error) {
        return Err(error);
    }
    let secret = |name: &str| name.eq_ignore_ascii_case("authorization");
    let headers = call.headers.iter().filter(|(name, _)| !secret(name)).cloned().collect();
    let plain = HttpCall { https: false, headers, ..call };
    plain.get(HTTP_TIMEOUT).await.map_err(|_| error)?;
    let text = format!(
        "request to HTTPS lifecycle hook {} got HTTP response, retry with HTTP succeeded",
        plain.authority()
    );
    host.recorder.pod(pod, Severity::Warning, "LifecycleHTTPFallback", text);
    Ok(())
}

async fn run_exec(host: &Host, container_id: &str, cmd: Vec<String>) -> Result<(), String> {
    let words = cmd.join(" ");
    let request = ExecSyncRequest { container_id: container_id.to_string(), cmd, timeout: 0 };
    let answer = host.runtime.exec_sync(request).await.map_err(|status| status.message().to_string())?;
    if answer.exit_code == 0 {
        return Ok(());
    }
    let output = [answer.stdout, answer.stderr].concat();
    let output = String::from_utf8_lossy(&output[..output.len().min(1024)]).into_owned();
    Err(format!("command '{words}' exited with {}: , message: {output:?}", answer.exit_code))
}

/// A path with its leading slash.
pub fn absolute(path: Option<&str>) -> String {
    match path.unwrap_or_default() {
        path if path.starts_with('/') => path.to_string(),
        path => format!("/{path}"),
    }
}

/// A port by number, or by the name it has in the container.
pub fn port_number(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())?
        }
    };
    u16::try_from(number).ok().filter(|port| *port > 0)
}
