//! What kube-apiserver 1.36 answered to some 900 objects, most of them wrong in one way, is what we answer: accepted or
//! refused, the field and the words of every fault, the warnings. `recorded.jsonl` holds a request and its answer per
//! line; where both servers differ on purpose (words of 1.36 that 1.33 did not have) there is no line.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    path: String,
    /// What an update finds.
    before: Option<Value>,
    object: Value,
    code: u16,
    #[serde(default)]
    causes: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

impl Case {
    /// Sends it; how the answer differs from the recorded one, if it does.
    fn difference(&self, lab: &Lab) -> Option<String> {
        let answer = match &self.before {
            None => lab.post(&format!("{}?dryRun=All", self.path), &self.object),
            Some(before) => self.update(lab, before),
        };
        let mut causes: Vec<String> =
            answer.at("/details/causes").as_array().into_iter().flatten().map(cause).collect();
        causes.sort();
        let mut expected = self.causes.clone();
        expected.sort();
        let warnings = answer.headers.get_all(http::header::WARNING).iter();
        let mut warnings: Vec<String> = warnings.map(|value| unquoted(value.to_str().unwrap())).collect();
        let mut warned = self.warnings.clone();
        // They come in the order of the text, which the recording did not keep.
        warnings.sort();
        warned.sort();
        let found = (answer.code, causes, warnings);
        let recorded = (self.code, expected, warned);
        (found != recorded).then(|| format!("{}\n   recorded {recorded:?}\n   answered {found:?}", self.name))
    }

    fn update(&self, lab: &Lab, before: &Value) -> Response {
        let created = lab.post(&self.path, before);
        assert_eq!(created.code, 201, "{}: {created:?}", self.name);
        let mut object = created.body;
        overlay(&mut object, &self.object);
        let place = format!("{}/{}", self.path, created_name(before));
        let answer = lab.put(&place, &object);
        // Quotas and the like would have a say in what comes after.
        let gone = lab.delete(&place, &json!({"gracePeriodSeconds": 0}));
        assert_eq!(gone.code, 200, "{}: {gone:?}", self.name);
        answer
    }
}

fn created_name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// What was sent over what the server made of the first version, as the recording did it.
fn overlay(onto: &mut Value, from: &Value) {
    let (Value::Object(onto), Value::Object(from)) = (&mut *onto, from) else {
        onto.clone_from(from);
        return;
    };
    for (key, value) in from {
        if value.is_null() {
            onto.remove(key);
        } else {
            overlay(onto.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn cause(cause: &Value) -> String {
    let part = |name: &str| cause[name].as_str().unwrap_or_default().to_owned();
    format!("{}: {}", part("field"), part("message"))
}

/// The text of a `Warning` header.
fn unquoted(header: &str) -> String {
    let text = header.strip_prefix("299 - \"").and_then(|text| text.strip_suffix('"')).unwrap_or(header);
    text.replace("\\\"", "\"").replace("\\\\", "\\")
}

#[test]
fn answers_are_those_of_kubernetes() {
    let lab = lab();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(lab.post(accounts, &json!({"metadata": {"name": "default"}})).code, 201);
    let cases: Vec<Case> =
        include_str!("recorded.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() > 700, "{} cases", cases.len());
    let different: Vec<String> = cases.iter().filter_map(|case| case.difference(&lab)).collect();
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
