//! Instructions that only describe an image: they change the draft and no file. Also what `commit --change` takes.

use crate::build::config::{Draft, ports};
use crate::build::instruction::Instruction;
use crate::build::scope::{Arguments, Scope};
use crate::error::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;

/// What variables stand for besides the environment of the draft.
pub(crate) struct Words<'a> {
    pub(crate) arguments: &'a Arguments,
    /// `--build-arg`.
    pub(crate) given: &'a BTreeMap<String, String>,
    pub(crate) escape: char,
}

impl Words<'_> {
    fn scope<'d>(&'d self, draft: &'d Draft) -> Scope<'d> {
        Scope { draft, arguments: self.arguments, given: self.given, escape: self.escape }
    }

    fn pairs(&self, draft: &Draft, pairs: &[(String, String)]) -> Result<Vec<(String, String)>> {
        let scope = self.scope(draft);
        pairs.iter().map(|(name, value)| Ok((scope.expand(name)?, scope.expand(value)?))).collect()
    }
}

/// Applies one; what changes files is none of these and is passed over.
pub(crate) fn describe(draft: &mut Draft, words: &Words<'_>, instruction: &Instruction) -> Result<()> {
    match instruction {
        Instruction::Env(pairs) => {
            for (name, value) in words.pairs(draft, pairs)? {
                draft.set_env(&name, &value);
            }
        }
        Instruction::Label(pairs) => {
            for (name, value) in words.pairs(draft, pairs)? {
                draft.add("Labels", &name, json!(value));
            }
        }
        Instruction::Expose(texts) => {
            for text in words.scope(draft).expand_all(texts)? {
                for port in text.split_whitespace() {
                    ports(port)?.iter().for_each(|port| draft.add("ExposedPorts", port, json!({})));
                }
            }
        }
        Instruction::Volume(paths) => {
            for path in words.scope(draft).expand_all(paths)? {
                if path.is_empty() {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                draft.add("Volumes", &path, json!({}));
            }
        }
        other => describe_one(draft, words, other)?,
    }
    Ok(())
}

/// Instructions with a single value.
fn describe_one(draft: &mut Draft, words: &Words<'_>, instruction: &Instruction) -> Result<()> {
    match instruction {
        Instruction::User(user) => {
            let user = words.scope(draft).expand(user)?;
            draft.set("User", json!(user));
        }
        Instruction::StopSignal(signal) => {
            let signal = words.scope(draft).expand(signal)?;
            draft.set("StopSignal", json!(signal));
        }
        Instruction::Entrypoint(command) => draft.set_entrypoint(command),
        Instruction::Cmd(command) => draft.set_cmd(command),
        Instruction::Shell(words) => draft.set("Shell", json!(words)),
        Instruction::Health(health) => draft.set("Healthcheck", health.document()),
        Instruction::OnBuild(text) => draft.add_trigger(text),
        Instruction::Maintainer(name) => draft.set_author(name),
        _ => {}
    }
    Ok(())
}
