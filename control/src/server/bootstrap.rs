//! The objects that every cluster has from the beginning: the first namespaces, and the service by which pods reach
//! the API server.

use super::Server;
use super::change::Manner;
use super::flow_control::defaults;
use crate::aggregation::local;
use crate::authn::front_proxy;
use crate::registry::Resource;
use crate::store::{Draft, StoreError};
use futures_util::future::try_join_all;
use knarr_api::{Status, meta};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

mod cluster_info;
mod roles;
mod system_roles;
mod upkeep;

const RBAC: &str = "rbac.authorization.k8s.io";
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

impl Server {
    /// Creates what is missing; `advertised` is where the API server can be reached.
    pub(crate) async fn bootstrap(&self, advertised: SocketAddr, ca_pem: &str) -> Result<(), Status> {
        let namespaces = self.row("", "v1", "namespaces")?;
        let namespace =
            |name: &str| json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}});
        try_join_all(NAMESPACES.iter().map(|name| self.ensure(&namespaces, "", namespace(name)))).await?;
        let (mut roles, mut bindings) = (roles::cluster_roles(), roles::cluster_role_bindings());
        roles.extend(system_roles::cluster_roles());
        bindings.extend(system_roles::cluster_role_bindings());
        let role = self.row(RBAC, "v1", "clusterroles")?;
        let binding = self.row(RBAC, "v1", "clusterrolebindings")?;
        // Together, so that one commit to the disk serves all.
        let roles = try_join_all(roles.into_iter().map(|object| self.keep(&role, "", object)));
        let bindings = try_join_all(bindings.into_iter().map(|object| self.keep(&binding, "", object)));
        let info = self.cluster_info(advertised, ca_pem);
        let service = self.kubernetes_service(advertised);
        let authentication = self.authentication(ca_pem);
        let services = self.api_services();
        let rest =
            async { tokio::try_join!(self.system_priorities(), service, info, self.flows(), services) };
        tokio::try_join!(roles, bindings, authentication, rest).map(drop)
    }

    /// Who serves which of our own groups: we do.
    async fn api_services(&self) -> Result<(), Status> {
        let row = self.row("apiregistration.k8s.io", "v1", "apiservices")?;
        let objects = local::builtin(&self.table.all());
        let keep = |object| self.amend(&row, "", object, local::restore);
        try_join_all(objects.into_iter().map(keep)).await.map(drop)
    }

    /// The CA of clients, and that of servers which vouch for users, for add-ons that serve an API of their own.
    async fn authentication(&self, ca_pem: &str) -> Result<(), Status> {
        const NAMESPACE: &str = "kube-system";
        let maps = self.row("", "v1", "configmaps")?;
        let role = self.row(RBAC, "v1", "roles")?;
        let binding = self.row(RBAC, "v1", "rolebindings")?;
        let name = system_roles::AUTHENTICATION;
        let map = json!({"metadata": {"name": name}, "data": {
            "client-ca-file": ca_pem, "requestheader-client-ca-file": self.aggregation.ca_pem(),
            "requestheader-allowed-names": json!([front_proxy::NAME]).to_string(),
            "requestheader-username-headers": json!([front_proxy::USER]).to_string(),
            "requestheader-group-headers": json!([front_proxy::GROUP]).to_string(),
            "requestheader-extra-headers-prefix": json!([front_proxy::EXTRA]).to_string(),
        }});
        let map = self.amend(&maps, NAMESPACE, map, |found, wanted| {
            // Another server of the same store may have an authority of its own.
            let others = ["client-ca-file", "requestheader-client-ca-file"]
                .map(|key| (key, found["data"][key].as_str().unwrap_or_default().to_owned()));
            found["data"] = wanted["data"].clone();
            for (key, others) in others {
                let own = wanted["data"][key].as_str().unwrap_or_default();
                let all = if others.contains(own.trim()) { others } else { format!("{others}{own}") };
                found["data"][key] = all.into();
            }
        });
        let role = self.keep(&role, NAMESPACE, system_roles::authentication_reader());
        let binding = self.keep(&binding, NAMESPACE, system_roles::authentication_readers());
        tokio::try_join!(map, role, binding).map(drop)
    }

    /// Kubernetes' own priority levels, and what belongs to which.
    async fn flows(&self) -> Result<(), Status> {
        const GROUP: &str = "flowcontrol.apiserver.k8s.io";
        let level = self.row(GROUP, "v1", "prioritylevelconfigurations")?;
        let schema = self.row(GROUP, "v1", "flowschemas")?;
        let levels = try_join_all(defaults::levels().into_iter().map(|one| self.ensure(&level, "", one)));
        let schemas = try_join_all(defaults::schemas().into_iter().map(|one| self.ensure(&schema, "", one)));
        tokio::try_join!(levels, schemas).map(drop)
    }

    /// The classes of what a node or the cluster cannot do without.
    async fn system_priorities(&self) -> Result<(), Status> {
        let classes = self.row("scheduling.k8s.io", "v1", "priorityclasses")?;
        let class = |name: &str, value: i64, what: &str| {
            let description = format!("Used for system critical pods that must {what}.");
            json!({"metadata": {"name": name}, "value": value, "description": description})
        };
        let node = class("system-node-critical", 2_000_001_000, "not be moved from their current node");
        let cluster = class(
            "system-cluster-critical",
            2_000_000_000,
            "run in the cluster, but can be moved to another node if necessary",
        );
        tokio::try_join!(self.ensure(&classes, "", node), self.ensure(&classes, "", cluster)).map(drop)
    }

    fn row(&self, group: &str, version: &str, plural: &str) -> Result<Arc<Resource>, Status> {
        self.table
            .find(group, version, plural)
            .ok_or_else(|| Status::internal(format!("no resource {plural}")))
    }

    /// Creates an object unless it is there.
    pub(crate) async fn ensure(
        &self,
        resource: &Resource,
        namespace: &str,
        mut object: Value,
    ) -> Result<(), Status> {
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = (&*resource.kind).into();
        let key = super::stored::key(resource, namespace, meta::name(&object));
        if self.store.get(&key).await.map_err(Status::internal)?.is_some() {
            return Ok(());
        }
        match self.insert(resource, namespace, object, &Manner::OWN).await {
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            other => other.map(drop),
        }
    }

    /// `default/kubernetes` and its endpoints, which follow the server when its address changes.
    async fn kubernetes_service(&self, advertised: SocketAddr) -> Result<(), Status> {
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let port = json!({"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertised.port()});
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {"type": "ClusterIP", "clusterIP": self.addresses.kubernetes().to_string(), "ports": [port]},
        });
        let ranges = self.row("networking.k8s.io", "v1", "servicecidrs")?;
        let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": self.addresses.cidrs()}});
        self.ensure(&ranges, "", range).await?;
        let services = self.row("", "v1", "services")?;
        self.ensure(&services, "default", service).await?;
        let port = json!({"name": "https", "port": advertised.port(), "protocol": "TCP"});
        let address = advertised.ip().to_string();
        let slice = json!({
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if advertised.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [address.clone()], "conditions": {"ready": true}}],
            "ports": [port.clone()],
        });
        let endpoints = json!({
            "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address}], "ports": [port]}],
        });
        let slices = self.row("discovery.k8s.io", "v1", "endpointslices")?;
        self.put(&slices, "default", slice).await?;
        let row = self.row("", "v1", "endpoints")?;
        self.put(&row, "default", endpoints).await
    }

    /// Creates an object, or makes its content what it must be.
    async fn put(&self, resource: &Resource, namespace: &str, wanted: Value) -> Result<(), Status> {
        self.amend(resource, namespace, wanted, |object, wanted| {
            let content = wanted.as_object().into_iter().flatten().filter(|(field, _)| *field != "metadata");
            for (field, value) in content {
                object[field.as_str()] = value.clone();
            }
        })
        .await
    }

    /// Creates a role or binding, or adds what it lacks.
    async fn keep(&self, resource: &Resource, namespace: &str, wanted: Value) -> Result<(), Status> {
        self.amend(resource, namespace, upkeep::kept(wanted), upkeep::complete).await
    }

    /// Creates an object, or changes the one that is there.
    async fn amend(
        &self,
        resource: &Resource,
        namespace: &str,
        wanted: Value,
        change: impl Fn(&mut Value, &Value),
    ) -> Result<(), Status> {
        self.ensure(resource, namespace, wanted.clone()).await?;
        let key = super::stored::key(resource, namespace, meta::name(&wanted));
        let Some(entry) = self.store.get(&key).await.map_err(Status::internal)? else { return Ok(()) };
        let mut object = entry.object();
        change(&mut object, &wanted);
        if object == entry.object() {
            return Ok(());
        }
        match self.store.update(&key, entry.revision, Draft::of(&object)).await {
            // Another server of the same store was faster.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(Status::internal(error)),
        }
    }
}
