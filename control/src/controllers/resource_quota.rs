//! ResourceQuota: its status shows what a namespace uses of what it may. Admission does not go by it, it counts for
//! itself.

use super::informer::{Key, Lister, Watched};
use super::runner::{Next, Reconcile, is_not_found};
use super::status;
use super::wiring::{Plane, Task, Wire};
use crate::quota::{self, Amounts};
use crate::registry::{Resource, Table};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, ReplicationController, ResourceQuota, ResourceQuotaStatus, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Kinds that nobody here watches are counted this often.
const PERIOD: Duration = Duration::from_secs(30);

/// Woken by quotas, and by what comes and goes in their namespaces.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("resourcequota", plane);
    let quotas = wire.keys::<ResourceQuota>();
    follow::<Pod>(&mut wire, &quotas, super::pods::is_terminal);
    follow::<PersistentVolumeClaim>(&mut wire, &quotas, |_| false);
    follow::<Service>(&mut wire, &quotas, |_| false);
    follow::<ConfigMap>(&mut wire, &quotas, |_| false);
    follow::<ReplicationController>(&mut wire, &quotas, |_| false);
    follow::<Deployment>(&mut wire, &quotas, |_| false);
    follow::<StatefulSet>(&mut wire, &quotas, |_| false);
    follow::<Job>(&mut wire, &quotas, |_| false);
    let table = Table::builtin();
    let rows = table.all().into_iter().filter(|row| row.namespaced && row.stored_as.is_none()).collect();
    let controller = Quotas { client: wire.client(), quotas, rows };
    wire.run(1, controller)
}

/// Wakes the quotas of a namespace when an object of a kind comes or goes there, or ends.
fn follow<K: Watched>(wire: &mut Wire<'_>, quotas: &Lister<ResourceQuota>, ended: fn(&K) -> bool) {
    let quotas = quotas.clone();
    wire.woken_by::<K>(move |old, new, queue| {
        let counts = |object: Option<&Arc<K>>| object.is_some_and(|object| !ended(object));
        if counts(old) != counts(new)
            && let Some(object) = new.or(old)
        {
            let namespace = object.meta().namespace.clone().unwrap_or_default();
            quotas.in_namespace(&namespace).iter().for_each(|quota| queue.add(Key::of(&**quota)));
        }
    });
}

/// Everything one reconcile needs.
pub(crate) struct Quotas {
    client: Client,
    quotas: Lister<ResourceQuota>,
    /// What can be counted: one row per kind that is stored.
    rows: Vec<Arc<Resource>>,
}

impl Reconcile for Quotas {
    /// Counts anew what one quota constrains.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(object) = self.quotas.get(&key) else { return Ok(Next::Wait) };
        let value = serde_json::to_value(&*object).map_err(kube::Error::SerdeError)?;
        let mut used = Amounts::new();
        for row in self.rows.iter().filter(|row| quota::concerns(&value, row)) {
            let objects = self.objects(row, &key.namespace).await?;
            quota::add(&mut used, &quota::usage(&value, row, &objects, Timestamp::now()));
        }
        for name in uncounted(&object, &self.rows) {
            let count = self.custom(name, &key.namespace).await?;
            quota::add(
                &mut used,
                &quota::amounts(Some(&json!({format!("count/{name}"): count.to_string()}))),
            );
        }
        let status = status_of(&object, &used);
        if object.status.as_ref() != Some(&status) {
            let written = ResourceQuota { status: Some(status), ..(*object).clone() };
            status::replace(&self.client, &written).await?;
        }
        Ok(Next::After(PERIOD))
    }
}

impl Quotas {
    async fn objects(&self, row: &Resource, namespace: &str) -> Result<Vec<Value>, kube::Error> {
        let root = if row.group.is_empty() { "/api" } else { "/apis" };
        let path = format!("{root}/{}/namespaces/{namespace}/{}", row.api_version(), row.plural);
        let mut list = self.get(path).await?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// How many custom resources there are of a definition; none where there is no such definition.
    async fn custom(&self, definition: &str, namespace: &str) -> Result<usize, kube::Error> {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition}");
        let found = match self.get(path).await {
            Err(error) if is_not_found(&error) => self.foreign(definition, namespace).await?,
            other => path_of(&other?, namespace),
        };
        let Some(objects) = found else { return Ok(0) };
        match self.get(objects).await {
            // It is going, or not served yet.
            Err(error) if is_not_found(&error) => Ok(0),
            other => Ok(other?["items"].as_array().map_or(0, Vec::len)),
        }
    }

    /// Where the objects of a resource are listed that has no definition here: another server may have it.
    async fn foreign(&self, name: &str, namespace: &str) -> Result<Option<String>, kube::Error> {
        let Some((plural, group)) = name.split_once('.') else { return Ok(None) };
        let found = match self.get(format!("/apis/{group}")).await {
            Err(error) if is_not_found(&error) => return Ok(None),
            other => other?,
        };
        let version = found["preferredVersion"]["groupVersion"].as_str();
        Ok(version.map(|version| format!("/apis/{version}/namespaces/{namespace}/{plural}")))
    }

    async fn get(&self, path: String) -> Result<Value, kube::Error> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
        self.client.request(request).await
    }
}

/// `PLURAL.GROUP` of each constrained count of a kind that is not among the rows.
fn uncounted<'a>(object: &'a ResourceQuota, rows: &[Arc<Resource>]) -> Vec<&'a str> {
    let hard = object.spec.iter().flat_map(|spec| spec.hard.iter().flatten());
    let counted = hard.filter_map(|(name, _)| name.strip_prefix("count/")).filter(|name| name.contains('.'));
    let known = |name: &str| rows.iter().any(|row| name.split_once('.') == Some((&*row.plural, &*row.group)));
    counted.filter(|name| !known(name)).collect()
}

/// Where the objects of a definition are listed, if they are in namespaces.
fn path_of(definition: &Value, namespace: &str) -> Option<String> {
    let spec = definition.get("spec").filter(|spec| spec["scope"] == "Namespaced")?;
    let version = spec["versions"].as_array()?.iter().find(|version| version["served"] == true)?;
    let (group, version, plural) =
        (spec["group"].as_str()?, version["name"].as_str()?, spec.pointer("/names/plural")?.as_str()?);
    Some(format!("/apis/{group}/{version}/namespaces/{namespace}/{plural}"))
}

/// Everything that is constrained, with zero where nothing is used.
fn status_of(object: &ResourceQuota, used: &Amounts) -> ResourceQuotaStatus {
    let hard = object.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
    let amount = |name: &String| used.get(name).map_or_else(|| "0".to_owned(), ToString::to_string);
    let used: BTreeMap<String, Quantity> =
        hard.keys().map(|name| (name.clone(), Quantity(amount(name)))).collect();
    ResourceQuotaStatus { hard: Some(hard), used: Some(used) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_custom_resources_are_found_by_their_definition() {
        let hard =
            json!({"count/foos.example.com": "1", "count/jobs.batch": "1", "count/pods": "2", "pods": "1"});
        let quota = serde_json::from_value(json!({"spec": {"hard": hard}})).unwrap();
        assert_eq!(uncounted(&quota, &Table::builtin().all()), ["foos.example.com"]);
        let versions = json!([{"name": "v1", "served": false}, {"name": "v2", "served": true}]);
        let mut definition = json!({"spec": {"scope": "Namespaced", "group": "example.com", "versions": versions,
            "names": {"plural": "foos"}}});
        assert_eq!(path_of(&definition, "n").as_deref(), Some("/apis/example.com/v2/namespaces/n/foos"));
        definition["spec"]["scope"] = "Cluster".into();
        assert_eq!(path_of(&definition, "n"), None);
    }

    #[test]
    fn what_is_constrained_is_shown_even_where_nothing_is_used() {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "requests.cpu": "1"}}});
        let used = quota::amounts(Some(&json!({"requests.cpu": "500m"})));
        let status = status_of(&serde_json::from_value(quota).unwrap(), &used);
        assert_eq!(json!(status.used), json!({"pods": "0", "requests.cpu": "500m"}));
        assert_eq!(json!(status.hard), json!({"pods": "2", "requests.cpu": "1"}));
    }
}
