//! A label selector as Kubernetes' own types print themselves, which events and conditions contain.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The selector in words; `nil` where there is none.
pub(crate) fn words(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "nil".to_owned() };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let rules: String = selector.match_expressions.iter().flatten().map(rule).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{rules}}},}}"
    )
}

fn rule(rule: &LabelSelectorRequirement) -> String {
    let values = rule.values.as_deref().unwrap_or_default().join(" ");
    format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", rule.key, rule.operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_spelled_as_types_print_themselves() {
        let selector = json!({"matchLabels": {"app": "consul", "tier": "db"},
            "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "Exists"}]});
        let expected = "&LabelSelector{MatchLabels:map[string]string{app: consul,tier: db,},MatchExpressions:\
            []LabelSelectorRequirement{LabelSelectorRequirement{Key:zone,Operator:In,Values:[a b],},\
            LabelSelectorRequirement{Key:x,Operator:Exists,Values:[],},},}";
        assert_eq!(words(Some(&serde_json::from_value(selector).unwrap())), expected);
        assert_eq!(words(None), "nil");
    }
}
