//! Where a proxied request goes: a pod's address, a ready endpoint of a service, the agent of a node. A name may say how
//! to speak and to which port: `https:web:metrics`.

use super::{Backend, Link, pod as object};
use crate::controllers::endpoint_slice::SERVICE_NAME;
use crate::random;
use crate::registry::fields;
use crate::server::{Call, Server};
use knarr_api::{Status, meta};
use serde_json::Value;
use std::net::IpAddr;

/// Scheme, name and port of `scheme:name:port`, the first and the last of them optional.
fn split<'a>(name: &'a str, kind: &str) -> Result<(&'a str, &'a str, &'a str), Status> {
    match name.split(':').collect::<Vec<_>>().as_slice() {
        [name] => Ok(("http", name, "")),
        [name, port] => Ok(("http", name, port)),
        [scheme @ ("http" | "https" | ""), name, port] => Ok((scheme, name, port)),
        _ => Err(Status::bad_request(format!("invalid {kind} request {name:?}"))),
    }
}

fn link(scheme: &str) -> Link {
    if scheme == "https" { Link::Tls } else { Link::Plain }
}

fn path(call: &Call) -> String {
    let path = format!("/{}", call.path.rest.as_deref().unwrap_or_default());
    if call.query.raw.is_empty() { path } else { format!("{path}?{}", call.query.raw) }
}

/// A pod; the port of its first container that names one, where the request names none.
pub(super) async fn pod(server: &Server, call: &Call) -> Result<Backend, Status> {
    let (scheme, name, port) = split(call.path.name(), "pod")?;
    let pod = object(server, call, name).await?;
    let address = fields::text(&pod, "/status/podIP").parse();
    let address: IpAddr = address.map_err(|_| Status::bad_request("address not allowed"))?;
    let first = |container: &Value| fields::int(container, "/ports/0/containerPort");
    let declared = fields::list(&pod, "/spec/containers").iter().find_map(first);
    let port = port.parse().ok().or_else(|| declared.and_then(|port| u16::try_from(port).ok()));
    let link = link(scheme);
    let port = port.unwrap_or(if link == Link::Tls { 443 } else { 80 });
    Ok(Backend { address, port, link, path: path(call) })
}

/// One of the ready endpoints of a service, whichever: the server need not be where the service's own address leads.
pub(super) async fn service(server: &Server, call: &Call) -> Result<Backend, Status> {
    let (scheme, name, wanted) = split(call.path.name(), "service")?;
    let service = object(server, call, name).await?;
    let port = port_name(&service, wanted)?;
    let prefix = format!("discovery.k8s.io/endpointslices/{}/", call.path.namespace());
    let mut slices = server.objects_below(&prefix).await?;
    slices.retain(|slice| {
        meta::labels(slice).and_then(|labels| labels.get(SERVICE_NAME)?.as_str()) == Some(name)
    });
    let mut endpoints = ready(&slices, &port);
    if endpoints.is_empty() {
        let asked = call.path.name();
        return Err(Status::unavailable(format!("no endpoints available for service {asked:?}")));
    }
    let chosen = random::below(endpoints.len() as u64);
    let (address, port) = endpoints.swap_remove(usize::try_from(chosen).unwrap_or(0));
    Ok(Backend { address, port, link: link(scheme), path: path(call) })
}

/// The name of the port that is meant: by its name, or by the number under which the service offers it.
fn port_name(service: &Value, wanted: &str) -> Result<String, Status> {
    let Ok(number) = wanted.parse::<i64>() else { return Ok(wanted.to_owned()) };
    let is_it = |port: &&Value| fields::int(port, "/port") == Some(number);
    let found = fields::list(service, "/spec/ports").iter().find(is_it);
    let name = meta::name(service);
    let missing = || Status::unavailable(format!("no service port {number} found for service {name:?}"));
    found.map(|port| fields::text(port, "/name").to_owned()).ok_or_else(missing)
}

/// Every address and port behind the named port that takes requests.
fn ready(slices: &[Value], name: &str) -> Vec<(IpAddr, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let port = fields::list(slice, "/ports").iter().find(|port| fields::text(port, "/name") == name);
        let number = port.and_then(|port| u16::try_from(fields::int(port, "/port")?).ok());
        let Some(number) = number else { continue };
        for endpoint in fields::list(slice, "/endpoints") {
            let is_ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
            let addresses = fields::list(endpoint, "/addresses").iter().filter(|_| is_ready);
            let addresses = addresses.filter_map(|address| address.as_str()?.parse().ok());
            found.extend(addresses.map(|address| (address, number)));
        }
    }
    found
}

/// The agent of a node, or another port of its machine.
pub(super) async fn node(server: &Server, call: &Call) -> Result<Backend, Status> {
    let (_, name, wanted) = split(call.path.name(), "node")?;
    let (address, port) = server.kubelet_address(name).await?;
    let port = wanted.parse().unwrap_or(port);
    Ok(Backend { address, port, link: Link::Agent, path: path(call) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn targets() {
        for (name, expected) in [
            ("web", ("http", "web", "")),
            ("web:80", ("http", "web", "80")),
            ("https:web:443", ("https", "web", "443")),
            ("http:web:", ("http", "web", "")),
        ] {
            assert_eq!(split(name, "pod").unwrap(), expected);
        }
        assert_eq!(
            split("ftp:web:1", "service").unwrap_err().message,
            "invalid service request \"ftp:web:1\""
        );
    }

    #[test]
    fn ready_endpoints_by_the_name_of_their_port() {
        let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "a", "port": 80}, {"port": 81}]}});
        assert_eq!(port_name(&service, "80").unwrap(), "a");
        assert_eq!(port_name(&service, "81").unwrap(), "");
        assert_eq!(port_name(&service, "b").unwrap(), "b");
        assert_eq!(
            port_name(&service, "9").unwrap_err().message,
            "no service port 9 found for service \"web\""
        );
        let slice = json!({"ports": [{"name": "a", "port": 8080}, {"name": "", "port": 8081}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}}, {"addresses": ["10.0.0.2"]},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false}}]});
        let address = |last: u8, port: u16| (IpAddr::from([10, 0, 0, last]), port);
        let slices = [slice];
        assert_eq!(ready(&slices, "a"), [address(1, 8080), address(2, 8080)]);
        assert_eq!(ready(&slices, ""), [address(1, 8081), address(2, 8081)]);
        assert!(ready(&slices, "b").is_empty());
    }
}
