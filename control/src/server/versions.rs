//! Custom resources in the version that a client asks for.
//!
//! A stored object has the version that was the stored one when it was written; the definition may have another by now.
//! Objects of another version get their name changed, or are sent to the webhook of the definition, all of one answer
//! in one review. Defaults that came into the schema after an object are filled in when it is read.

use super::{Server, stored};
use crate::registry::{Custom, Resource, fields};
use crate::store::{Draft, Entry, Event};
use crate::{random, webhook};
use knarr_api::{Status, meta};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Server {
    /// Whether objects of `resource` are stored as something else.
    pub(super) fn is_converted(&self, resource: &Resource) -> bool {
        resource.custom.as_ref().is_some_and(|custom| custom.stored != resource.api_version())
    }

    /// An object of the version of `resource` in the one that is stored now.
    pub(super) async fn in_stored_version(
        &self,
        resource: &Resource,
        object: Value,
    ) -> Result<Value, Status> {
        let Some(custom) = &resource.custom else { return Ok(object) };
        let converted = self.convert(resource, custom, &custom.stored, vec![object]).await?;
        converted.into_iter().next().ok_or_else(|| Status::internal("a conversion without result"))
    }

    /// One entry in the version of `resource`.
    pub(super) async fn entry_in_version(
        &self,
        resource: &Resource,
        entry: Arc<Entry>,
    ) -> Result<Arc<Entry>, Status> {
        if resource.custom.is_none() {
            return Ok(entry);
        }
        let entries = self.entries_in_version(resource, vec![entry]).await?;
        entries.into_iter().next().ok_or_else(|| Status::internal("a conversion without result"))
    }

    /// The entries in the version of `resource`: the stored ones themselves wherever that is possible.
    pub(super) async fn entries_in_version(
        &self,
        resource: &Resource,
        mut entries: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let Some(custom) = &resource.custom else { return Ok(entries) };
        let start = beginning(resource);
        let strange: Vec<usize> = (0..entries.len())
            .filter(|at| custom.has_defaults || !entries[*at].value.starts_with(start.as_bytes()))
            .collect();
        if strange.is_empty() {
            return Ok(entries);
        }
        let objects = strange.iter().map(|at| entries[*at].object()).collect();
        let converted = self.convert(resource, custom, &resource.api_version(), objects).await?;
        for (at, mut object) in strange.into_iter().zip(converted) {
            resource.strategy.default(&mut object);
            let old = &entries[at];
            let value = Draft::of(&object).seal(old.revision);
            if value != old.value {
                entries[at] = Arc::new(Entry::new(old.key.clone(), old.revision, value));
            }
        }
        Ok(entries)
    }

    /// The same for what a watch tells.
    pub(super) async fn events_in_version(
        &self,
        resource: &Resource,
        events: Vec<Arc<Event>>,
    ) -> Result<Vec<Arc<Event>>, Status> {
        if resource.custom.is_none() {
            return Ok(events);
        }
        let states = |event: &Arc<Event>| [Some(event.entry.clone()), event.previous.clone()];
        let entries: Vec<Arc<Entry>> = events.iter().flat_map(states).flatten().collect();
        let mut entries = self.entries_in_version(resource, entries).await?.into_iter();
        let mut next = |event: Arc<Event>| {
            let entry = entries.next()?;
            let previous = if event.previous.is_some() { Some(entries.next()?) } else { None };
            let same = Arc::ptr_eq(&entry, &event.entry);
            Some(if same { event } else { Arc::new(Event::new(event.kind, entry, previous)) })
        };
        Ok(events.into_iter().filter_map(&mut next).collect())
    }

    /// An object of one version of a resource in another.
    pub(crate) async fn converted(
        &self,
        from: &Resource,
        to: &Resource,
        object: Value,
    ) -> Result<Value, Status> {
        if let Some(custom) = &to.custom {
            let converted = self.convert(to, custom, &to.api_version(), vec![object]).await?;
            return converted
                .into_iter()
                .next()
                .ok_or_else(|| Status::internal("a conversion without result"));
        }
        let mut object = stored::served(to, stored::to_stored(from, object));
        object["apiVersion"] = to.api_version().into();
        object["kind"] = to.kind.as_ref().into();
        Ok(object)
    }

    /// Objects of any version of one kind in the version `wanted`.
    async fn convert(
        &self,
        resource: &Resource,
        custom: &Custom,
        wanted: &str,
        mut objects: Vec<Value>,
    ) -> Result<Vec<Value>, Status> {
        let others: Vec<usize> =
            (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != wanted).collect();
        let Some(webhook) = custom.webhook.as_ref().filter(|_| !others.is_empty()) else {
            for at in others {
                objects[at]["apiVersion"] = wanted.into();
            }
            return Ok(objects);
        };
        let asked: Vec<Value> = others.iter().map(|at| objects[*at].clone()).collect();
        let converted = self.ask(webhook, wanted, &asked).await.map_err(|why| {
            let from = asked.first().map(|object| fields::text(object, "/apiVersion")).unwrap_or_default();
            let name = format!("{from}, Kind={}", resource.kind);
            Status::internal(format!("conversion webhook for {name} failed: {why}"))
        })?;
        for (at, object) in others.into_iter().zip(converted) {
            objects[at] = object;
        }
        Ok(objects)
    }

    async fn ask(&self, webhook: &Value, wanted: &str, objects: &[Value]) -> Result<Vec<Value>, String> {
        let review = review(webhook, wanted, objects);
        let answer = webhook::post(self, &webhook["clientConfig"], &review, TIMEOUT).await?;
        read(&review, answer, wanted, objects)
    }
}

/// What every stored object of the version begins with.
fn beginning(resource: &Resource) -> String {
    format!(r#"{{"kind":"{}","apiVersion":"{}","#, resource.kind, resource.api_version())
}

/// In the first version of a review that both sides know; the two are written alike.
fn review(webhook: &Value, wanted: &str, objects: &[Value]) -> Value {
    let mut known = fields::list(webhook, "/conversionReviewVersions").iter().filter_map(Value::as_str);
    let version = known.find(|version| matches!(*version, "v1" | "v1beta1")).unwrap_or("v1");
    json!({
        "apiVersion": format!("apiextensions.k8s.io/{version}"), "kind": "ConversionReview",
        "request": {"uid": random::uid(), "desiredAPIVersion": wanted, "objects": objects},
    })
}

/// The objects of an answer, with the metadata that a conversion may not change as it was.
fn read(review: &Value, mut answer: Value, wanted: &str, before: &[Value]) -> Result<Vec<Value>, String> {
    let response = answer["response"].take();
    if response["uid"] != review["request"]["uid"] {
        return Err(format!("expected response.uid={}, got {}", review["request"]["uid"], response["uid"]));
    }
    if response.pointer("/result/status").is_none_or(|status| status != "Success") {
        return Err(match fields::text(&response, "/result/message") {
            "" => "response.result.status was not \"Success\", but no message was given".to_owned(),
            message => message.to_owned(),
        });
    }
    let converted = fields::list(&response, "/convertedObjects");
    if converted.len() != before.len() {
        return Err(format!("expected {} converted objects, got {}", before.len(), converted.len()));
    }
    let one = |(index, (object, before)): (usize, (&Value, &Value))| {
        check(object, before, wanted)
            .map(|()| restored(object, before))
            .map_err(|why| format!("invalid converted object at index {index}: {why}"))
    };
    converted.iter().zip(before).enumerate().map(one).collect()
}

fn check(object: &Value, before: &Value, wanted: &str) -> Result<(), String> {
    let same = |what: &str, found: &str, expected: &str| {
        let fault = || format!("{what}: expected {expected:?}, got {found:?}");
        (found == expected).then_some(()).ok_or_else(fault)
    };
    same("apiVersion", fields::text(object, "/apiVersion"), wanted)?;
    same("kind", fields::text(object, "/kind"), fields::text(before, "/kind"))?;
    same("metadata.name", meta::name(object), meta::name(before))?;
    same("metadata.namespace", meta::namespace(object), meta::namespace(before))?;
    same("metadata.uid", meta::uid(object), meta::uid(before))
}

/// Only labels and annotations are the webhook's to change.
fn restored(object: &Value, before: &Value) -> Value {
    let mut object = object.clone();
    let mut metadata = before["metadata"].clone();
    for field in ["labels", "annotations"] {
        match object["metadata"].get(field) {
            Some(value) => metadata[field] = value.clone(),
            None => {
                metadata.as_object_mut().map(|metadata| metadata.remove(field));
            }
        }
    }
    object["metadata"] = metadata;
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, labels: &Value) -> Value {
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Crew",
            "metadata": {"name": "a", "uid": "u", "generation": 3, "labels": labels}})
    }

    fn answer(objects: &[Value], status: &str) -> Result<Vec<Value>, String> {
        let before = [object("v1", &json!({"old": "x"}))];
        let review =
            review(&json!({"conversionReviewVersions": ["v2", "v1beta1"]}), "example.com/v2", &before);
        assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1beta1");
        let response = json!({"uid": review["request"]["uid"], "convertedObjects": objects,
            "result": {"status": status, "message": "why not"}});
        read(&review, json!({"response": response}), "example.com/v2", &before)
    }

    #[test]
    fn a_conversion_may_change_labels_but_not_who_the_object_is() {
        let mut changed = object("v2", &json!({"new": "y"}));
        changed["metadata"]["generation"] = json!(9);
        let converted = answer(std::slice::from_ref(&changed), "Success").unwrap();
        assert_eq!(converted, [object("v2", &json!({"new": "y"}))]);
        changed["metadata"]["name"] = json!("b");
        let refused = answer(&[changed], "Success").unwrap_err();
        assert_eq!(refused, "invalid converted object at index 0: metadata.name: expected \"a\", got \"b\"");
    }

    #[test]
    fn answers_that_are_none_are_refused() {
        assert_eq!(answer(&[], "Success").unwrap_err(), "expected 1 converted objects, got 0");
        assert_eq!(answer(&[object("v2", &json!({}))], "Failed").unwrap_err(), "why not");
        let unchanged = answer(&[object("v1", &json!({}))], "Success").unwrap_err();
        assert!(unchanged.contains("apiVersion: expected \"example.com/v2\""), "{unchanged}");
    }
}
