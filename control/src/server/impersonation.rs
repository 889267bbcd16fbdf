//! Impersonation: a user who may, acts as another one (`kubectl --as`, `--as-group`). Each part of the other identity
//! needs the verb `impersonate` on it.

use super::Server;
use crate::authn::{AUTHENTICATED, UNAUTHENTICATED, User};
use crate::authz::Attributes;
use http::HeaderMap;
use knarr_api::Status;
use std::collections::BTreeMap;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Who is to be impersonated, as the headers say.
#[derive(Debug, Default)]
struct Wanted {
    user: String,
    groups: Vec<String>,
    uid: String,
    /// Key and value; the key percent-decoded.
    extra: Vec<(String, String)>,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let mut wanted = Self::default();
        for (name, value) in headers {
            if !name.as_str().starts_with("impersonate-") {
                continue;
            }
            let value =
                value.to_str().map_err(|_| Status::bad_request(format!("header {name} is not text")))?;
            match name.as_str() {
                USER => wanted.user = value.to_owned(),
                GROUP => wanted.groups.push(value.to_owned()),
                UID => wanted.uid = value.to_owned(),
                other => wanted.extra.extend(extra(other, value)),
            }
        }
        let more = !wanted.groups.is_empty() || !wanted.uid.is_empty() || !wanted.extra.is_empty();
        match (wanted.user.is_empty(), more) {
            (true, true) => {
                Err(Status::internal("groups, uid or extras are requested without impersonating a user"))
            }
            (true, false) => Ok(None),
            (false, _) => Ok(Some(wanted)),
        }
    }

    /// The user they make: groups that follow from the name are added.
    fn user(self) -> User {
        let mut groups = self.groups;
        if let Some((namespace, _)) = service_account(&self.user)
            && groups.is_empty()
        {
            groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
        let standing = if self.user == "system:anonymous" { UNAUTHENTICATED } else { AUTHENTICATED };
        if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            groups.push(standing.to_owned());
        }
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in self.extra {
            extra.entry(key).or_default().push(value);
        }
        User { name: self.user, groups, uid: self.uid, extra }
    }
}

fn extra(header: &str, value: &str) -> Option<(String, String)> {
    let key = super::query::percent_decode(header.strip_prefix(EXTRA)?, false)?;
    Some((key, value.to_owned()))
}

/// Namespace and name of `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

impl Server {
    /// The user as whom a request is made: the one who sent it, or the one they may act as.
    pub(super) async fn impersonate(&self, user: User, headers: &HeaderMap) -> Result<User, Status> {
        let Some(wanted) = Wanted::read(headers)? else { return Ok(user) };
        match service_account(&wanted.user) {
            Some((namespace, name)) => self.may_be(&user, "", "serviceaccounts", "", namespace, name).await?,
            None => self.may_be(&user, "", "users", "", "", &wanted.user).await?,
        }
        for group in &wanted.groups {
            self.may_be(&user, "", "groups", "", "", group).await?;
        }
        if !wanted.uid.is_empty() {
            self.may_be(&user, "authentication.k8s.io", "uids", "", "", &wanted.uid).await?;
        }
        for (key, value) in &wanted.extra {
            self.may_be(&user, "authentication.k8s.io", "userextras", key, "", value).await?;
        }
        Ok(wanted.user())
    }

    async fn may_be(
        &self,
        user: &User,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        let verb = "impersonate";
        let fields = None;
        let asked = Attributes::Resource { verb, group, resource, subresource, namespace, name, fields };
        self.authorize(user, &asked).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::headers;

    #[test]
    fn groups_follow_from_the_name() {
        let user = |pairs| Wanted::read(&headers(pairs)).unwrap().unwrap().user();
        assert_eq!(user(&[(USER, "bob"), (GROUP, "dev")]).groups, ["dev", AUTHENTICATED]);
        assert_eq!(
            user(&[(USER, "system:serviceaccount:n:a")]).groups,
            ["system:serviceaccounts", "system:serviceaccounts:n", AUTHENTICATED]
        );
        assert_eq!(user(&[(USER, "system:anonymous")]).groups, [UNAUTHENTICATED]);
        assert!(Wanted::read(&headers(&[("accept", "x")])).unwrap().is_none());
        assert_eq!(Wanted::read(&headers(&[(GROUP, "dev")])).unwrap_err().code, 500);
    }
}
