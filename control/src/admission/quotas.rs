//! Resource quotas: a namespace may not hold more than its quotas allow.
//!
//! What is used is counted from the objects themselves, in a turn that lasts until the write is done: two writes never
//! both get the last place, whichever of the servers of a store they come to.

use super::{Operation, Write};
use crate::quota::{self, Amounts};
use crate::server::stored::resource_prefix;
use crate::server::{Server, Turn, Turnstile};
use jiff::Timestamp;
use knarr_api::Status;
use knarr_api::quantity::Quantity;
use serde_json::Value;

/// Nobody else's write is counted while this lives.
pub(crate) type Counting<'a> = Turn<'a>;

/// The turns of all quotas.
#[derive(Debug)]
pub(crate) struct Quotas {
    turns: Turnstile,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { turns: Turnstile::new("knarr/turns/quotas") }
    }
}

impl Server {
    /// Refuses a write that some quota of its namespace has no room for.
    pub(crate) async fn count(
        &self,
        write: Write<'_>,
        object: &Value,
    ) -> Result<Option<Counting<'_>>, Status> {
        if !counts(write) {
            return Ok(None);
        }
        let mut quotas = self.objects_below(&format!("core/resourcequotas/{}/", write.namespace)).await?;
        quotas.retain(|quota| quota::concerns(quota, write.resource));
        if quotas.is_empty() {
            return Ok(None);
        }
        let held = self.quotas.turns.take(&self.store).await?;
        let prefix = format!("{}{}/", resource_prefix(write.resource), write.namespace);
        let objects = self.objects_below(&prefix).await?;
        for quota in &quotas {
            check(write, quota, object, &objects).map_err(|why| write.forbidden(&why))?;
        }
        Ok(Some(held))
    }
}

/// New objects count, and those that can come to hold more than before; pods also by their resources alone.
fn counts(write: Write<'_>) -> bool {
    let grows = ["pods", "services", "persistentvolumeclaims"].iter().any(|plural| write.is("", plural));
    let whole = write.subresource.is_empty()
        && (write.operation == Operation::Create || write.operation == Operation::Update && grows);
    write.resource.namespaced && (whole || write.resizes())
}

/// Why a quota has no room for the object among those that are there.
fn check(write: Write<'_>, quota: &Value, object: &Value, objects: &[Value]) -> Result<(), String> {
    let name = quota::name(quota);
    if write.operation == Operation::Create
        && let Some(missing) = quota::missing(quota, write.resource, object)
    {
        return Err(format!("failed quota: {name}: {missing}"));
    }
    let now = Timestamp::now();
    let before = write.old.map_or_else(Amounts::new, |old| quota::in_quota(quota, write.resource, old, now));
    let zero = Quantity::ZERO;
    let mut added = quota::in_quota(quota, write.resource, object, now);
    for (name, amount) in &mut added {
        *amount -= before.get(name).copied().unwrap_or(zero);
    }
    added.retain(|_, amount| *amount > zero);
    let used = quota::usage(quota, write.resource, objects, now);
    let hard = quota::amounts(quota.pointer("/spec/hard"));
    let used_of = |name: &str| used.get(name).copied().unwrap_or(zero);
    let exceeds =
        |name: &String, amount: &Quantity| hard.get(name).is_some_and(|hard| used_of(name) + *amount > *hard);
    added.retain(|name, amount| exceeds(name, amount));
    if added.is_empty() {
        return Ok(());
    }
    let of = |amount: &dyn Fn(&str) -> Quantity| {
        let named: Amounts = added.keys().map(|name| (name.clone(), amount(name))).collect();
        quota::shown(&named)
    };
    let (requested, used) = (quota::shown(&added), of(&used_of));
    let limited = of(&|name: &str| hard.get(name).copied().unwrap_or(zero));
    Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"))
}
