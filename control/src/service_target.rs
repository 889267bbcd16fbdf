//! Where a service of the cluster can be reached from here: its ready endpoints, because the way through its own
//! address needs a node agent on this machine. Webhooks and other API servers are called there.

use crate::registry::fields;
use crate::server::Server;
use knarr_api::meta;
use serde_json::Value;

/// A service and one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: i64,
}

/// Host and port to connect to.
pub(crate) type Target = (String, u16);

/// Why a service cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The store did not answer.
    Access(String),
    NoService,
    NoPort,
    /// Nobody has said yet where its endpoints are.
    NoEndpoints,
    /// None of them is ready at the port of that name.
    NoneReady(String),
}

impl Service {
    /// From a reference as webhooks and API services have it.
    pub(crate) fn of(reference: &Value) -> Self {
        let text = |field: &str| fields::text(reference, field).to_owned();
        let port = fields::int(reference, "/port").unwrap_or(443);
        Self { namespace: text("/namespace"), name: text("/name"), port }
    }

    /// What its certificate must say.
    pub(crate) fn dns_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// Everywhere it can be reached, or why nowhere.
    pub(crate) async fn targets(&self, server: &Server) -> Result<Vec<Target>, Fault> {
        let (namespace, name) = (&self.namespace, &self.name);
        let access = |status: knarr_api::Status| Fault::Access(status.message);
        let service = server.object_at(&format!("core/services/{namespace}/{name}")).await.map_err(access)?;
        let service = service.ok_or(Fault::NoService)?;
        let prefix = format!("discovery.k8s.io/endpointslices/{namespace}/");
        let mut slices = server.objects_below(&prefix).await.map_err(access)?;
        slices.retain(|slice| meta::label(slice, "kubernetes.io/service-name") == Some(name));
        reachable(&service, &slices, self.port)
    }
}

fn reachable(service: &Value, slices: &[Value], port: i64) -> Result<Vec<Target>, Fault> {
    if fields::text(service, "/spec/type") == "ExternalName" {
        let number = u16::try_from(port).map_err(|_| Fault::NoPort)?;
        return Ok(vec![(fields::text(service, "/spec/externalName").to_owned(), number)]);
    }
    let mut ports = fields::list(service, "/spec/ports").iter();
    let wanted = ports.find(|one| fields::int(one, "/port") == Some(port)).ok_or(Fault::NoPort)?;
    if slices.is_empty() {
        return Err(Fault::NoEndpoints);
    }
    let name = fields::text(wanted, "/name");
    let targets: Vec<Target> = slices.iter().flat_map(|slice| ready(slice, name)).collect();
    if targets.is_empty() { Err(Fault::NoneReady(name.to_owned())) } else { Ok(targets) }
}

fn ready(slice: &Value, port: &str) -> Vec<Target> {
    let mut ports = fields::list(slice, "/ports").iter();
    let named = ports.find(|one| fields::text(one, "/name") == port);
    let number = named.and_then(|one| u16::try_from(fields::int(one, "/port")?).ok());
    let Some(number) = number else { return Vec::new() };
    let endpoints = fields::list(slice, "/endpoints").iter();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    ready.map(|endpoint| (fields::text(endpoint, "/addresses/0").to_owned(), number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_that_are_ready_at_the_port() {
        let service =
            json!({"spec": {"ports": [{"name": "https", "port": 443}, {"name": "other", "port": 444}]}});
        let slice = json!({"ports": [{"name": "https", "port": 8443}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"], "conditions": {"ready": true}}]});
        let slices = [slice];
        assert_eq!(reachable(&service, &slices, 443), Ok(vec![("10.0.0.2".to_owned(), 8443)]));
        assert_eq!(reachable(&service, &slices, 444), Err(Fault::NoneReady("other".to_owned())));
        assert_eq!(reachable(&service, &slices, 80), Err(Fault::NoPort));
        assert_eq!(reachable(&service, &[], 443), Err(Fault::NoEndpoints));
        let external = json!({"spec": {"type": "ExternalName", "externalName": "api.example.com"}});
        assert_eq!(reachable(&external, &[], 6443), Ok(vec![("api.example.com".to_owned(), 6443)]));
    }
}
