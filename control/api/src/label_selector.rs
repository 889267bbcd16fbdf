//! Label selectors: the text form of query parameters (`app=web,tier in (a,b),!old`) and the object form of specs
//! (`matchLabels`, `matchExpressions`). An empty selector matches everything.

use crate::names;
use serde_json::{Map, Value};
use std::fmt;

mod parse;

/// All requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// In the order of the text.
    pub requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Of the label.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// Of `In`, `NotIn`, `GreaterThan`, `LessThan`.
    pub values: Vec<String>,
}

/// What a [`Requirement`] demands of its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Present with one of the values.
    In,
    /// Absent, or present with another value.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Present and greater, as an integer (node affinity only in the object form).
    GreaterThan,
    /// Present and less, as an integer.
    LessThan,
}

impl LabelSelector {
    /// Reads the text form; the error is Kubernetes' sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(|requirements| Self { requirements })
    }

    /// Reads `{matchLabels, matchExpressions}`; an operator that does not exist is an error.
    pub fn from_object(selector: &Value) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(Requirement::from_object(expression)?);
        }
        Ok(Self { requirements })
    }

    /// Reads a plain map of labels, as the selector of a Service.
    pub fn from_map(labels: &Map<String, Value>) -> Self {
        let one = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        };
        Self { requirements: labels.iter().map(one).collect() }
    }

    /// Whether there is nothing to fulfil.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels, given as a lookup, fulfil every requirement.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether the labels of an object fulfil every requirement.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(|key| crate::meta::label(object, key))
    }
}

impl Requirement {
    fn from_object(expression: &Value) -> Result<Self, String> {
        let operator = match expression["operator"].as_str().unwrap_or_default() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        let values = expression["values"].as_array().into_iter().flatten();
        let values = values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
        Ok(Self { key: expression["key"].as_str().unwrap_or_default().to_owned(), operator, values })
    }

    fn matches(&self, label: Option<&str>) -> bool {
        let listed = |label: &str| self.values.iter().any(|value| value == label);
        match (self.operator, label) {
            (Operator::In, Some(label)) => listed(label),
            (Operator::NotIn, Some(label)) => !listed(label),
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::NotIn, None) => true,
            (Operator::GreaterThan, Some(label)) => {
                self.compare(label).is_some_and(|(have, want)| have > want)
            }
            (Operator::LessThan, Some(label)) => self.compare(label).is_some_and(|(have, want)| have < want),
            (Operator::In | Operator::GreaterThan | Operator::LessThan, None) => false,
        }
    }

    fn compare(&self, label: &str) -> Option<(i64, i64)> {
        Some((label.parse().ok()?, self.values.first()?.parse().ok()?))
    }

    fn check(&self) -> Result<(), String> {
        if let Some(fault) = names::qualified_name(&self.key).first() {
            return Err(format!("key: Invalid value: {:?}: {fault}", self.key));
        }
        let ordered = matches!(self.operator, Operator::GreaterThan | Operator::LessThan);
        for (index, value) in self.values.iter().enumerate() {
            if ordered && value.parse::<i64>().is_err() {
                let why = "for 'Gt', 'Lt' operators, the value must be an integer";
                return Err(format!("values[{index}]: Invalid value: {value:?}: {why}"));
            }
            if let Some(fault) = names::label_value(value).first() {
                return Err(format!("values[{index}][{}]: Invalid value: {value:?}: {fault}", self.key));
            }
        }
        Ok(())
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            write!(formatter, "{}{requirement}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(",");
        match (self.operator, self.values.len()) {
            (Operator::In, 1) => write!(formatter, "{}={values}", self.key),
            (Operator::In, _) => write!(formatter, "{} in ({values})", self.key),
            (Operator::NotIn, 1) => write!(formatter, "{}!={values}", self.key),
            (Operator::NotIn, _) => write!(formatter, "{} notin ({values})", self.key),
            (Operator::Exists, _) => write!(formatter, "{}", self.key),
            (Operator::DoesNotExist, _) => write!(formatter, "!{}", self.key),
            (Operator::GreaterThan, _) => write!(formatter, "{}>{values}", self.key),
            (Operator::LessThan, _) => write!(formatter, "{}<{values}", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let lookup = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        LabelSelector::parse(selector).unwrap().matches(lookup)
    }

    #[test]
    fn every_operator_matches_as_kubernetes_does() {
        let web = [("app", "web"), ("n", "5")];
        for selector in [
            "",
            "app",
            "app=web",
            "app==web",
            "app in (x, web)",
            "b!=c",
            "!b",
            "b notin (x)",
            "n>4",
            "n<6",
            "app=web,n",
        ] {
            assert!(matches(selector, &web), "{selector}");
        }
        for selector in ["b", "app=x", "app!=web", "!app", "app notin (web,x)", "n>5", "app=", "app=web,b"] {
            assert!(!matches(selector, &web), "{selector}");
        }
        assert!(matches("e=", &[("e", "")]));
        assert!(matches("e in (,x)", &[("e", "")]));
    }

    #[test]
    fn faults_are_named() {
        let cases = [
            ("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in x", "found 'x' expected: '('"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a in (b", "found '', expected: ',' or ')'"),
        ];
        for (text, message) in cases {
            let error = LabelSelector::parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
        assert!(LabelSelector::parse("-a=b").unwrap_err().contains("key: Invalid value"));
        assert!(LabelSelector::parse("a=$").unwrap_err().contains("values[0][a]: Invalid value"));
    }

    #[test]
    fn the_object_form_and_the_text_form_agree() {
        let object = json!({"matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "t", "operator": "NotIn", "values": ["a", "b"]}, {"key": "x", "operator": "Exists"}]});
        let selector = LabelSelector::from_object(&object).unwrap();
        assert_eq!(selector.to_string(), "app=web,t notin (a,b),x");
        assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        assert!(
            LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}))
                .is_err()
        );
    }
}
