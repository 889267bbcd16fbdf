//! The two ways an object comes to a new state, each with the strategy of its kind around one store operation:
//! [`Server::insert`] for one that is not there, [`Server::modify`] for one that is.

use super::{Server, object_meta, stored};
use crate::admission::{Operation, Write};
use crate::authn::User;
use crate::registry::{Cause, Resource};
use crate::store::{Draft, Entry, StoreError};
use bytes::Bytes;
use knarr_api::patch::apply::{self, Writer};
use knarr_api::{Status, StatusCause, meta};
use serde_json::Value;

/// Attempts at a change whose precondition somebody else keeps breaking.
const MAX_ATTEMPTS: usize = 64;
/// Attempts at a generated name.
const MAX_NAMES: usize = 8;

/// Which part of an object a change is about: decides what the strategy lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status only.
    Status,
    /// What has a path of its own: `ephemeralcontainers`, `resize`, `approval`.
    Named(&'static str),
    /// What the verb itself decides, and nobody has a say in.
    Internal,
    /// What keeps a namespace.
    Finalizers,
    /// The marks of a dying object.
    Deletion,
}

impl Part {
    /// The subresource by which the part is written.
    fn subresource(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Named(name) => name,
            Self::Finalizers => "finalize",
            Self::Main | Self::Internal | Self::Deletion => "",
        }
    }
}

/// How a change is made.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// Answer as if, and write nothing.
    pub(crate) dry_run: bool,
    /// Who owns what changes. `None` where the change itself says so (apply), or where nobody does (deletion).
    pub(crate) writer: Option<Writer>,
    /// Who asks: admission has a say. `None` for what the server does of itself.
    pub(crate) by: Option<User>,
    /// How the client wanted it done, for those who have a say.
    pub(crate) options: Value,
}

impl Manner {
    /// What the server does of itself.
    pub(crate) const OWN: Self = Self { dry_run: false, writer: None, by: None, options: Value::Null };
}

/// The result of a write.
#[derive(Debug)]
pub(crate) struct Written {
    /// The object as it is now, encoded.
    pub(crate) bytes: Bytes,
    /// It was not there before.
    pub(crate) created: bool,
    /// It is gone.
    pub(crate) deleted: bool,
    /// What the client should be told.
    pub(crate) warnings: Vec<String>,
}

/// Which object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl At<'_> {
    fn key(&self) -> String {
        stored::key(self.resource, self.namespace, self.name)
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, self.name)
    }

    fn refusal(&self, error: StoreError) -> Status {
        stored::refusal(self.resource, self.name, error)
    }
}

impl<'a> At<'a> {
    /// What admission must know of a write here.
    fn write(&self, user: &'a User, operation: Operation, part: Part, old: Option<&'a Value>) -> Write<'a> {
        let Self { resource, namespace, name } = *self;
        Write {
            user,
            operation,
            resource,
            sent: None,
            subresource: part.subresource(),
            kind: None,
            namespace,
            name,
            prefix: "",
            old,
            dry_run: false,
            options: None,
        }
    }
}

/// `served` is the object in the version of its writer, where it is stored in another.
fn written(entry: &Entry, resource: &Resource, served: Option<Draft>) -> Written {
    let bytes = match served {
        Some(draft) => draft.seal(entry.revision),
        None => stored::encoded(resource, entry),
    };
    Written { bytes, created: false, deleted: false, warnings: Vec::new() }
}

impl Server {
    /// The entry of an object that must exist.
    pub(crate) async fn entry(&self, at: At<'_>) -> Result<std::sync::Arc<Entry>, Status> {
        let found = self.store.get(&at.key()).await.map_err(|error| at.refusal(error))?;
        let entry = found.ok_or_else(|| at.not_found())?;
        self.entry_in_version(at.resource, entry).await
    }

    /// Creates an object: metadata, defaults, admission, validation, store.
    pub(crate) async fn insert(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Value,
        manner: &Manner,
    ) -> Result<Written, Status> {
        self.admit_into_namespace(resource, namespace, meta::name(&object)).await?;
        let generated = meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty();
        for _ in 1..if generated { MAX_NAMES } else { 1 } {
            match self.insert_once(resource, namespace, object.clone(), manner).await {
                Err(status) if status.reason == "AlreadyExists" => {}
                other => return other,
            }
        }
        self.insert_once(resource, namespace, object, manner).await
    }

    async fn insert_once(
        &self,
        resource: &Resource,
        namespace: &str,
        mut object: Value,
        manner: &Manner,
    ) -> Result<Written, Status> {
        let prefix = match meta::name(&object) {
            "" => meta::generate_name(&object).to_owned(),
            _ => String::new(),
        };
        object_meta::begin(&mut object, resource, namespace)?;
        resource.strategy.default(&mut object);
        if let Some(writer) = &manner.writer {
            own_what_was_sent(resource, &mut object, writer);
        }
        let name = meta::name(&object).to_owned();
        let at = At { resource, namespace, name: &name };
        let write = manner.by.as_ref().map(|user| at.write(user, Operation::Create, Part::Main, None));
        let write =
            write.map(|write| Write { dry_run: manner.dry_run, options: Some(&manner.options), ..write });
        if let Some(write) = write {
            // A generated name is told to nobody who might still refuse the object before it has one.
            let unnamed = Write { name: "", prefix: &prefix, ..write };
            self.mutate(if prefix.is_empty() { write } else { unnamed }, &mut object).await?;
        }
        resource.strategy.prepare_create(&mut object);
        let mut causes = object_meta::validate(&object);
        causes.extend(resource.strategy.validate(&object));
        refuse_invalid(resource, &object, causes)?;
        let _addresses = self.assign_addresses(resource, &mut object, None).await?;
        let mut warnings = resource.strategy.warnings(&object);
        warnings.extend(self.admit_if(write, &object).await?);
        let _counting = self.count_if(write, &object).await?;
        let created = self.create(at, object, manner.dry_run).await?;
        Ok(Written { warnings, ..created })
    }

    async fn create(&self, at: At<'_>, object: Value, dry_run: bool) -> Result<Written, Status> {
        if dry_run {
            let taken = self.store.get(&at.key()).await.map_err(|error| at.refusal(error))?.is_some();
            return if taken { Err(at.refusal(StoreError::Exists)) } else { Ok(imagined(&object, true)) };
        }
        let (draft, served) = self.drafts(at.resource, object).await?;
        let entry = self.store.create(&at.key(), draft).await.map_err(|error| at.refusal(error))?;
        Ok(Written { created: true, ..written(&entry, at.resource, served) })
    }

    async fn admit_if(&self, write: Option<Write<'_>>, object: &Value) -> Result<Vec<String>, Status> {
        match write {
            Some(write) => self.admit(write, object).await,
            None => Ok(Vec::new()),
        }
    }

    async fn count_if(
        &self,
        write: Option<Write<'_>>,
        object: &Value,
    ) -> Result<Option<crate::admission::Counting<'_>>, Status> {
        match write {
            Some(write) => self.count(write, object).await,
            None => Ok(None),
        }
    }

    /// Changes an object: `change` makes the new state of the present one, and is run again when somebody else
    /// wrote in between. A `resourceVersion` that it leaves in the object must be the present one.
    pub(crate) async fn modify(
        &self,
        at: At<'_>,
        part: Part,
        manner: &Manner,
        change: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
    ) -> Result<Written, Status> {
        for _ in 0..MAX_ATTEMPTS {
            let entry = self.entry(at).await?;
            let old = stored::decode(at.resource, &entry);
            let mut new = change(&old)?;
            check_preconditions(at, &old, &new)?;
            if !matches!(part, Part::Deletion | Part::Internal | Part::Finalizers) {
                refuse_invalid(at.resource, &old, object_meta::resurrections(&new, &old))?;
            }
            if part != Part::Deletion {
                object_meta::carry_over(&old, &mut new);
            }
            let operation = if part == Part::Deletion { Operation::Delete } else { Operation::Update };
            let by = manner.by.as_ref().filter(|_| part != Part::Internal);
            let write = by.map(|user| at.write(user, operation, part, Some(&old)));
            let write =
                write.map(|write| Write { dry_run: manner.dry_run, options: Some(&manner.options), ..write });
            if let Some(write) = write {
                self.mutate(write, &mut new).await?;
            }
            let _addresses = self.prepare(at.resource, part, &mut new, &old).await?;
            let mut warnings = match part {
                Part::Main if old.get("spec") != new.get("spec") => at.resource.strategy.warnings(&new),
                _ => Vec::new(),
            };
            warnings.extend(self.admit_if(write, &new).await?);
            let _counting = self.count_if(write, &new).await?;
            if let Some(writer) = &manner.writer {
                apply::record(&old, &mut new, writer, schema_of(at.resource));
            }
            if apply::same_but_times(&old, &new) {
                return Ok(Written { warnings, ..written(&entry, at.resource, None) });
            }
            match self.replace(at, &entry, new, manner.dry_run).await? {
                Err(StoreError::Conflict) => {}
                other => {
                    let written = other.map_err(|error| at.refusal(error))?;
                    return Ok(Written { warnings, ..written });
                }
            }
        }
        Err(at.refusal(StoreError::Conflict))
    }

    /// Changes a stored object in a way that asks neither its kind nor admission; nothing but its state decides.
    pub(crate) async fn rewrite(
        &self,
        at: At<'_>,
        dry_run: bool,
        change: impl Fn(&Entry) -> Result<Draft, Status> + Send + Sync,
    ) -> Result<(), Status> {
        for _ in 0..MAX_ATTEMPTS {
            let entry = self.entry(at).await?;
            let draft = change(&entry)?;
            if dry_run {
                return Ok(());
            }
            match self.store.update(&at.key(), entry.revision, draft).await {
                Err(StoreError::Conflict) => {}
                other => return other.map(drop).map_err(|error| at.refusal(error)),
            }
        }
        Err(at.refusal(StoreError::Conflict))
    }

    async fn prepare(
        &self,
        resource: &Resource,
        part: Part,
        new: &mut Value,
        old: &Value,
    ) -> Result<Option<super::service_address::Held<'_>>, Status> {
        let strategy = &resource.strategy;
        let mut held = None;
        match part {
            Part::Main => {
                strategy.default(new);
                held = self.assign_addresses(resource, new, Some(old)).await?;
                strategy.prepare_update(new, old);
            }
            Part::Status => strategy.prepare_status_update(new, old),
            Part::Named(part) => {
                let mut causes = strategy.prepare_part_update(part, new, old);
                causes.extend(object_meta::validate_update(new, old));
                refuse_invalid(resource, new, causes)?;
                return Ok(None);
            }
            Part::Internal | Part::Finalizers | Part::Deletion => return Ok(None),
        }
        let mut causes = object_meta::validate_update(new, old);
        causes.extend(match part {
            Part::Main => strategy.validate_update(new, old),
            _ => strategy.validate_status_update(new, old),
        });
        refuse_invalid(resource, new, causes)?;
        Ok(held)
    }

    /// Writes the new state, or removes the object if nothing keeps it any more.
    async fn replace(
        &self,
        at: At<'_>,
        entry: &Entry,
        new: Value,
        dry_run: bool,
    ) -> Result<Result<Written, StoreError>, Status> {
        let gone = is_finished(&new);
        if dry_run {
            return Ok(Ok(Written { deleted: gone, ..imagined(&new, false) }));
        }
        let (draft, served) = self.drafts(at.resource, new).await?;
        let entry = if gone {
            self.store.delete(&at.key(), entry.revision, draft).await
        } else {
            self.store.update(&at.key(), entry.revision, draft).await
        };
        Ok(entry.map(|entry| Written { deleted: gone, ..written(&entry, at.resource, served) }))
    }

    /// An object as it is stored, and, where that is another version, as its writer knows it.
    async fn drafts(&self, resource: &Resource, object: Value) -> Result<(Draft, Option<Draft>), Status> {
        if !self.is_converted(resource) {
            return Ok((Draft::of(&stored::to_stored(resource, object)), None));
        }
        let served = Draft::of(&object);
        Ok((Draft::of(&self.in_stored_version(resource, object).await?), Some(served)))
    }
}

/// What a dry run answers: the object as it would be, at the revision it has.
fn imagined(object: &Value, created: bool) -> Written {
    Written { bytes: object.to_string().into(), created, deleted: false, warnings: Vec::new() }
}

/// Whether nothing keeps a dying object: its grace is over and nobody waits to clean up after it.
pub(crate) fn is_finished(object: &Value) -> bool {
    let dying = meta::deletion_timestamp(object).is_some();
    let grace = meta::deletion_grace_period_seconds(object).unwrap_or(0);
    dying && grace == 0 && meta::finalizers(object).next().is_none() && !has_namespace_finalizers(object)
}

/// A namespace is also kept by `spec.finalizers`: its content is not gone yet.
pub(crate) fn has_namespace_finalizers(object: &Value) -> bool {
    let finalizers = object.pointer("/spec/finalizers").and_then(Value::as_array);
    object["kind"] == "Namespace"
        && object["apiVersion"] == "v1"
        && finalizers.is_some_and(|list| !list.is_empty())
}

/// The version and the uid that the client knows, where it names them, must be the present ones.
fn check_preconditions(at: At<'_>, old: &Value, new: &Value) -> Result<(), Status> {
    let (wanted, found) = (meta::resource_version(new), meta::resource_version(old));
    let (group, plural) = (&at.resource.group, &at.resource.plural);
    // Who names version 0 knows none.
    if !matches!(wanted, "" | "0") && wanted != found {
        if wanted.parse::<u64>().is_err() {
            return Err(Status::bad_request(format!("Invalid value: {wanted:?}: invalid resourceVersion")));
        }
        return Err(Status::modified(group, plural, at.name));
    }
    let (wanted, found) = (meta::uid(new), meta::uid(old));
    if !wanted.is_empty() && wanted != found {
        let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}");
        return Err(Status::conflict(group, plural, at.name, &why));
    }
    Ok(())
}

/// What was sent for a new object, and what its kind fills in, is its writer's. What admission adds is nobody's: who
/// applies the object later must not take it away by not naming it.
fn own_what_was_sent(resource: &Resource, object: &mut Value, writer: &apply::Writer) {
    let has_status = resource.subresource("status").is_some();
    let status = object.as_object_mut().filter(|_| has_status).and_then(|fields| fields.remove("status"));
    apply::record(&Value::Null, object, writer, schema_of(resource));
    if let Some(status) = status {
        object["status"] = status;
    }
}

/// How the fields of a kind are divided among their owners.
pub(crate) fn schema_of(resource: &Resource) -> Option<std::sync::Arc<dyn knarr_api::patch::PatchSchema>> {
    match &resource.schema {
        Some(schema) => Some(crate::schema::structural::ownership::of_custom(schema)),
        None => crate::schema::patch_schema(&resource.group, &resource.version, &resource.kind),
    }
}

/// 422 with every fault, if there is one.
pub(crate) fn refuse_invalid(resource: &Resource, object: &Value, causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    let cause = |cause: Cause| StatusCause {
        reason: cause.reason.to_owned(),
        message: cause.message,
        field: cause.field,
    };
    let causes = causes.into_iter().map(cause).collect();
    Err(Status::invalid(&resource.group, &resource.kind, meta::name(object), causes))
}
