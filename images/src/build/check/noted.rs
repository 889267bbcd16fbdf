//! Variables that take note of who was asked for.

use crate::build::expand::Variables;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Looks up in others.
pub(crate) struct Noted<'a> {
    of: &'a dyn Variables,
    found: RefCell<BTreeSet<String>>,
    missing: RefCell<BTreeSet<String>>,
}

impl<'a> Noted<'a> {
    pub(crate) fn new(of: &'a dyn Variables) -> Self {
        Self { of, found: RefCell::default(), missing: RefCell::default() }
    }

    /// Names that have no value.
    pub(crate) fn missing(&self) -> BTreeSet<String> {
        self.missing.borrow().clone()
    }

    /// Names that have one.
    pub(crate) fn found(&self) -> BTreeSet<String> {
        self.found.borrow().clone()
    }

    /// Whether there was any variable.
    pub(crate) fn any(&self) -> bool {
        !self.found.borrow().is_empty() || !self.missing.borrow().is_empty()
    }

    /// Whether there was this one, and no other.
    pub(crate) fn only(&self, name: &str) -> bool {
        let found = self.found.borrow();
        found.len() == 1 && found.contains(name) && self.missing.borrow().is_empty()
    }
}

impl Variables for Noted<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let value = self.of.get(name);
        let names = if value.is_some() { &self.found } else { &self.missing };
        names.borrow_mut().insert(name.to_owned());
        value
    }
}

impl Variables for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}
