//! Which images may be pulled and run: a file of rules, and signatures that satisfy them.
//!
//! The first rule that names an image decides: accept, reject, or require a signature by one of its keys or signers. A policy
//! is asked twice, by the name an image is pulled under and by the names it has when a container is to stand on it,
//! so tightening it later stops what was pulled before. Whatever cannot be read or understood refuses everything:
//! a policy that fails open is none. The file's format is in docs/images.md.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::key::PublicKey;
use crate::policy::keyless::{Believed, Trust};
use crate::policy::signature::Signature;
use crate::reference::Reference;
use serde::Deserialize;
use std::path::{Path, PathBuf};

mod bundle;
mod certificate;
pub(crate) mod check;
mod key;
mod keyless;
mod pattern;
pub(crate) mod signature;

/// What happens to the images that a rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    #[default]
    Accept,
    Reject,
    Require,
}

/// Whose name a signature must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Identity {
    /// The repository that the image comes from.
    #[default]
    Repository,
    /// Any: the image was copied here from where it was signed.
    Any,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    default: Action,
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    images: Vec<String>,
    action: Action,
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default)]
    identity: Identity,
    /// Those who may sign without keys of their own.
    #[serde(default)]
    keyless: Option<Believed>,
}

/// What a policy says about one name.
#[derive(Debug)]
pub(crate) enum Verdict {
    Accepted,
    Rejected,
    /// By one of these keys.
    Signed {
        keys: Vec<PublicKey>,
        /// Or by one of these people.
        trust: Option<Trust>,
        any_identity: bool,
    },
}

/// The rules of one file.
#[derive(Debug)]
pub(crate) struct Policy {
    path: PathBuf,
    file: File,
}

impl Policy {
    /// Reads the file; none means that everything is accepted.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| Error::path("read", path, e))?,
        };
        let invalid = |why: &str| Error::invalid(format!("{}: {why}", path.display()));
        let file: File = toml::from_str(&text).map_err(|e| invalid(&e.to_string()))?;
        if file.default == Action::Require {
            return Err(invalid("default: must be accept or reject"));
        }
        for (number, rule) in file.rule.iter().enumerate() {
            let nobody = rule.keys.is_empty() && rule.keyless.is_none();
            let wrong = match (rule.images.is_empty(), rule.action == Action::Require, nobody) {
                (true, ..) => "images: names nothing",
                (_, true, true) => "keys: action require needs at least one, or keyless signers",
                (_, false, false) => "keys: only action require has any",
                _ => match rule.keyless.as_ref().and_then(Believed::flaw) {
                    Some(flaw) => flaw,
                    None => continue,
                },
            };
            return Err(invalid(&format!("rule {}: {wrong}", number + 1)));
        }
        Ok(Some(Self { path: path.to_owned(), file }))
    }

    /// What the first rule that names this repository says.
    pub(crate) fn verdict(&self, name: &Reference) -> Result<Verdict> {
        let full = name.name();
        let names_it = |rule: &&Rule| rule.images.iter().any(|wanted| pattern::matches(wanted, &full));
        let Some(rule) = self.file.rule.iter().find(names_it) else {
            return Ok(self.otherwise());
        };
        match rule.action {
            Action::Accept => Ok(Verdict::Accepted),
            Action::Reject => Ok(Verdict::Rejected),
            Action::Require => {
                let directory = self.path.parent().unwrap_or(Path::new(""));
                let read = |path: &PathBuf| key::read(&directory.join(path));
                let keys = rule.keys.iter().map(read).collect::<Result<Vec<_>>>()?.concat();
                let trust = rule.keyless.as_ref().map(|believed| believed.read(directory)).transpose()?;
                Ok(Verdict::Signed { keys, trust, any_identity: rule.identity == Identity::Any })
            }
        }
    }

    /// What is said about an image that no rule names, or that has no name.
    fn otherwise(&self) -> Verdict {
        if self.file.default == Action::Reject { Verdict::Rejected } else { Verdict::Accepted }
    }

    fn rejected(&self, name: &str) -> Error {
        Error::new(ErrorKind::Denied, format!("image {name}: rejected by policy {}", self.path.display()))
    }

    /// Fails unless the signatures at hand satisfy what is said about this name. `digests` are those that a
    /// signature may be about: the image's manifest, and the index it was chosen from.
    pub(crate) fn judge(
        &self,
        name: &Reference,
        digests: &[&Digest],
        signatures: &[Signature],
    ) -> Result<()> {
        let (keys, trust, any_identity) = match self.verdict(name)? {
            Verdict::Accepted => return Ok(()),
            Verdict::Rejected => return Err(self.rejected(&name.to_string())),
            Verdict::Signed { keys, trust, any_identity } => (keys, trust, any_identity),
        };
        let mut why = "it has no signature".to_owned();
        for signature in signatures {
            let repository = (!any_identity).then(|| name.name());
            let checked = signature.check(&keys, trust.as_ref(), digests, repository.as_deref());
            match checked {
                Ok(()) => return Ok(()),
                Err(error) => why = error.to_string(),
            }
        }
        let message = format!(
            "SignatureValidationFailed: image {name}: policy {} requires a signature: {why}",
            self.path.display()
        );
        Err(Error::new(ErrorKind::Denied, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Option<Policy>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        Policy::read(&path)
    }

    #[test]
    fn the_first_rule_that_names_an_image_decides() {
        let text = r#"
            default = "reject"
            [[rule]]
            images = ["r.io/team/bad"]
            action = "reject"
            [[rule]]
            images = ["r.io/team/*", "docker.io/library/**"]
            action = "accept"
        "#;
        let policy = policy(text).unwrap().unwrap();
        for (name, accepted) in [
            ("r.io/team/good:1", true),
            ("r.io/team/bad", false),
            ("r.io/team/a/b", false),
            ("busybox", true),
        ] {
            let judged = policy.judge(&Reference::parse(name).unwrap(), &[], &[]);
            assert_eq!(judged.is_ok(), accepted, "{name}");
            if let Err(error) = judged {
                assert_eq!(error.kind(), ErrorKind::Denied);
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let rule = |text: &str| format!("[[rule]]\nimages = [\"x\"]\n{text}");
        for bad in [
            "default = \"require\"".to_owned(),
            "defualt = \"reject\"".to_owned(),
            rule(""),
            rule("action = \"allow\""),
            rule("action = \"require\""),
            rule("action = \"accept\"\nkeys = [\"k\"]"),
            rule("action = \"require\"\nkeyless = {roots = [\"r\"], rekor = [\"k\"]}"),
            rule(
                "action = \"require\"\nkeyless = {rekor = [\"k\"], signers = [{identity = \"a\", issuer = \"b\"}]}",
            ),
            rule(
                "action = \"require\"\nkeyless = {roots = [\"r\"], signers = [{identity = \"a\", issuer = \"b\"}]}",
            ),
            "[[rule]]\nimages = []\naction = \"accept\"".to_owned(),
        ] {
            assert!(policy(&bad).unwrap_err().to_string().contains("policy.toml"), "{bad}");
        }
        let missing_key =
            policy(&rule("action = \"require\"\nkeys = [\"missing.pub\"]").replace("\"x\"", "\"**\""));
        let name = Reference::parse("busybox").unwrap();
        let error = missing_key.unwrap().unwrap().judge(&name, &[], &[]).unwrap_err();
        assert!(error.to_string().contains("missing.pub"), "{error}");
        assert!(Policy::read(Path::new("/nonexistent/policy.toml")).unwrap().is_none());
    }
}
