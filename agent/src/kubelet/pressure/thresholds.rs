//! When the node counts as short of something: thresholds as text (`memory.available` below `100Mi`, `nodefs.available`
//! below `10%`), which of them are met, for how long, and the conditions that follow. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is measured. The order is that of eviction: memory first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signal {
    #[allow(missing_docs)]
    Memory,
    /// Space where volumes and logs are.
    NodeDisk,
    #[allow(missing_docs)]
    NodeInodes,
    /// Space where images are.
    ImageDisk,
    #[allow(missing_docs)]
    ImageInodes,
    #[allow(missing_docs)]
    Pids,
}

const NAMES: [(&str, Signal); 6] = [
    ("memory.available", Signal::Memory),
    ("nodefs.available", Signal::NodeDisk),
    ("nodefs.inodesFree", Signal::NodeInodes),
    ("imagefs.available", Signal::ImageDisk),
    ("imagefs.inodesFree", Signal::ImageInodes),
    ("pid.available", Signal::Pids),
];

impl Signal {
    /// The resource as messages name it.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Signal::Memory => "memory",
            Signal::NodeDisk | Signal::ImageDisk => "ephemeral-storage",
            Signal::NodeInodes | Signal::ImageInodes => "inodes",
            Signal::Pids => "pids",
        }
    }

    /// Something that removing images may help.
    pub(super) fn is_disk(self) -> bool {
        !matches!(self, Signal::Memory | Signal::Pids)
    }
}

/// How little is too little.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Absolute(u64),
    Percent(f64),
}

impl Amount {
    fn of(self, capacity: u64) -> u64 {
        match self {
            Amount::Absolute(amount) => amount,
            Amount::Percent(percent) => (capacity as f64 * percent / 100.0) as u64,
        }
    }

    /// What a threshold is switched off with.
    fn is_off(self) -> bool {
        matches!(self, Amount::Percent(percent) if percent == 0.0 || percent == 100.0)
    }
}

/// One threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    pub(super) signal: Signal,
    amount: Amount,
    /// Nothing happens before it was met for so long; zero for a hard threshold.
    grace: Duration,
    /// Once it calls for action it does until so much more than the amount is there.
    reclaim: Option<Amount>,
}

/// How much is left, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) available: u64,
    pub(super) capacity: u64,
}

/// What was measured; what could not be is absent.
pub(super) type Readings = BTreeMap<Signal, Reading>;

impl Threshold {
    /// The amount in units of the resource.
    pub(super) fn limit(&self, capacity: u64) -> u64 {
        self.amount.of(capacity)
    }

    /// It waits before anything happens.
    pub(super) fn is_soft(&self) -> bool {
        !self.grace.is_zero()
    }

    pub(super) fn is_met(&self, readings: &Readings) -> bool {
        let reading = readings.get(&self.signal);
        reading.is_some_and(|reading| reading.available < self.limit(reading.capacity))
    }

    /// Not even what must be reclaimed beyond it is there.
    pub(super) fn is_unresolved(&self, readings: &Readings) -> bool {
        let more = |capacity| self.reclaim.map_or(0, |reclaim| reclaim.of(capacity));
        let wanted = |capacity| self.limit(capacity).saturating_add(more(capacity));
        readings.get(&self.signal).is_some_and(|reading| reading.available < wanted(reading.capacity))
    }
}

/// The settings that thresholds are made of, by the names of signals.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    #[allow(missing_docs)]
    pub hard: &'a BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub soft: &'a BTreeMap<String, String>,
    /// A duration for each soft one.
    pub grace: &'a BTreeMap<String, String>,
    #[allow(missing_docs)]
    pub reclaim: &'a BTreeMap<String, String>,
}

/// Reads thresholds from settings. The error names the key.
pub fn parse(texts: Texts<'_>) -> Result<Vec<Threshold>, String> {
    let mut thresholds = Vec::new();
    let wrong = |key: &'static str| move |error: String| format!("{key}: {error}");
    let mut reclaims = BTreeMap::new();
    for (name, text) in texts.reclaim {
        let (signal, amount) = one(name, text).map_err(wrong("eviction_minimum_reclaim"))?;
        reclaims.insert(signal, amount);
    }
    let reclaim = |signal| reclaims.get(&signal).copied();
    for (name, text) in texts.hard {
        let (signal, amount) = one(name, text).map_err(wrong("eviction_hard"))?;
        thresholds.push(Threshold { signal, amount, grace: Duration::ZERO, reclaim: reclaim(signal) });
    }
    for (name, text) in texts.soft {
        let (signal, amount) = one(name, text).map_err(wrong("eviction_soft"))?;
        let period = texts.grace.get(name).and_then(|text| seconds(text));
        let grace = period.ok_or_else(|| {
            format!("eviction_soft_grace_period: {name}: a duration such as \"90s\" or \"5m\" is required")
        })?;
        thresholds.push(Threshold { signal, amount, grace, reclaim: reclaim(signal) });
    }
    thresholds.retain(|threshold| !threshold.amount.is_off());
    thresholds.sort_by_key(|threshold| (threshold.signal, threshold.grace));
    Ok(thresholds)
}

fn one(name: &str, text: &str) -> Result<(Signal, Amount), String> {
    let known = NAMES.iter().find(|(known, _)| *known == name);
    let signal = known.map(|(_, signal)| *signal).ok_or_else(|| format!("unknown signal \"{name}\""))?;
    let bad = || format!("{name}: \"{text}\" is neither a quantity nor a percentage");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| bad())?;
        return Some(Amount::Percent(percent))
            .filter(|_| (0.0..=100.0).contains(&percent))
            .map(|amount| (signal, amount))
            .ok_or_else(bad);
    }
    let units = crate::kubelet::resources::value(&Quantity(text.to_string())).ok_or_else(bad)?;
    Ok((signal, Amount::Absolute(u64::try_from(units).map_err(|_| bad())?)))
}

/// `1m30s`, as Go writes durations, in whole seconds.
fn seconds(text: &str) -> Option<Duration> {
    let (number, rest) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (unit, rest) = rest.split_at_checked(1)?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let first = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(factor)?);
    if rest.is_empty() { Some(first) } else { first.checked_add(seconds(rest)?) }
}

/// What the node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    #[allow(missing_docs)]
    pub memory: bool,
    #[allow(missing_docs)]
    pub disk: bool,
    #[allow(missing_docs)]
    pub pids: bool,
}

impl Conditions {
    fn set(&mut self, signal: Signal) {
        match signal {
            Signal::Memory => self.memory = true,
            Signal::Pids => self.pids = true,
            _ => self.disk = true,
        }
    }

    /// The conditions that hold, as the API names them.
    pub fn names(self) -> Vec<&'static str> {
        let all = [(self.memory, "MemoryPressure"), (self.disk, "DiskPressure"), (self.pids, "PIDPressure")];
        all.into_iter().filter(|(holds, _)| *holds).map(|(_, name)| name).collect()
    }
}

/// What follows from one measurement.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    /// Thresholds that call for action, the most pressing first.
    pub(super) due: Vec<Threshold>,
    pub(super) conditions: Conditions,
}

/// Remembers since when thresholds are met, and when they were met last.
#[derive(Debug)]
pub(super) struct Tracker {
    transition: Duration,
    since: Vec<(Threshold, Timestamp)>,
    /// Those that called for action the last time.
    due: Vec<Threshold>,
    last: BTreeMap<Signal, Timestamp>,
}

impl Tracker {
    pub(super) fn new(transition: Duration) -> Tracker {
        Tracker { transition, since: Vec::new(), due: Vec::new(), last: BTreeMap::new() }
    }

    pub(super) fn update(
        &mut self,
        thresholds: &[Threshold],
        readings: &Readings,
        now: Timestamp,
    ) -> Outcome {
        let due = std::mem::take(&mut self.due);
        let goes_on = |threshold: &Threshold| due.contains(threshold) && threshold.is_unresolved(readings);
        self.since.retain(|(threshold, _)| threshold.is_met(readings) || goes_on(threshold));
        for threshold in thresholds.iter().filter(|threshold| threshold.is_met(readings)) {
            if !self.since.iter().any(|(known, _)| known == threshold) {
                self.since.push((*threshold, now));
            }
        }
        self.last.extend(self.since.iter().map(|(threshold, _)| (threshold.signal, now)));
        let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.last.retain(|_, last| *last == now || age(*last) < self.transition);
        let mut conditions = Conditions::default();
        self.last.keys().for_each(|signal| conditions.set(*signal));
        let ripe = self.since.iter().filter(|(threshold, since)| age(*since) >= threshold.grace);
        let mut due: Vec<Threshold> = ripe.map(|(threshold, _)| *threshold).collect();
        due.sort_by_key(|threshold| (threshold.signal, threshold.grace));
        self.due.clone_from(&due);
        Outcome { due, conditions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn read(
        hard: &[(&str, &str)],
        soft: &[(&str, &str)],
        grace: &[(&str, &str)],
        reclaim: &[(&str, &str)],
    ) -> Result<Vec<Threshold>, String> {
        let [hard, soft, grace, reclaim] = [hard, soft, grace, reclaim].map(map);
        parse(Texts { hard: &hard, soft: &soft, grace: &grace, reclaim: &reclaim })
    }

    fn left(signal: Signal, available: u64) -> Readings {
        Readings::from([(signal, Reading { available, capacity: 1000 })])
    }

    #[test]
    fn settings_are_read_and_checked() {
        let hard = [("nodefs.available", "10%"), ("memory.available", "100"), ("pid.available", "0%")];
        let thresholds = read(&hard, &[], &[], &[]).unwrap();
        assert_eq!(thresholds.len(), 2, "nothing at all switches a threshold off");
        assert!(
            read(&[("pid.available", "100%")], &[], &[], &[]).unwrap().is_empty(),
            "and so does everything"
        );
        assert_eq!(thresholds[0].signal, Signal::Memory);
        assert_eq!((thresholds[0].limit(1), thresholds[1].limit(1000)), (100, 100));
        for (name, text) in [("memory", "1"), ("pid.available", "x"), ("pid.available", "200%")] {
            assert!(read(&[(name, text)], &[], &[], &[]).unwrap_err().starts_with("eviction_hard"));
        }
        let soft = [("memory.available", "1Gi")];
        for grace in ["", "s", "5", "5x", "1m5", "m1s"] {
            let error = read(&[], &soft, &[("memory.available", grace)], &[]).unwrap_err();
            assert!(error.contains("eviction_soft_grace_period"), "{error}");
        }
        for (grace, seconds) in [("2m", 120), ("1m30s", 90), ("1h0m1s", 3601)] {
            let read = read(&[], &soft, &[("memory.available", grace)], &[]).unwrap();
            assert_eq!(read[0].grace, Duration::from_secs(seconds));
        }
        let error = read(&[], &[], &[], &[("memory.available", "much")]).unwrap_err();
        assert!(error.starts_with("eviction_minimum_reclaim"), "{error}");
    }

    #[test]
    fn what_calls_for_action_does_until_enough_is_reclaimed() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let reclaim = [("memory.available", "5%")];
        let thresholds = read(&[("memory.available", "100")], &[], &[], &reclaim).unwrap();
        let mut tracker = Tracker::new(Duration::ZERO);
        for (second, available, due) in
            [(0, 120, 0), (1, 99, 1), (2, 120, 1), (3, 149, 1), (4, 150, 0), (5, 120, 0)]
        {
            let outcome = tracker.update(&thresholds, &left(Signal::Memory, available), at(second));
            assert_eq!(outcome.due.len(), due, "{second}");
            assert_eq!(outcome.conditions.memory, due > 0, "{second}");
        }
    }

    #[test]
    fn soft_thresholds_wait_and_conditions_linger() {
        let (soft, grace) = ([("memory.available", "100")], [("memory.available", "30s")]);
        let thresholds = read(&[("pid.available", "5%")], &soft, &grace, &[]).unwrap();
        let mut tracker = Tracker::new(Duration::from_secs(300));
        let at = |second| Timestamp::from_second(second).unwrap();
        let short = left(Signal::Memory, 99);
        let first = tracker.update(&thresholds, &short, at(0));
        assert!(first.due.is_empty() && first.conditions.memory);
        assert_eq!(tracker.update(&thresholds, &short, at(30)).due.len(), 1);
        let plenty = left(Signal::Memory, 100);
        let lingering = tracker.update(&thresholds, &plenty, at(40));
        assert_eq!((lingering.due.len(), lingering.conditions.names()), (0, vec!["MemoryPressure"]));
        assert!(!tracker.update(&thresholds, &plenty, at(331)).conditions.memory);
        let pids = tracker.update(&thresholds, &left(Signal::Pids, 49), at(400));
        assert_eq!((pids.due.len(), pids.conditions.names()), (1, vec!["PIDPressure"]));
    }
}
