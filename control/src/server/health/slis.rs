//! `/metrics/slis`: how the checks of health went, as Kubernetes' components tell it of themselves. A check counts when
//! somebody asks for an endpoint of health; nobody is asked in vain.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

const LAST: &str = "kubernetes_healthcheck";
const ALL: &str = "kubernetes_healthchecks_total";

/// By check and endpoint. Locked for one look-up per check.
#[derive(Debug, Default)]
pub(in crate::server) struct Slis {
    checks: Mutex<BTreeMap<(&'static str, String), Outcomes>>,
}

#[derive(Debug, Default)]
struct Outcomes {
    last: bool,
    errors: u64,
    successes: u64,
}

impl Slis {
    /// Counts one check.
    pub(super) fn observe(&self, endpoint: &str, check: &'static str, passed: bool) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes = checks.entry((check, endpoint.to_owned())).or_default();
        outcomes.last = passed;
        *if passed { &mut outcomes.successes } else { &mut outcomes.errors } += 1;
    }

    /// All of it, in the text format of Prometheus.
    pub(in crate::server) fn text(&self) -> String {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut last, mut all) = (String::new(), String::new());
        for ((name, kind), outcomes) in &*checks {
            let _ = writeln!(last, "{LAST}{{name=\"{name}\",type=\"{kind}\"}} {}", u8::from(outcomes.last));
            for (status, count) in [("error", outcomes.errors), ("success", outcomes.successes)] {
                if count > 0 {
                    let _ =
                        writeln!(all, "{ALL}{{name=\"{name}\",status=\"{status}\",type=\"{kind}\"}} {count}");
                }
            }
        }
        format!(
            "# HELP {LAST} [STABLE] This metric records the result of a single healthcheck.\n# TYPE {LAST} gauge\n{last}\
             # HELP {ALL} [STABLE] This metric records the results of all healthcheck.\n# TYPE {ALL} counter\n{all}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_outcome_and_all_of_them() {
        let slis = Slis::default();
        for passed in [false, true, true] {
            slis.observe("readyz", "etcd", passed);
        }
        let text = slis.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            r#"kubernetes_healthcheck{name="etcd",type="readyz"} 1"#,
            r#"kubernetes_healthchecks_total{name="etcd",status="error",type="readyz"} 1"#,
            r#"kubernetes_healthchecks_total{name="etcd",status="success",type="readyz"} 2"#,
        ];
        assert_eq!(lines, expected);
    }
}
