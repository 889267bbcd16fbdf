//! What the server of a repository is shown of us: what the caller of a build lent for that, and nothing besides.

use crate::git::GitReference;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::PathBuf;

/// Proofs for one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitAccess {
    /// The header `Authorization` of HTTP.
    pub authorization: Option<String>,
    /// The socket of an agent for ssh.
    pub agent: Option<PathBuf>,
}

impl GitAccess {
    /// The secrets are BuildKit's: `GIT_AUTH_HEADER` and `GIT_AUTH_TOKEN`, with `.HOST` behind them for one host.
    pub fn lent(
        reference: &GitReference,
        secret: &dyn Fn(&str) -> Option<Vec<u8>>,
        agent: Option<&PathBuf>,
    ) -> Self {
        if reference.is_ssh() {
            return Self { agent: agent.cloned(), authorization: None };
        }
        let host = reference.host().unwrap_or_default();
        let told = |name: &str| {
            let bytes = secret(name)?;
            Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        };
        let token = |name: &str| {
            let user = format!("x-access-token:{}", told(name)?);
            Some(format!("basic {}", STANDARD.encode(user)))
        };
        let authorization = told(&format!("GIT_AUTH_HEADER.{host}"))
            .or_else(|| token(&format!("GIT_AUTH_TOKEN.{host}")))
            .or_else(|| told("GIT_AUTH_HEADER"))
            .or_else(|| token("GIT_AUTH_TOKEN"));
        Self { authorization, agent: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_by_host() {
        let all = |name: &str| match name {
            "GIT_AUTH_TOKEN.h" => Some(b"t\n".to_vec()),
            "GIT_AUTH_HEADER" => Some(b"Bearer x".to_vec()),
            _ => None,
        };
        let agent = PathBuf::from("/agent");
        let shown =
            |url: &str| GitAccess::lent(&GitReference::parse(url).unwrap().unwrap(), &all, Some(&agent));
        assert_eq!(
            shown("https://h:1/a.git").authorization.as_deref(),
            Some("basic eC1hY2Nlc3MtdG9rZW46dA==")
        );
        assert_eq!(shown("https://other/a.git").authorization.as_deref(), Some("Bearer x"));
        assert_eq!((shown("git@h:a").agent, shown("https://h/a.git").agent), (Some(agent.clone()), None));
        assert_eq!(shown("git@h:a").authorization, None);
    }
}
