//! The passwords of a target: keys of a secret that are open-iscsi's own names for its settings.

use super::Disk;
use crate::kubelet::host::Host;
use std::collections::BTreeMap;

/// The type that such a secret must have.
const SECRET_TYPE: &str = "kubernetes.io/iscsi-chap";
const KEYS: [&str; 4] = ["auth.username", "auth.password", "auth.username_in", "auth.password_in"];

/// Settings by name.
#[derive(Default)]
pub(super) struct Passwords(BTreeMap<String, String>);

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

impl Passwords {
    /// Those that the disk needs; none where it needs none.
    pub(super) async fn of(host: &Host, disk: &Disk) -> Result<Passwords, String> {
        if !disk.chap_discovery && !disk.chap_session {
            return Ok(Passwords::default());
        }
        let named = disk.secret.as_ref().filter(|(_, name)| !name.is_empty());
        let (namespace, name) = named.ok_or("CHAP enabled but secret name or namespace is empty")?;
        let found = host.objects.secret(namespace, name).await?;
        let found = found
            .filter(|secret| secret.type_.as_deref() == Some(SECRET_TYPE))
            .ok_or_else(|| format!("Cannot get secret of type {SECRET_TYPE}: {namespace}/{name}"))?;
        let data = found.data.unwrap_or_default().into_iter();
        let data = data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()));
        Passwords(data.collect()).checked()
    }

    /// Each becomes a line of open-iscsi's record, and must not become two.
    fn checked(self) -> Result<Passwords, String> {
        match self.0.iter().find(|(_, value)| value.chars().any(char::is_control)) {
            Some((key, _)) => Err(format!("iscsi: {key} of the secret has a control character")),
            None => Ok(self),
        }
    }

    /// What is to be set below `prefix` (`node.session`), which begins with the method.
    pub(super) fn settings(&self, prefix: &str) -> Vec<(String, String)> {
        let method = (format!("{prefix}.auth.authmethod"), "CHAP".to_owned());
        let keys = KEYS.iter().map(|key| format!("{prefix}.{key}"));
        let given = keys.filter_map(|key| self.0.get(&key).cloned().map(|value| (key, value)));
        std::iter::once(method).chain(given.filter(|(_, value)| !value.is_empty())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_has_its_own_passwords() {
        let one = |key: &str| (key.to_owned(), "x".to_owned());
        let passwords =
            Passwords([one("node.session.auth.username"), one("discovery.sendtargets.auth.password")].into());
        let settings = passwords.settings("node.session");
        let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["node.session.auth.authmethod", "node.session.auth.username"]);
        assert!(!format!("{passwords:?}").contains('x'));
        assert!(passwords.checked().is_ok());
        let two = ("node.session.auth.username".to_owned(), "x\nnode.startup = automatic".to_owned());
        assert!(Passwords([two].into()).checked().is_err());
    }
}
