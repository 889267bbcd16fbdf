//! How fast a size may change: windows in which the most careful recommendation holds, and policies of so many pods
//! or percent in so many seconds.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec};

/// Without a window of its own: five minutes down, none up.
const DOWN_WINDOW: i32 = 300;
/// Longest period of a policy, and longest window: what is older is forgotten.
const MEMORY: SignedDuration = SignedDuration::from_hours(1);

/// A size, and what has limited it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// Recent recommendations held it.
    pub(super) stabilized: Option<&'static str>,
    /// Reason and message, where a bound or a policy held it.
    pub(super) bound: Option<(&'static str, &'static str)>,
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
        let behavior = spec.behavior.as_ref();
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
        let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
        let stable = self.stabilize(up, down, replicas, wanted, now);
        let stabilized = match stable {
            _ if stable > wanted => Some(
                "recent recommendations were higher than current one, applying the highest recent recommendation",
            ),
            _ if stable < wanted => Some(
                "recent recommendations were lower than current one, applying the lowest recent recommendation",
            ),
            _ => None,
        };
        let (replicas, bound) = self.bound(spec, (up, down), replicas, stable, now);
        Limited { replicas, stabilized, bound }
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
            let window = rules.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default);
            let window = SignedDuration::from_secs(window.into());
            let recent = self.recommendations.iter().filter(move |(at, _)| now.duration_since(*at) < window);
            recent.map(|(_, wanted)| *wanted)
        };
        let lowest = within(up, 0).min().unwrap_or(wanted).min(wanted);
        let highest = within(down, DOWN_WINDOW).max().unwrap_or(wanted).max(wanted);
        replicas.max(lowest).min(highest)
    }

    fn bound(
        &self,
        spec: &HorizontalPodAutoscalerSpec,
        (up, down): (Option<&HPAScalingRules>, Option<&HPAScalingRules>),
        replicas: i32,
        wanted: i32,
        now: Timestamp,
    ) -> (i32, Option<(&'static str, &'static str)>) {
        let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        if wanted > replicas {
            let added = |period| self.sum(now, period, |by| by.max(0));
            let allowed =
                self.allowed(up, &default_up(), replicas, added, |base, step| base + step).max(replicas);
            return match (wanted > most, wanted > allowed) {
                (_, true) if allowed < most => (
                    allowed,
                    Some((
                        "ScaleUpLimit",
                        "the desired replica count is increasing faster than the maximum scale rate",
                    )),
                ),
                (true, _) => (
                    most,
                    Some((
                        "TooManyReplicas",
                        "the desired replica count is more than the maximum replica count",
                    )),
                ),
                _ => (wanted, None),
            };
        }
        let removed = |period| self.sum(now, period, |by| by.min(0));
        let allowed =
            self.allowed(down, &default_down(), replicas, removed, |base, step| base - step).min(replicas);
        match (wanted < least, wanted < allowed) {
            _ if wanted > most => (
                most,
                Some(("TooManyReplicas", "the desired replica count is more than the maximum replica count")),
            ),
            (_, true) if allowed > least => (
                allowed,
                Some((
                    "ScaleDownLimit",
                    "the desired replica count is decreasing faster than the maximum scale rate",
                )),
            ),
            (true, _) => (
                least,
                Some(("TooFewReplicas", "the desired replica count is less than the minimum replica count")),
            ),
            _ => (wanted, None),
        }
    }

    fn sum(&self, now: Timestamp, period: i32, part: fn(i32) -> i32) -> i32 {
        let period = SignedDuration::from_secs(period.into());
        let recent = self.changes.iter().filter(|(at, _)| now.duration_since(*at) < period);
        recent.map(|(_, by)| part(*by)).sum()
    }

    /// The size that policies allow: the one farthest away, or the nearest where the least change is selected.
    fn allowed(
        &self,
        rules: Option<&HPAScalingRules>,
        default: &[HPAScalingPolicy],
        replicas: i32,
        done: impl Fn(i32) -> i32,
        step: fn(i32, i32) -> i32,
    ) -> i32 {
        let select = rules.and_then(|rules| rules.select_policy.as_deref()).unwrap_or("Max");
        if select == "Disabled" {
            return replicas;
        }
        let policies = rules
            .and_then(|rules| rules.policies.as_deref())
            .filter(|all| !all.is_empty())
            .unwrap_or(default);
        let sizes = policies.iter().map(|policy| {
            let base = replicas - done(policy.period_seconds);
            let pods = match policy.type_.as_str() {
                "Percent" => (f64::from(base) * f64::from(policy.value) / 100.0).ceil() as i32,
                _ => policy.value,
            };
            step(base, pods)
        });
        let by_change = |size: &i32| (size - replicas).abs();
        let chosen = if select == "Min" { sizes.min_by_key(by_change) } else { sizes.max_by_key(by_change) };
        chosen.unwrap_or(replicas)
    }
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
        let (spec, mut history) = (spec(Value::Null), History::default());
        assert_eq!(history.limit(&spec, 3, 20, at(0)).replicas, 7, "four pods");
        history.changed(4, at(0));
        assert_eq!(history.limit(&spec, 7, 20, at(5)).bound.unwrap().0, "ScaleUpLimit");
        assert_eq!(history.limit(&spec, 7, 20, at(20)).replicas, 14, "all once more");
        assert_eq!(history.limit(&spec, 14, 30, at(40)).bound.unwrap().0, "TooManyReplicas");
    }

    #[test]
    fn a_dip_takes_nothing_away_for_five_minutes() {
        let (spec, mut history) = (spec(Value::Null), History::default());
        assert_eq!(history.limit(&spec, 10, 10, at(0)).replicas, 10);
        let held = history.limit(&spec, 10, 3, at(60));
        assert_eq!(held.replicas, 10);
        assert!(held.stabilized.unwrap().starts_with("recent recommendations were higher"));
        assert_eq!(history.limit(&spec, 10, 3, at(301)).replicas, 3);
        assert_eq!(history.limit(&spec, 10, 1, at(700)).bound.unwrap().0, "TooFewReplicas");
    }

    #[test]
    fn policies_of_ones_own() {
        let slow = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}});
        assert_eq!(History::default().limit(&spec(slow), 10, 3, at(0)).replicas, 9);
        let never = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}});
        assert_eq!(History::default().limit(&spec(never), 10, 3, at(0)).replicas, 10);
    }
}
