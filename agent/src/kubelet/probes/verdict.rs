//! When a row of results becomes a verdict.

/// What a probe says about its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
}

/// Counts equal results in a row.
#[derive(Debug)]
pub(super) struct Counter {
    successes_needed: u32,
    failures_needed: u32,
    last: Option<bool>,
    row: u32,
}

impl Counter {
    /// With the thresholds of the API, 1 and 3 where absent.
    pub(super) fn new(success: Option<i32>, failure: Option<i32>) -> Counter {
        let threshold = |field: Option<i32>, default| {
            field
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| *number > 0)
                .unwrap_or(default)
        };
        Counter {
            successes_needed: threshold(success, 1),
            failures_needed: threshold(failure, 3),
            last: None,
            row: 0,
        }
    }

    /// The verdict, once the row is long enough.
    pub(super) fn count(&mut self, success: bool) -> Option<Verdict> {
        self.row = if self.last == Some(success) { self.row.saturating_add(1) } else { 1 };
        self.last = Some(success);
        match success {
            true => (self.row >= self.successes_needed).then_some(Verdict::Success),
            false => (self.row >= self.failures_needed).then_some(Verdict::Failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_results_in_a_row() {
        let mut counter = Counter::new(Some(2), None);
        let results = [true, true, false, false, true, false, false, false];
        let verdicts: Vec<_> = results.map(|result| counter.count(result)).into();
        let (none, success, failure) = (None, Some(Verdict::Success), Some(Verdict::Failure));
        assert_eq!(verdicts, [none, success, none, none, none, none, none, failure]);
    }
}
