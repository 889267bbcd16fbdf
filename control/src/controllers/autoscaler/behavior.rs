//! How fast a size may change: windows in which the most careful recommendation holds, and policies of so many pods
//! or percent in so many seconds.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec};

/// Without a window of its own: five minutes down, none up.
const DOWN_WINDOW: i32 = 300;
/// Longest period of a policy, and longest window: what is older is forgotten.
const MEMORY: SignedDuration = SignedDuration::from_hours(1);

/// Reason and message.
type Words = (&'static str, &'static str);

const STABILIZED_UP: Words = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const STABILIZED_DOWN: Words = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_LIMIT: Words =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Words =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Words =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Words = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");

/// A size, and what has limited it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// Recent recommendations held it.
    pub(super) stabilized: Option<Words>,
    /// A bound or a policy held it.
    pub(super) bound: Option<Words>,
}

/// The bound to which a size has to be brought, whatever the load is, and why.
pub(super) fn within(spec: &HorizontalPodAutoscalerSpec, replicas: i32) -> Option<(i32, &'static str)> {
    let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    match replicas {
        _ if replicas > most => Some((most, "Current number of replicas above Spec.MaxReplicas")),
        _ if replicas < least => Some((least, "Current number of replicas below Spec.MinReplicas")),
        _ => None,
    }
}

/// What was recommended and changed lately.
#[derive(Debug, Default)]
pub(super) struct History {
    recommendations: Vec<(Timestamp, i32)>,
    /// Pods added, or taken away.
    changes: Vec<(Timestamp, i32)>,
}

impl History {
    /// Notes a change of size.
    pub(super) fn changed(&mut self, by: i32, now: Timestamp) {
        self.changes.push((now, by));
    }

    /// The size that may be set now.
    pub(super) fn limit(
        &mut self,
        spec: &HorizontalPodAutoscalerSpec,
        replicas: i32,
        wanted: i32,
        now: Timestamp,
    ) -> Limited {
        if self.recommendations.is_empty() {
            // The first thing known of an object, also after a restart: a window has to pass before it shrinks.
            self.recommendations.push((now, replicas));
        }
        self.recommendations.push((now, wanted));
        self.recommendations.retain(|(at, _)| now.duration_since(*at) < MEMORY);
        self.changes.retain(|(at, _)| now.duration_since(*at) < MEMORY);
        let Some(behavior) = &spec.behavior else {
            let stable = self.within(DOWN_WINDOW, now).max().unwrap_or(wanted);
            let (size, bound) = unruled(spec, replicas, stable);
            let stabilized = (stable != wanted).then_some(STABILIZED_DOWN);
            return Limited { replicas: size, stabilized, bound };
        };
        let (up, down) = (behavior.scale_up.as_ref(), behavior.scale_down.as_ref());
        let stable = self.stabilize(up, down, replicas, wanted, now);
        let held = if wanted >= replicas { STABILIZED_UP } else { STABILIZED_DOWN };
        let (size, bound) = match stable {
            _ if stable > replicas => self.grown(spec, up, (replicas, stable), now),
            _ if stable < replicas => self.shrunk(spec, down, (replicas, stable), now),
            _ => (stable, None),
        };
        Limited { replicas: size, stabilized: (stable != wanted).then_some(held), bound }
    }

    /// What was recommended within so many seconds.
    fn within(&self, seconds: i32, now: Timestamp) -> impl Iterator<Item = i32> {
        let window = SignedDuration::from_secs(seconds.into());
        let recent = self.recommendations.iter().filter(move |(at, _)| now.duration_since(*at) < window);
        recent.map(|(_, wanted)| *wanted)
    }

    fn stabilize(
        &self,
        up: Option<&HPAScalingRules>,
        down: Option<&HPAScalingRules>,
        replicas: i32,
        wanted: i32,
        now: Timestamp,
    ) -> i32 {
        let within = |rules: Option<&HPAScalingRules>, default: i32| {
            let window = rules.and_then(|rules| rules.stabilization_window_seconds);
            self.within(window.unwrap_or(default), now)
        };
        let lowest = within(up, 0).min().unwrap_or(wanted).min(wanted);
        let highest = within(down, DOWN_WINDOW).max().unwrap_or(wanted).max(wanted);
        replicas.max(lowest).min(highest)
    }

    fn grown(
        &self,
        spec: &HorizontalPodAutoscalerSpec,
        rules: Option<&HPAScalingRules>,
        (replicas, wanted): (i32, i32),
        now: Timestamp,
    ) -> (i32, Option<Words>) {
        let sizes = self.sizes(rules, &default_up(), replicas, now, |base, step| base.saturating_add(step));
        let allowed = match selected(rules) {
            "Disabled" => replicas,
            "Min" => sizes.into_iter().min().unwrap_or(replicas),
            _ => sizes.into_iter().max().unwrap_or(replicas),
        };
        let most = spec.max_replicas;
        let allowed = allowed.max(replicas);
        let (limit, why) = if most > allowed { (allowed, UP_LIMIT) } else { (most, TOO_MANY) };
        if wanted > limit { (limit, Some(why)) } else { (wanted, None) }
    }

    fn shrunk(
        &self,
        spec: &HorizontalPodAutoscalerSpec,
        rules: Option<&HPAScalingRules>,
        (replicas, wanted): (i32, i32),
        now: Timestamp,
    ) -> (i32, Option<Words>) {
        let sizes = self.sizes(rules, &default_down(), replicas, now, |base, step| base.saturating_sub(step));
        let allowed = match selected(rules) {
            "Disabled" => replicas,
            "Min" => sizes.into_iter().max().unwrap_or(replicas),
            _ => sizes.into_iter().min().unwrap_or(replicas),
        };
        let least = spec.min_replicas.unwrap_or(1);
        let allowed = allowed.min(replicas);
        let (limit, why) = if least < allowed { (allowed, DOWN_LIMIT) } else { (least, TOO_FEW) };
        if wanted < limit { (limit, Some(why)) } else { (wanted, None) }
    }

    /// The size that each policy allows, from what it was when the policy's period began.
    fn sizes(
        &self,
        rules: Option<&HPAScalingRules>,
        default: &[HPAScalingPolicy],
        replicas: i32,
        now: Timestamp,
        step: fn(i32, i32) -> i32,
    ) -> Vec<i32> {
        let own = rules.and_then(|rules| rules.policies.as_deref()).filter(|all| !all.is_empty());
        let size = |policy: &HPAScalingPolicy| {
            let base = replicas - self.change(policy.period_seconds, now);
            let pods = match policy.type_.as_str() {
                "Percent" => (f64::from(base) * f64::from(policy.value) / 100.0).ceil() as i32,
                _ => policy.value,
            };
            step(base, pods)
        };
        own.unwrap_or(default).iter().map(size).collect()
    }

    /// By how much the size has changed within so many seconds.
    fn change(&self, seconds: i32, now: Timestamp) -> i32 {
        let period = SignedDuration::from_secs(seconds.into());
        let recent = self.changes.iter().filter(|(at, _)| now.duration_since(*at) < period);
        recent.map(|(_, by)| by).sum()
    }
}

/// Without a behavior of its own a target at most doubles at a time, and four pods are never too many.
fn unruled(spec: &HorizontalPodAutoscalerSpec, replicas: i32, wanted: i32) -> (i32, Option<Words>) {
    let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let allowed = replicas.saturating_mul(2).max(4);
    let (limit, why) = if most > allowed { (allowed, UP_LIMIT) } else { (most, TOO_MANY) };
    match wanted {
        _ if wanted < least => (least, Some(TOO_FEW)),
        _ if wanted > limit => (limit, Some(why)),
        _ => (wanted, None),
    }
}

fn selected(rules: Option<&HPAScalingRules>) -> &str {
    rules.and_then(|rules| rules.select_policy.as_deref()).unwrap_or("Max")
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: 15 }
}

fn default_up() -> [HPAScalingPolicy; 2] {
    [policy("Pods", 4), policy("Percent", 100)]
}

fn default_down() -> [HPAScalingPolicy; 1] {
    [policy("Percent", 100)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(behavior: Value) -> HorizontalPodAutoscalerSpec {
        let whole = json!({"minReplicas": 2, "maxReplicas": 20, "scaleTargetRef": {"kind": "D", "name": "d"}, "behavior": behavior});
        serde_json::from_value(whole).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn growth_is_limited_per_period() {
        let (spec, mut history) = (spec(json!({})), History::default());
        assert_eq!(history.limit(&spec, 3, 20, at(0)).replicas, 7, "four pods");
        history.changed(4, at(0));
        assert_eq!(history.limit(&spec, 7, 20, at(5)).bound, Some(UP_LIMIT));
        assert_eq!(history.limit(&spec, 7, 20, at(20)).replicas, 14, "all once more");
        assert_eq!(history.limit(&spec, 14, 30, at(40)).bound, Some(TOO_MANY));
    }

    #[test]
    fn without_a_behavior_a_target_doubles() {
        let spec = spec(Value::Null);
        for (replicas, wanted, expected) in [
            (1, 20, (4, Some(UP_LIMIT))),
            (3, 20, (6, Some(UP_LIMIT))),
            (3, 5, (5, None)),
            (12, 30, (20, Some(TOO_MANY))),
        ] {
            let limited = History::default().limit(&spec, replicas, wanted, at(0));
            assert_eq!((limited.replicas, limited.bound), expected, "{replicas} to {wanted}");
        }
    }

    #[test]
    fn a_dip_takes_nothing_away_for_five_minutes() {
        for behavior in [Value::Null, json!({})] {
            let (spec, mut history) = (spec(behavior), History::default());
            assert_eq!(history.limit(&spec, 10, 10, at(0)).replicas, 10);
            let held = history.limit(&spec, 10, 3, at(60));
            assert_eq!((held.replicas, held.stabilized), (10, Some(STABILIZED_DOWN)));
            assert_eq!(history.limit(&spec, 10, 3, at(301)).replicas, 3);
            assert_eq!(history.limit(&spec, 10, 1, at(700)).bound, Some(TOO_FEW));
        }
    }

    #[test]
    fn a_burst_adds_nothing_within_a_window() {
        let spec = spec(json!({"scaleUp": {"stabilizationWindowSeconds": 60}}));
        let mut history = History::default();
        let held = history.limit(&spec, 3, 6, at(0));
        assert_eq!((held.replicas, held.stabilized), (3, Some(STABILIZED_UP)));
        assert_eq!(history.limit(&spec, 3, 6, at(61)).replicas, 6);
    }

    #[test]
    fn policies_of_ones_own() {
        let slow = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}});
        assert_eq!(History::default().limit(&spec(slow), 10, 3, at(0)).replicas, 9);
        let never = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}});
        assert_eq!(History::default().limit(&spec(never), 10, 3, at(0)).replicas, 10);
    }

    #[test]
    fn policies_count_from_where_their_period_began() {
        let pods = |value: i32, period: i32| json!({"type": "Pods", "value": value, "periodSeconds": period});
        let up = |select: &str| {
            spec(json!({"scaleUp": {"selectPolicy": select, "policies": [pods(4, 60), pods(1, 15)]}}))
        };
        let after = |changes: &[(i32, i64)]| {
            let mut history = History::default();
            changes.iter().for_each(|(by, seconds)| history.changed(*by, at(*seconds)));
            history
        };
        // Eight were added half a minute ago: one policy has allowed all it does, the other one pod more.
        assert_eq!(after(&[(8, 30)]).limit(&up("Max"), 10, 20, at(60)).replicas, 11);
        assert_eq!(after(&[(8, 30)]).limit(&up("Min"), 10, 20, at(60)).replicas, 10);
        // Those that were taken away since may come back.
        assert_eq!(after(&[(4, 30), (-4, 40)]).limit(&up("Max"), 10, 20, at(60)).replicas, 14);
    }

    #[test]
    fn bounds_hold_whatever_the_load() {
        let spec = spec(Value::Null);
        assert_eq!(within(&spec, 1), Some((2, "Current number of replicas below Spec.MinReplicas")));
        assert_eq!(within(&spec, 21), Some((20, "Current number of replicas above Spec.MaxReplicas")));
        assert_eq!(within(&spec, 2).or(within(&spec, 20)), None);
    }
}
