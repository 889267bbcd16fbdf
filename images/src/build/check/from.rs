//! Rules on the variables of FROM, which only knows the arguments before the first one.

use crate::build::BuildRequest;
use crate::build::check::noted::Noted;
use crate::build::check::rule;
use crate::build::check::{Findings, Read};
use crate::build::expand::expand;
use crate::build::instruction::Instruction;
use crate::build::near::did_you_mean;
use crate::build::source::Line;
use crate::build::stages::declare;
use crate::error::Result;
use crate::platform::Platform;
use crate::reference::Reference;
use std::collections::{BTreeMap, BTreeSet};

/// Arguments before the first FROM: their names, and their values.
struct Globals {
    escape: char,
    declared: BTreeSet<String>,
    values: BTreeMap<String, String>,
}

impl Globals {
    fn of(
        read: &[Read<'_>],
        escape: char,
        automatic: &BTreeMap<String, String>,
        given: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut globals = Self { escape, declared: BTreeSet::new(), values: automatic.clone() };
        for one in read {
            let Instruction::Arg(declared) = &one.located.instruction else { break };
            declare(&mut globals.values, declared, given, escape)?;
            globals.declared.extend(declared.iter().map(|(name, _)| name.clone()));
        }
        globals.declared.extend(globals.values.keys().cloned());
        Ok(globals)
    }

    fn expand(&self, text: &str) -> (Result<String>, Noted<'_>) {
        let noted = Noted::new(&self.values);
        (expand(text, self.escape, &noted), noted)
    }
}

/// Checks every FROM.
pub(crate) fn check(
    findings: &mut Findings,
    read: &[Read<'_>],
    escape: char,
    (request, automatic): (&BuildRequest, &BTreeMap<String, String>),
) {
    if let Ok(defaults) = Globals::of(read, escape, automatic, &BTreeMap::new()) {
        read.iter().for_each(|one| default_name(findings, one, &defaults));
    }
    let Ok(globals) = Globals::of(read, escape, automatic, &request.arguments) else { return };
    for one in read {
        let Instruction::From { image, platform, name } = &one.located.instruction else { continue };
        undeclared(findings, one.line, image, &globals);
        if let Some(text) = platform {
            undeclared(findings, one.line, text, &globals);
            self::platform(findings, one.line, text, name.as_deref().unwrap_or_default(), &globals);
        }
    }
}

/// A base image that only `--build-arg` gives a name.
fn default_name(findings: &mut Findings, one: &Read<'_>, defaults: &Globals) {
    let Instruction::From { image, .. } = &one.located.instruction else { return };
    if let (Ok(name), noted) = defaults.expand(image)
        && noted.any()
        && Reference::parse(&name).is_err()
    {
        let detail = format!("Default value for ARG {image} results in empty or invalid base image name");
        findings.note(&rule::INVALID_DEFAULT_ARG_IN_FROM, one.place(), &detail);
    }
}

fn undeclared(findings: &mut Findings, line: &Line, text: &str, globals: &Globals) {
    let (_, noted) = globals.expand(text);
    for name in noted.missing().iter().filter(|name| !globals.declared.contains(*name)) {
        let hint = did_you_mean(name, globals.declared.iter().map(String::as_str));
        let detail = format!("FROM argument '{name}' is not declared{hint}");
        findings.note_for(&rule::UNDEFINED_ARG_IN_FROM, line, &detail);
    }
}

fn platform(findings: &mut Findings, line: &Line, text: &str, stage: &str, globals: &Globals) {
    let (Ok(value), noted) = globals.expand(text) else { return };
    let target = "TARGETPLATFORM";
    let is_target = noted.only(target) && globals.values.get(target) == Some(&value);
    if is_target {
        let detail = format!(
            "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
        );
        findings.note_for(&rule::REDUNDANT_TARGET_PLATFORM, line, &detail);
    }
    let Some(named) = Platform::parse(&value).ok().filter(|_| !noted.any()) else { return };
    // A stage that says so in its name means it.
    if !stage.contains(&named.os) && !stage.contains(&named.architecture) {
        let detail = format!("FROM --platform flag should not use constant value {value:?}");
        findings.note_for(&rule::FROM_PLATFORM_FLAG_CONST_DISALLOWED, line, &detail);
    }
}
