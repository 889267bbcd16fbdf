//! The strategy of a built-in kind as data: what almost every kind does alike is written once here, what is particular
//! is a handful of plain functions.

use super::faults::Faults;
use super::{Cause, Strategy, fields, validation};
use knarr_api::names;
use serde_json::{Map, Value};

/// What is particular about a kind. Start from [`Rules::NONE`].
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// `.status` belongs to `/status` alone. Set by `Row::status`.
    pub(super) has_status: bool,
    /// A new object keeps the status that it comes with.
    pub(super) brings_status: bool,
    /// `metadata.generation` counts changes of everything but metadata and status.
    pub(super) has_generation: bool,
    /// Fills in the documented defaults.
    pub(super) defaults: fn(&mut Value),
    /// What a new object starts with: its first status, a field that only the server may set.
    pub(super) on_create: fn(&mut Value),
    /// What an update may not change without saying so.
    pub(super) on_update: fn(&mut Value, &Value),
    /// The same for an update through `/status`.
    pub(super) on_status_update: fn(&mut Value, &Value),
    /// Every fault of an object.
    pub(super) validate: fn(&Value, &mut Faults),
    /// Every fault of a new object beyond those: of what cannot be changed, or comes later by a path of its own.
    pub(super) validate_create: fn(&Value, &mut Faults),
    /// Every fault of a change through `/status`.
    pub(super) validate_status_update: fn(&Value, &Value, &mut Faults),
    /// Every fault of a change beyond those of the new object alone.
    pub(super) validate_update: fn(&Value, &Value, &mut Faults),
    /// What the author of an object should know about it.
    pub(super) warnings: fn(&Value) -> Vec<String>,
    /// Fields that selectors may name.
    pub(super) selectable: fn(&Value, &str) -> Option<String>,
    /// Seconds an object lives on after DELETE.
    pub(super) deletion_grace: fn(&Value, Option<i64>) -> i64,
    /// What `metadata.name` must be.
    pub(super) name: fn(&str) -> Vec<String>,
    /// An update through a part of the object: takes that part from the new object into the old one, which comes last
    /// and is the result.
    pub(super) on_part: fn(&str, &Value, &mut Value, &mut Faults),
}

impl Rules {
    /// A kind about which nothing is particular.
    pub(super) const NONE: Rules = Rules {
        has_status: false,
        brings_status: false,
        has_generation: false,
        defaults: |_| {},
        on_create: |_| {},
        on_update: |_, _| {},
        on_status_update: |_, _| {},
        validate: |_, _| {},
        validate_create: |_, _| {},
        validate_status_update: |_, _, _| {},
        validate_update: |_, _, _| {},
        warnings: |_| Vec::new(),
        selectable: |_, _| None,
        deletion_grace: |_, _| 0,
        name: names::dns1123_subdomain,
        on_part: |_, _, _, _| {},
    };
}

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        (self.defaults)(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        if self.has_status && !(self.brings_status && object["status"].is_object()) {
            fields::set(object, "status", Value::Object(Map::new()));
        }
        if self.has_generation {
            fields::set_in(object, "metadata", "generation", 1.into());
        }
        (self.on_create)(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            fields::copy(new, old, "status");
        }
        (self.on_update)(new, old);
        if self.has_generation {
            let generation = fields::int(old, "/metadata/generation").unwrap_or(0);
            let next = if specification_differs(new, old) { generation + 1 } else { generation.max(1) };
            fields::set_in(new, "metadata", "generation", next.into());
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        let metadata = new.get("metadata").cloned();
        new.clone_from(old);
        for (name, value) in [("status", status), ("metadata", metadata)] {
            if let Some(value) = value {
                fields::set(new, name, value);
            }
        }
        (self.on_status_update)(new, old);
    }

    fn prepare_part_update(&self, part: &str, new: &mut Value, old: &Value) -> Vec<Cause> {
        let (mut result, mut faults) = (old.clone(), Faults::default());
        fields::copy(&mut result, new, "metadata");
        (self.on_part)(part, new, &mut result, &mut faults);
        if self.has_generation && specification_differs(&result, old) {
            let generation = fields::int(old, "/metadata/generation").unwrap_or(0);
            fields::set_in(&mut result, "metadata", "generation", (generation + 1).into());
        }
        *new = result;
        faults.into_causes()
    }

    fn validate(&self, object: &Value) -> Vec<Cause> {
        let mut faults = Faults::default();
        validation::object_name(object, self.name, &mut faults);
        (self.validate_create)(object, &mut faults);
        (self.validate)(object, &mut faults);
        faults.into_causes()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let mut faults = Faults::default();
        (self.validate_status_update)(new, old, &mut faults);
        faults.into_causes()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let mut faults = Faults::default();
        (self.validate)(new, &mut faults);
        (self.validate_update)(new, old, &mut faults);
        faults.into_causes()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        (self.warnings)(object)
    }

    fn selectable(&self, object: &Value, field: &str) -> Option<String> {
        (self.selectable)(object, field)
    }

    fn deletion_grace_seconds(&self, object: &Value, requested: Option<i64>) -> i64 {
        (self.deletion_grace)(object, requested)
    }

    fn has_generation(&self) -> bool {
        self.has_generation
    }
}

/// Whether anything but metadata and status changed.
fn specification_differs(new: &Value, old: &Value) -> bool {
    let parts = |object: &Value| -> Map<String, Value> {
        let mut parts = object.as_object().cloned().unwrap_or_default();
        for name in ["metadata", "status", "apiVersion", "kind"] {
            parts.remove(name);
        }
        parts
    };
    parts(new) != parts(old)
}
