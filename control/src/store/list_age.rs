//! How long the past can be listed: pages go on, and exact lists are answered, for five minutes after a revision was
//! succeeded, which is how long kube-apiserver leaves the history of its store alone. Clients that page count on the
//! end (they get a token to go on without a consistent view), and no memory is held for one that never comes back.
//! Watches go by the history itself.

use super::Revision;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// `--etcd-compaction-interval` of kube-apiserver.
const KEPT: Duration = Duration::from_secs(300);
/// Not every revision is marked.
const STEP: Duration = Duration::from_secs(10);

/// When some of the revisions were published, oldest first.
#[derive(Debug, Default)]
pub(super) struct ListAge {
    marks: VecDeque<(Instant, Revision)>,
    floor: Revision,
}

impl ListAge {
    /// A batch with this last revision became visible.
    pub(super) fn published(&mut self, now: Instant, revision: Revision) {
        if self.marks.back().is_none_or(|(at, _)| now.duration_since(*at) >= STEP) {
            self.marks.push_back((now, revision));
        }
        self.floor(now);
    }

    /// The oldest revision that is still listed.
    pub(super) fn floor(&mut self, now: Instant) -> Revision {
        while let Some((_, revision)) = self.marks.pop_front_if(|(at, _)| now.duration_since(*at) >= KEPT) {
            self.floor = revision;
        }
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_listed_for_five_minutes_after_it_was_succeeded() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut age = ListAge::default();
        assert_eq!(age.floor(after(1000)), 0, "nothing was ever succeeded");
        age.published(after(1000), 7);
        age.published(after(1003), 8);
        age.published(after(1010), 9);
        assert_eq!(age.floor(after(1299)), 0);
        assert_eq!(age.floor(after(1300)), 7, "what came before 7 is gone, 7 itself is not");
        assert_eq!(age.floor(after(1310)), 9);
        assert_eq!(age.floor(after(9999)), 9, "what nothing has succeeded stays");
    }

    #[test]
    fn marks_are_few() {
        let start = Instant::now();
        let mut age = ListAge::default();
        for tenth in 0..36_000_u32 {
            age.published(start + Duration::from_millis(100) * tenth, u64::from(tenth) + 1);
        }
        assert!(age.marks.len() <= 31, "{}", age.marks.len());
    }
}
