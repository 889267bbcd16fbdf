//! Controller revisions: every template that a daemon set or stateful set has had, with a number, so that pods can be
//! told apart by it and `kubectl rollout undo` can go back to it.

use super::deployment::hash;
use super::informer::Lister;
use super::ownership;
use super::runner::{ignore_not_found, is_conflict};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// On pods and revisions: which template.
pub(crate) const LABEL: &str = "controller-revision-hash";
/// Names that are another's, after which no further one is tried.
const MOST_COLLISIONS: i32 = 8;

/// The revisions of one kind's objects.
pub(crate) struct History {
    pub(crate) client: Client,
    pub(crate) revisions: Lister<ControllerRevision>,
}

/// The revisions of one object.
pub(crate) struct Revisions {
    /// That of the present template.
    pub(crate) present: Arc<ControllerRevision>,
    /// All others, by number.
    others: Vec<Arc<ControllerRevision>>,
}

impl History {
    /// Finds or makes the revision of `template`; one that is wanted again gets the highest number.
    pub(crate) async fn sync<K>(
        &self,
        owner: &K,
        template: &PodTemplateSpec,
    ) -> Result<Revisions, kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let uid = owner.uid().unwrap_or_default();
        let mut all = self.revisions.claimable(&owner.namespace().unwrap_or_default(), &uid);
        all.retain(|one| is_of(one, owner));
        all.sort_by_key(|one| (one.revision, one.name_any()));
        let highest = all.last().map_or(0, |one| one.revision);
        let known = all.iter().position(|one| template_of(one).as_ref() == Some(template));
        let present = match known.map(|at| all.remove(at)) {
            Some(present) if present.revision == highest => present,
            Some(present) => self.renumber(&present, highest + 1).await?,
            None => self.create(owner, template, highest + 1).await?,
        };
        Ok(Revisions { present, others: all })
    }

    fn api(&self, namespace: Option<&str>) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), namespace.unwrap_or_default())
    }

    async fn renumber(
        &self,
        one: &ControllerRevision,
        number: i64,
    ) -> Result<Arc<ControllerRevision>, kube::Error> {
        let patch = Patch::Merge(json!({"revision": number}));
        let api = self.api(one.metadata.namespace.as_deref());
        Ok(Arc::new(api.patch(&one.name_any(), &PatchParams::default(), &patch).await?))
    }

    /// A name that exists already is ours if our copy is old; then the conflict is retried with a newer one. It is
    /// another's where objects of two kinds have one name and one template: then it is not the name to take.
    async fn create<K>(
        &self,
        owner: &K,
        template: &PodTemplateSpec,
        number: i64,
    ) -> Result<Arc<ControllerRevision>, kube::Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let api = self.api(owner.meta().namespace.as_deref());
        let mut collisions = 0;
        loop {
            let wanted = new(owner, template, number, collisions);
            match api.create(&PostParams::default(), &wanted).await {
                Err(error) if is_conflict(&error) && collisions < MOST_COLLISIONS => {
                    let found = api.get_opt(&wanted.name_any()).await?;
                    if found.is_none_or(|found| is_of(&found, owner)) {
                        return Err(error);
                    }
                    collisions += 1;
                }
                other => return Ok(Arc::new(other?)),
            }
        }
    }

    /// Removes revisions beyond the limit, oldest first, that no pod (by label) and nobody else needs.
    pub(crate) async fn truncate(
        &self,
        revisions: &Revisions,
        limit: i32,
        live: &BTreeSet<String>,
    ) -> Result<(), kube::Error> {
        let unused = |one: &&Arc<ControllerRevision>| {
            !live.contains(&one.name_any())
                && !one.labels().get(LABEL).is_some_and(|hash| live.contains(hash))
        };
        let unused: Vec<_> = revisions.others.iter().filter(unused).collect();
        let excess = unused.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for one in unused.into_iter().take(excess) {
            let api = self.api(one.metadata.namespace.as_deref());
            ignore_not_found(api.delete(&one.name_any(), &DeleteParams::default()).await)?;
        }
        Ok(())
    }
}

impl Revisions {
    /// The value of the label on pods of the present template, where the hash alone is it.
    pub(crate) fn hash(&self) -> String {
        self.present.labels().get(LABEL).cloned().unwrap_or_default()
    }

    /// One of them.
    pub(crate) fn named(&self, name: &str) -> Option<&ControllerRevision> {
        self.others.iter().chain([&self.present]).find(|one| one.name_any() == name).map(|one| &**one)
    }
}

fn is_of<K: Resource>(revision: &ControllerRevision, owner: &K) -> bool {
    let controller = ownership::controller_of(&revision.metadata);
    controller.is_some_and(|controller| Some(&controller.uid) == owner.meta().uid.as_ref())
}

fn new<K: Resource<DynamicType = ()>>(
    owner: &K,
    template: &PodTemplateSpec,
    number: i64,
    collisions: i32,
) -> ControllerRevision {
    let hash = hash::of(template, collisions);
    let mut labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(LABEL.to_owned(), hash.clone());
    labels.insert("controller.kubernetes.io/hash".to_owned(), hash.clone());
    let mut data = json!(template);
    // kubectl applies the data as a strategic merge patch to go back.
    data["$patch"] = json!("replace");
    // Clients tell which revision is the present one by comparing bytes with what they would write, and that has this.
    data["metadata"]["creationTimestamp"] = Value::Null;
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name_any())),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            // Why it came (`kubernetes.io/change-cause`) is what `kubectl rollout history` shows.
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![ownership::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(json!({"spec": {"template": data}}))),
        revision: number,
    }
}

/// The template of a revision.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let RawExtension(data) = revision.data.as_ref()?;
    let mut template = data.pointer("/spec/template").cloned()?;
    template
        .as_object_mut()
        .and_then(|template: &mut serde_json::Map<String, Value>| template.remove("$patch"));
    serde_json::from_value(template).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DaemonSet;

    #[test]
    fn a_revision_gives_its_template_back() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}});
        let template: PodTemplateSpec = serde_json::from_value(template).unwrap();
        let cause = json!({"kubernetes.io/change-cause": "why"});
        let owner = json!({"metadata": {"name": "web", "uid": "u", "annotations": cause}});
        let owner: DaemonSet = serde_json::from_value(owner).unwrap();
        let revision = new(&owner, &template, 3, 0);
        assert_eq!(template_of(&revision).as_ref(), Some(&template));
        let data = serde_json::to_string(&revision.data).unwrap();
        let metadata = r#""metadata":{"creationTimestamp":null,"labels":{"app":"web"}}"#;
        assert!(
            data.starts_with(&format!(r#"{{"spec":{{"template":{{"$patch":"replace",{metadata},"#)),
            "{data}"
        );
        assert_eq!((revision.revision, revision.labels()["app"].as_str()), (3, "web"));
        assert_eq!(revision.name_any(), format!("web-{}", revision.labels()[LABEL]));
        assert_eq!(json!(revision.annotations()), cause);
        assert_ne!(new(&owner, &template, 3, 1).name_any(), revision.name_any());
    }
}
