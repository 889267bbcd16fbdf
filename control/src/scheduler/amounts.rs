//! Amounts of resources as the scheduler compares them: the common ones in fields, so that a thousand nodes are
//! judged without looking anything up, the others by name.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_api::quantity;
use std::collections::BTreeMap;

/// Amounts; cpu in thousandths, everything else in units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) storage: i64,
    /// Extended resources and huge pages.
    pub(super) others: BTreeMap<String, i64>,
}

impl Amounts {
    /// Reads a map of quantities; one that cannot be read (the API refuses those) counts as nothing.
    pub(super) fn of(map: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut amounts = Self::default();
        map.into_iter().flatten().for_each(|(name, amount)| amounts.set(name, amount));
        amounts
    }

    /// Puts one amount in place of what was there.
    pub(super) fn set(&mut self, name: &str, Quantity(text): &Quantity) {
        let Ok(quantity) = text.parse::<quantity::Quantity>() else { return };
        match name {
            "cpu" => self.cpu = quantity.milli(),
            "memory" => self.memory = quantity.units(),
            "ephemeral-storage" => self.storage = quantity.units(),
            "pods" => {}
            _ => drop(self.others.insert(name.to_owned(), quantity.units())),
        }
    }

    fn combine(&mut self, other: &Self, how: fn(i64, i64) -> i64) {
        self.cpu = how(self.cpu, other.cpu);
        self.memory = how(self.memory, other.memory);
        self.storage = how(self.storage, other.storage);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_insert(0);
            *mine = how(*mine, *amount);
        }
    }

    /// Adds each amount.
    pub(super) fn add(&mut self, more: &Self) {
        self.combine(more, i64::saturating_add);
    }

    /// Takes each amount away.
    pub(super) fn subtract(&mut self, less: &Self) {
        self.combine(less, i64::saturating_sub);
    }

    /// At least each amount.
    pub(super) fn raise(&mut self, floor: &Self) {
        self.combine(floor, i64::max);
    }

    /// Each amount asked for, by name, with the same amount of two others; those not asked for are left out.
    pub(super) fn against<'a>(
        &'a self,
        first: &'a Self,
        second: &'a Self,
    ) -> impl Iterator<Item = (&'a str, i64, i64, i64)> {
        let of = |amounts: &Self, name: &str| amounts.others.get(name).copied().unwrap_or(0);
        let common = [
            ("cpu", self.cpu, first.cpu, second.cpu),
            ("memory", self.memory, first.memory, second.memory),
            ("ephemeral-storage", self.storage, first.storage, second.storage),
        ];
        let others = self
            .others
            .iter()
            .map(move |(name, amount)| (name.as_str(), *amount, of(first, name), of(second, name)));
        common.into_iter().chain(others).filter(|(_, amount, _, _)| *amount > 0)
    }
}
