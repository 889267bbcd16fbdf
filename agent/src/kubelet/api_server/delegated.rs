//! Callers whom the cluster knows: a bearer token is shown to it (TokenReview), and it says what somebody may do with
//! this node (SubjectAccessReview). Answers are remembered for as long as a kubelet remembers them, so that a
//! collector of metrics costs the cluster next to nothing.

use super::respond::Refusal;
use http::StatusCode;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const TOKEN: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
/// Answers remembered of each kind; strangers must not fill our memory.
const MOST: usize = 1024;
/// For one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
}

/// Answers with the time they end.
struct Remembered<Q, A>(Mutex<HashMap<Q, (A, Instant)>>);

impl<Q: Eq + Hash, A: Clone> Remembered<Q, A> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn get(&self, question: &Q, now: Instant) -> Option<A> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(question).filter(|(_, end)| now < *end).map(|(answer, _)| answer.clone())
    }

    fn put(&self, question: Q, answer: A, now: Instant, lasts: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.retain(|_, (_, end)| now < *end);
        }
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(question, (answer, now + lasts));
    }
}

/// The questions of one node.
pub(super) struct Delegated {
    client: Client,
    node: String,
    users: Remembered<[u8; 32], Option<User>>,
    decisions: Remembered<(User, &'static str, &'static str), bool>,
}

impl Delegated {
    pub(super) fn new(client: Client, node: &str) -> Self {
        let (users, decisions) = (Remembered::new(), Remembered::new());
        Self { client, node: node.to_owned(), users, decisions }
    }

    /// Whose token it is.
    pub(super) async fn who(&self, token: &str) -> Result<User, Refusal> {
        let unknown = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
        let (digest, now) = (Sha256::digest(token).into(), Instant::now());
        if let Some(known) = self.users.get(&digest, now) {
            return known.ok_or_else(unknown);
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..Default::default() };
        let review = TokenReview { spec, ..Default::default() };
        let answer = self.ask(review).await?.status.unwrap_or_default();
        let user = answer.user.filter(|_| answer.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        });
        self.users.put(digest, user.clone(), now, if user.is_some() { TOKEN } else { DENIED });
        user.ok_or_else(unknown)
    }

    /// Whether the user may do this with any of these parts of the node.
    pub(super) async fn may(
        &self,
        user: &User,
        verb: &'static str,
        parts: &'static [&'static str],
    ) -> Result<bool, Refusal> {
        for part in parts {
            let (question, now) = ((user.clone(), verb, *part), Instant::now());
            let known = match self.decisions.get(&question, now) {
                Some(known) => known,
                None => {
                    let answer = self.ask(self.review(user, verb, part)).await?;
                    let allowed = answer.status.is_some_and(|status| status.allowed);
                    self.decisions.put(question, allowed, now, if allowed { ALLOWED } else { DENIED });
                    allowed
                }
            };
            if known {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn review(&self, user: &User, verb: &str, part: &str) -> SubjectAccessReview {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(part.to_owned()),
            name: Some(self.node.clone()),
            ..Default::default()
        };
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(user.groups.clone()),
            ..Default::default()
        };
        SubjectAccessReview { spec, ..Default::default() }
    }

    /// A cluster that does not answer lets nobody in.
    async fn ask<R>(&self, review: R) -> Result<R, Refusal>
    where
        R: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + serde::Serialize
            + Clone
            + std::fmt::Debug
            + for<'a> serde::Deserialize<'a>,
    {
        let (api, parameters) = (Api::<R>::all(self.client.clone()), PostParams::default());
        match tokio::time::timeout(PATIENCE, api.create(&parameters, &review)).await {
            Ok(answered) => answered.map_err(Refusal::internal),
            Err(_) => Err(Refusal::internal("Authorization error: the API server does not answer")),
        }
    }
}

/// What of a node a path is about, the finest first, as the kubelet has it.
pub(super) fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').nth(1).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_remembered_for_their_time_and_not_without_bound() {
        let (remembered, now) = (Remembered::new(), Instant::now());
        remembered.put(1, "a", now, Duration::from_secs(5));
        assert_eq!(remembered.get(&1, now), Some("a"));
        assert_eq!(remembered.get(&1, now + Duration::from_secs(5)), None);
        for question in 0..3 * MOST {
            remembered.put(question, "b", now, Duration::from_secs(5));
        }
        assert!(remembered.0.lock().unwrap().len() <= MOST);
    }

    #[test]
    fn paths_are_parts_of_the_node() {
        assert_eq!(subresources("/metrics/cadvisor"), ["metrics"]);
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!(subresources("/exec/default/p/c"), ["proxy"]);
        assert_eq!(subresources("/logs/"), ["log"]);
        assert_eq!(subresources(""), ["proxy"]);
    }
}
