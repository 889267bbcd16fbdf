//! What all rules of a schema may cost together.

use crate::expressions::estimate;
use crate::registry::faults::Faults;
use std::cell::{Cell, RefCell};

/// The sum so far.
#[derive(Default)]
pub(super) struct Total {
    sum: Cell<u64>,
    /// Those that count for something, with their places.
    costly: RefCell<Vec<(u64, String)>>,
}

impl Total {
    /// One more rule, or the message of one, that stands at a place.
    pub(super) fn add(&self, at: &str, cost: u64) {
        self.sum.set(self.sum.get().saturating_add(cost));
        if cost >= estimate::TOTAL / 100 {
            self.costly.borrow_mut().push((cost, at.to_owned()));
        }
    }

    /// Whether it is too much, and which rules are to blame.
    pub(super) fn judge(&self, path: &str, faults: &mut Faults) {
        const MOST: usize = 4;
        if self.sum.get() <= estimate::TOTAL {
            return;
        }
        let mut costly = self.costly.take();
        costly.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, at) in costly.into_iter().take(MOST) {
            let part =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            faults.forbidden(at, part);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        faults.forbidden(path, &estimate::excess(what, self.sum.get(), estimate::TOTAL));
    }
}
