//! From a message to the JSON that Go would write for it.

use super::ProtobufError;
use super::schema_or;
use super::wire::{Reader, Wire};
use crate::schema::types::{self, ObjectType, Type};
use crate::schema::{embedded, wire_layout};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

/// Nesting of messages that is followed; no type of Kubernetes comes near it.
const DEEPEST: usize = 64;

/// Fields that are pointers in Go: their zero says something, so it stays.
const POINTERS: [&str; 79] = [
    "activeDeadlineSeconds",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "allowVolumeExpansion",
    "attachRequired",
    "automountServiceAccountToken",
    "backoffLimit",
    "backoffLimitPerIndex",
    "blockOwnerDeletion",
    "borrowingLimitPercent",
    "collisionCount",
    "completions",
    "controller",
    "count",
    "currentCPUUtilizationPercentage",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "fsGroup",
    "gracePeriodSeconds",
    "holderIdentity",
    "hostProcess",
    "hostUsers",
    "immutable",
    "leaseTransitions",
    "lendablePercent",
    "lun",
    "manualSelector",
    "maxFailedIndexes",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minReplicas",
    "minimum",
    "mode",
    "multipleOf",
    "nominalConcurrencyShares",
    "optional",
    "orphanDependents",
    "parallelism",
    "partition",
    "podInfoOnMount",
    "priority",
    "privileged",
    "procMount",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "recursiveReadOnlyMounts",
    "replicas",
    "requiresRepublish",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seLinuxMount",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "stabilizationWindowSeconds",
    "started",
    "startingDeadlineSeconds",
    "storageCapacity",
    "storageClassName",
    "successfulJobsHistoryLimit",
    "suspend",
    "terminating",
    "terminatingReplicas",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
    "userNamespaces",
    "x-kubernetes-preserve-unknown-fields",
];

/// Reads the message of an object type into `object`.
pub(super) fn read_into(
    object: &mut Map<String, Value>,
    kind: &ObjectType,
    bytes: &[u8],
) -> Result<(), ProtobufError> {
    fields(object, kind, &kind.name, bytes, 0)
}

/// `layout` is the message whose field numbers count: the type's own, or one that it embeds.
fn fields(
    object: &mut Map<String, Value>,
    kind: &ObjectType,
    layout: &str,
    bytes: &[u8],
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > DEEPEST {
        return Err(ProtobufError::Illegal("nesting"));
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(fact) = wire_layout(layout).iter().find(|fact| fact.number == number) else { continue };
        if let Some(inner) = fact.name.strip_prefix('@') {
            if let Some(inner) = embedded(layout, inner) {
                fields(object, kind, &inner, wire.bytes()?, depth + 1)?;
            }
            continue;
        }
        let Some(field) = kind.field(fact.name) else { continue };
        match &field.kind {
            Type::List(item) => list(object, fact.name, item, wire, depth)?,
            Type::Map(values) => entry(object, fact.name, values, wire, depth)?,
            single => {
                let value = value(single, wire, depth)?;
                let always = field.required
                    || matches!(single, Type::SchemaOr(_))
                    || single == &Type::IntOrString && fact.name != "targetPort";
                if !is_left_out(fact.name, &value, always) {
                    object.insert(fact.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// Whether Go's JSON leaves the value out. Those that are an integer or a text are pointers in Go, but for the target
/// port of a service.
fn is_left_out(name: &str, value: &Value, required: bool) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !required && !POINTERS.contains(&name),
        Value::Bool(false) => !required && !POINTERS.contains(&name),
        Value::Number(number) => number.as_f64() == Some(0.0) && !required && !POINTERS.contains(&name),
        _ => false,
    }
}

fn list(
    object: &mut Map<String, Value>,
    name: &str,
    item: &Type,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let Value::Array(items) = object.entry(name).or_insert_with(|| Value::Array(Vec::new())) else {
        return Ok(());
    };
    match (item, wire) {
        (Type::Int32 | Type::Int64, Wire::Bytes(packed)) => {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                items.push(reader.varint()?.cast_signed().into());
            }
        }
        _ => items.push(value(item, wire, depth)?),
    }
    Ok(())
}

fn entry(
    object: &mut Map<String, Value>,
    name: &str,
    values: &Type,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(wire.bytes()?);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => wire.text()?.clone_into(&mut key),
            2 => found = Some(value(values, wire, depth)?),
            _ => {}
        }
    }
    if let Value::Object(map) = object.entry(name).or_insert_with(|| Value::Object(Map::new())) {
        map.insert(key, found.unwrap_or_else(|| "".into()));
    }
    Ok(())
}

fn value(kind: &Type, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match kind {
        Type::Text => wire.text()?.into(),
        Type::Bytes => STANDARD.encode(wire.bytes()?).into(),
        Type::Bool => (wire.signed()? != 0).into(),
        Type::Int32 | Type::Int64 => wire.signed()?.into(),
        Type::Number => number(wire.double()?),
        Type::Quantity => quantity(wire.bytes()?)?,
        Type::IntOrString => int_or_string(wire.bytes()?)?,
        Type::Time => time(wire.bytes()?, 0)?,
        Type::MicroTime => time(wire.bytes()?, 6)?,
        Type::Free => free(wire.bytes()?)?,
        Type::SchemaOr(instead) => schema_or::read(*instead, wire.bytes()?, depth)?,
        Type::List(item) => nested_list(item, wire.bytes()?, depth)?,
        Type::Map(_) => return Err(ProtobufError::Illegal("map")),
        Type::Object(name) => object_of(name, wire.bytes()?, depth)?,
    })
}

/// Go writes a whole number without a fraction.
fn number(found: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if found.fract() == 0.0 && found.abs() < EXACT {
        #[allow(clippy::cast_possible_truncation)] // whole, and within 53 bits
        return (found as i64).into();
    }
    found.into()
}

/// The message of a named type, somewhere in a body.
pub(super) fn object_of(name: &str, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut object = Map::new();
    if let Some(kind) = types::named(name) {
        fields(&mut object, &kind, &kind.name, bytes, depth + 1)?;
    }
    Ok(Value::Object(object))
}

/// A list that is the value of a map has a message around it.
fn nested_list(item: &Type, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == 1 {
            items.push(value(item, wire, depth)?);
        }
    }
    Ok(Value::Array(items))
}

fn quantity(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut text = "";
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        if number == 1 {
            text = wire.text()?;
        }
    }
    Ok(if text.is_empty() { "0" } else { text }.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number_value, mut text) = (false, 0, "");
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => is_text = wire.signed()? == 1,
            2 => number_value = wire.signed()?,
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number_value.into() })
}

/// Go's zero time is an empty message.
fn time(bytes: &[u8], digits: usize) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => seconds = wire.signed()?,
            2 => nanos = i32::try_from(wire.signed()?).map_err(|_| ProtobufError::Illegal("time"))?,
            _ => {}
        }
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Illegal("time"))?;
    Ok(if digits == 0 { format!("{time:.0}") } else { format!("{time:.6}") }.into())
}

/// Embedded JSON: its text is the first field.
fn free(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut found = Value::Null;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let text = wire.bytes()?;
        if number == 1 && !text.is_empty() {
            found = serde_json::from_slice(text).map_err(|_| ProtobufError::Illegal("JSON"))?;
        }
    }
    Ok(found)
}
