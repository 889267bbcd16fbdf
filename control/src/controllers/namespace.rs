//! Namespace deletion: everything in it goes first, the pods before the rest, then its finalizer. Its conditions say what
//! keeps it.

mod conditions;

use super::dynamic::{self, Kind};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found, is_not_found, message_of};
use super::wiring::{Plane, Task, WORKERS, Wire};
use conditions::Outcome;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// How soon to look again while objects are on their way out.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Woken by its namespaces.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("namespace", plane);
    let controller = Namespaces { client: wire.client(), namespaces: wire.keys() };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Namespaces {
    pub(crate) client: Client,
    pub(crate) namespaces: Lister<Namespace>,
}

impl Reconcile for Namespaces {
    /// Empties a terminating namespace and lets it go, or says what keeps it.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(namespace) = self.namespaces.get(&key) else { return Ok(Next::Wait) };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(Next::Wait);
        }
        let outcome = self.delete_content(&key.name).await;
        let Some(namespace) = self.tell(Namespace::clone(&namespace), &outcome).await? else {
            return Ok(Next::Wait);
        };
        if !outcome.is_empty() {
            return Ok(Next::After(LOOK_AGAIN));
        }
        self.finalize(&namespace).await?;
        Ok(Next::Wait)
    }
}

impl Namespaces {
    /// Asks for the deletion of all objects: first of the pods, which may need the others until they have ended.
    async fn delete_content(&self, namespace: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let found = async {
            let silent = dynamic::silent(&self.client).await?;
            Ok((silent, dynamic::deletable(&self.client).await?))
        };
        let (silent, mut kinds) = match found.await {
            Ok(found) => found,
            Err(error) => {
                let error: kube::Error = error;
                outcome.unknown = Some(message_of(&error));
                return outcome;
            }
        };
        kinds.retain(|kind| !silent.contains(&kind.resource.api_version));
        outcome.unknown = conditions::silent(&silent);
        let is_pods = |kind: &Kind| kind.resource.group.is_empty() && kind.resource.plural == "pods";
        let kinds = kinds.into_iter().filter(|kind| kind.namespaced);
        let (pods, others): (Vec<Kind>, Vec<Kind>) = kinds.partition(is_pods);
        for kinds in [pods, others] {
            for kind in kinds {
                if let Err(error) = self.delete_kind(&kind, namespace, &mut outcome).await {
                    outcome.failures.push(message_of(&error));
                }
            }
            if outcome.has_content() {
                break;
            }
        }
        outcome
    }

    async fn delete_kind(
        &self,
        kind: &Kind,
        namespace: &str,
        outcome: &mut Outcome,
    ) -> Result<(), kube::Error> {
        let api = kind.api(&self.client, Some(namespace));
        let objects = match api.list_metadata(&ListParams::default()).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            list => list?.items,
        };
        let mut failure = None;
        for object in objects {
            let metadata = match object.metadata.deletion_timestamp {
                Some(_) => object.metadata,
                None => match api.delete(&object.name_any(), &DeleteParams::background()).await {
                    Err(error) if is_not_found(&error) => continue,
                    Err(error) => {
                        failure = failure.or(Some(error));
                        object.metadata
                    }
                    Ok(answer) => match answer.left() {
                        Some(dying) => dying.metadata,
                        None => continue,
                    },
                },
            };
            outcome.remains(&format!("{}.{}", kind.resource.plural, kind.resource.group), &metadata);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes down what keeps a namespace, if anything does or did; gives its newest state, unless it is gone.
    async fn tell(
        &self,
        mut namespace: Namespace,
        outcome: &Outcome,
    ) -> Result<Option<Namespace>, kube::Error> {
        let status = namespace.status.get_or_insert_default();
        let old = status.conditions.take().unwrap_or_default();
        if outcome.is_empty() && old.is_empty() {
            return Ok(Some(namespace));
        }
        let conditions = outcome.conditions(&old, Timestamp::now());
        let same = conditions == old;
        status.conditions = Some(conditions);
        if same {
            return Ok(Some(namespace));
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        match api.replace_status(&namespace.name_any(), &PostParams::default(), &namespace).await {
            Err(error) if is_not_found(&error) => Ok(None),
            written => written.map(Some),
        }
    }

    /// Removes the `kubernetes` finalizer through the subresource that exists for it.
    async fn finalize(&self, namespace: &Namespace) -> Result<(), kube::Error> {
        let mut object = serde_json::to_value(namespace).map_err(kube::Error::SerdeError)?;
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("Namespace");
        let kept: Vec<String> = namespace
            .spec
            .iter()
            .flat_map(|spec| spec.finalizers.iter().flatten())
            .filter(|name| *name != "kubernetes")
            .cloned()
            .collect();
        object["spec"]["finalizers"] = json!(kept);
        let name = namespace.name_any();
        let body = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)))?;
        match self.client.request::<serde_json::Value>(request).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => {
                let api: Api<Namespace> = Api::all(self.client.clone());
                ignore_not_found(api.delete(&name, &DeleteParams::default()).await)
            }
        }
    }
}
