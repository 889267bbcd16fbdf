//! What a registry is shown to prove who is asking. Never printed.

/// Credentials for one registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Sent as HTTP basic authentication, to the registry or to the token server it names.
    pub username: String,
    /// Goes with the name.
    pub password: String,
    /// A bearer token for the registry itself, instead of the two above.
    pub registry_token: String,
    /// An OAuth2 refresh token (`identitytoken` in a Docker config.json), instead of a password.
    pub identity_token: String,
}

impl Credentials {
    /// A name and its password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into(), ..Self::default() }
    }
}

impl std::fmt::Debug for Credentials {
    /// Names the user only: debug output ends up in logs.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}
