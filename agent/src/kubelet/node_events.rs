//! What changes about a node as a whole, as the events by which a kubelet tells of it.

use k8s_openapi::api::core::v1::NodeCondition;

/// The condition, and the reasons for its being true and false.
const REASONS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
    ("Ready", "NodeReady", "NodeNotReady"),
];

/// Reasons of the events for conditions that are new or not what they were.
pub fn reasons(before: &[NodeCondition], after: &[NodeCondition]) -> Vec<&'static str> {
    let status = |list: &[NodeCondition], kind: &str| {
        list.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
    };
    let changed = |(kind, yes, no): &(&str, &'static str, &'static str)| {
        let now = status(after, kind)?;
        let reason = if now == "True" { *yes } else { *no };
        (status(before, kind).as_ref() != Some(&now)).then_some(reason)
    };
    REASONS.iter().filter_map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_told() {
        let conditions = |memory: &str, ready: &str| -> Vec<NodeCondition> {
            let one = |kind: &str, status: &str| NodeCondition {
                type_: kind.into(),
                status: status.into(),
                ..Default::default()
            };
            vec![one("MemoryPressure", memory), one("Ready", ready)]
        };
        let well = conditions("False", "True");
        assert_eq!(reasons(&[], &well), ["NodeHasSufficientMemory", "NodeReady"]);
        assert_eq!(reasons(&well, &well), Vec::<&str>::new());
        assert_eq!(reasons(&well, &conditions("True", "True")), ["NodeHasInsufficientMemory"]);
        assert_eq!(
            reasons(&conditions("Unknown", "Unknown"), &conditions("False", "False")),
            ["NodeHasSufficientMemory", "NodeNotReady"]
        );
    }
}
