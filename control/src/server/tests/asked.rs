//! What kube-apiserver 1.36 answered to requests that are wrong, or nearly: their options, their bodies, their patches,
//! where they lead. `asked.jsonl` holds a request and the code and words of the answer per line; where we answer
//! otherwise on purpose there is no line.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    /// Of the body.
    #[serde(default)]
    content: String,
    /// What the client takes; anything where empty.
    #[serde(default)]
    accept: String,
    /// As it is sent, byte by byte.
    #[serde(default)]
    body: String,
    code: u16,
    /// Of the Status, where it is one.
    #[serde(default)]
    message: String,
}

impl Asked {
    /// Asks; how the answer differs from the recorded one, if it does.
    fn difference(&self, lab: &Lab) -> Option<String> {
        let answer =
            lab.send_for(&self.accept, &self.method, &self.path, &self.content, self.body.clone().into());
        let answer = lab.read(answer);
        let found = (answer.code, answer.text("/message"));
        let recorded = (self.code, self.message.clone());
        let Self { method, path, body, .. } = self;
        (found != recorded)
            .then(|| format!("{method} {path} {body}\n   recorded {recorded:?}\n   answered {found:?}"))
    }
}

#[test]
fn requests_are_answered_as_kubernetes_answers_them() {
    let lab = lab();
    for (name, value) in [("a", "1"), ("b", "2")] {
        let map = json!({"metadata": {"name": name, "labels": {"l": value}}, "data": {"k": "v"}});
        assert_eq!(lab.post(CONFIG_MAPS, &map).code, 201);
    }
    let asked: Vec<Asked> =
        include_str!("asked.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(asked.len() > 100, "{} requests", asked.len());
    let different: Vec<String> = asked.iter().filter_map(|one| one.difference(&lab)).collect();
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
