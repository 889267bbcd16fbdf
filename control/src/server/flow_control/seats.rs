//! The places of one priority level: who sits, who waits, who is next. No clock and no task: a state machine.
//!
//! Flows take turns, one request each. A flow that holds three quarters of the places waits even while some are free,
//! so that another flow finds one at once however long the requests of the first take.

use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

#[derive(Debug)]
pub(super) struct Seats {
    places: usize,
    /// How many may wait.
    per_flow: usize,
    together: usize,
    seated: usize,
    waiting: usize,
    flows: HashMap<String, Flow>,
    /// Flows with somebody waiting, in the order of their turns.
    turns: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Flow {
    seated: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// What becomes of a request that comes in.
#[derive(Debug)]
pub(super) enum Entry {
    Seated,
    /// Resolves when it is its turn.
    Waits(oneshot::Receiver<()>),
    /// Nobody may wait any more.
    Full,
}

impl Seats {
    pub(super) fn new(places: usize, per_flow: usize, together: usize) -> Self {
        let (flows, turns) = (HashMap::new(), VecDeque::new());
        Self { places, per_flow, together, seated: 0, waiting: 0, flows, turns }
    }

    pub(super) fn resize(&mut self, places: usize, per_flow: usize, together: usize) {
        (self.places, self.per_flow, self.together) = (places, per_flow, together);
        self.seat_next();
    }

    pub(super) fn seated(&self) -> usize {
        self.seated
    }

    /// Most places that one flow may hold.
    fn share(&self) -> usize {
        (self.places * 3).div_ceil(4).max(1)
    }

    pub(super) fn enter(&mut self, name: &str) -> Entry {
        let (free, share) = (self.seated < self.places, self.share());
        let flow = self.flows.entry(name.to_owned()).or_default();
        if free && flow.seated < share && flow.waiting.is_empty() {
            flow.seated += 1;
            self.seated += 1;
            return Entry::Seated;
        }
        if flow.waiting.len() >= self.per_flow || self.waiting >= self.together {
            self.forget_idle(name);
            return Entry::Full;
        }
        let (sender, turn) = oneshot::channel();
        if flow.waiting.is_empty() {
            self.turns.push_back(name.to_owned());
        }
        flow.waiting.push_back(sender);
        self.waiting += 1;
        Entry::Waits(turn)
    }

    pub(super) fn leave(&mut self, name: &str) {
        if let Some(flow) = self.flows.get_mut(name) {
            flow.seated = flow.seated.saturating_sub(1);
            self.seated = self.seated.saturating_sub(1);
        }
        self.seat_next();
        self.forget_idle(name);
    }

    fn forget_idle(&mut self, name: &str) {
        if self.flows.get(name).is_some_and(|flow| flow.seated == 0 && flow.waiting.is_empty()) {
            self.flows.remove(name);
        }
    }

    /// Seats those whose turn it is, until the places or those who may take them are used up.
    fn seat_next(&mut self) {
        let mut passed = 0;
        while self.seated < self.places && passed < self.turns.len() {
            let Some(name) = self.turns.pop_front() else { return };
            if self.seat_one_of(&name) {
                passed = 0;
            } else {
                passed += 1;
            }
            if self.flows.get(&name).is_some_and(|flow| !flow.waiting.is_empty()) {
                self.turns.push_back(name);
            } else {
                self.forget_idle(&name);
                passed = passed.saturating_sub(1);
            }
        }
    }

    /// The first of a flow that still waits; those who went away meanwhile are passed over.
    fn seat_one_of(&mut self, name: &str) -> bool {
        let share = self.share();
        let Some(flow) = self.flows.get_mut(name) else { return false };
        while flow.seated < share {
            let Some(turn) = flow.waiting.pop_front() else { return false };
            self.waiting -= 1;
            if turn.send(()).is_ok() {
                flow.seated += 1;
                self.seated += 1;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waits(entry: Entry) -> oneshot::Receiver<()> {
        let Entry::Waits(turn) = entry else { panic!("{entry:?}") };
        turn
    }

    #[test]
    fn a_flood_leaves_places_for_others() {
        let mut seats = Seats::new(4, 2, 10);
        (0..3).for_each(|_| assert!(matches!(seats.enter("flood"), Entry::Seated)));
        let mut first = waits(seats.enter("flood"));
        let mut second = waits(seats.enter("flood"));
        assert!(matches!(seats.enter("flood"), Entry::Full), "two may wait");
        assert!(matches!(seats.enter("calm"), Entry::Seated), "the last place is for others");
        let mut calm = waits(seats.enter("calm"));
        seats.leave("flood");
        assert!(first.try_recv().is_ok() && second.try_recv().is_err());
        seats.leave("calm");
        assert!(calm.try_recv().is_ok(), "the flood has its share already");
        assert!(second.try_recv().is_err());
    }

    #[test]
    fn who_went_away_is_passed_over() {
        let mut seats = Seats::new(1, 5, 5);
        assert!(matches!(seats.enter("a"), Entry::Seated));
        drop(waits(seats.enter("b")));
        let mut next = waits(seats.enter("c"));
        seats.leave("a");
        assert!(next.try_recv().is_ok());
        assert_eq!(seats.seated(), 1);
    }

    proptest! {
        /// Whatever comes and goes: no place is given twice, none is lost, and nobody waits while one is free for him.
        #[test]
        fn places_are_neither_lost_nor_doubled(steps in prop::collection::vec((0..4usize, any::<bool>()), 1..200)) {
            let mut seats = Seats::new(3, 4, 8);
            let mut sitting: Vec<String> = Vec::new();
            let mut waiting: Vec<(String, oneshot::Receiver<()>)> = Vec::new();
            for (flow, leaves) in steps {
                let name = format!("f{flow}");
                match sitting.iter().position(|one| *one == name).filter(|_| leaves) {
                    Some(at) => {
                        sitting.swap_remove(at);
                        seats.leave(&name);
                    }
                    None => match seats.enter(&name) {
                        Entry::Seated => sitting.push(name),
                        Entry::Waits(turn) => waiting.push((name, turn)),
                        Entry::Full => {}
                    },
                }
                waiting.retain_mut(|(name, turn)| match turn.try_recv() {
                    Ok(()) => { sitting.push(name.clone()); false }
                    Err(_) => true,
                });
                prop_assert!(sitting.len() <= 3);
                prop_assert_eq!(seats.seated(), sitting.len());
                let held = |name: &str| sitting.iter().filter(|one| *one == name).count();
                prop_assert!(sitting.len() == 3 || waiting.iter().all(|(name, _)| held(name) >= seats.share()));
            }
        }
    }
}
