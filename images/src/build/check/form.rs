//! Rules on how the lines of a Dockerfile are written; nothing of them depends on the values of variables.

use crate::build::check::rule;
use crate::build::check::{Findings, Read};
use crate::build::instruction::Instruction;
use crate::build::source::Line;

/// A file that breaks off at a line that is none is still checked up to there.
pub(crate) fn check(findings: &mut Findings, lines: &[Line], read: &[Read<'_>]) {
    for end in lines.iter().filter_map(|line| line.empty_continuation) {
        findings.note(&rule::NO_EMPTY_CONTINUATION, (end, end), "Empty continuation line");
    }
    read.iter().for_each(|one| by_itself(findings, one));
}

/// Rules that need the whole file.
pub(crate) fn check_all(findings: &mut Findings, read: &[Read<'_>]) {
    stage_names(findings, read);
    casing(findings, read);
}

/// The word that an instruction begins with, as it is written.
pub(crate) fn word(line: &Line) -> &str {
    line.text.split_whitespace().next().unwrap_or_default()
}

fn is_lower(text: &str) -> bool {
    text.to_lowercase() == text
}

fn is_upper(text: &str) -> bool {
    text.to_uppercase() == text
}

fn by_itself(findings: &mut Findings, one: &Read<'_>) {
    match &one.located.instruction {
        Instruction::Maintainer(_) => {
            let detail = "Maintainer instruction is deprecated in favor of using label";
            findings.note_for(&rule::MAINTAINER_DEPRECATED, one.line, detail);
        }
        Instruction::From { name: Some(name), .. } => {
            from_as(findings, one.line);
            description(findings, one.line, "FROM", &[name.as_str()]);
        }
        Instruction::Arg(declared) => {
            let names: Vec<&str> = declared.iter().map(|(name, _)| name.as_str()).collect();
            description(findings, one.line, "ARG", &names);
        }
        _ => {}
    }
}

/// `FROM image AS name`: the last two words.
fn from_as(findings: &mut Findings, line: &Line) {
    let mut last = line.text.split_whitespace().rev();
    let (Some(name), Some(keyword)) = (last.next(), last.next()) else { return };
    if !is_lower(name) {
        let detail = format!("Stage name '{name}' should be lowercase");
        findings.note_for(&rule::STAGE_NAME_CASING, line, &detail);
    }
    let from = word(line);
    // What is in no case by itself is told elsewhere.
    let differs = (is_lower(from) && !is_lower(keyword)) || (is_upper(from) && !is_upper(keyword));
    if differs {
        let detail = format!("'{keyword}' and '{from}' keywords' casing do not match");
        findings.note_for(&rule::FROM_AS_CASING, line, &detail);
    }
}

fn description(findings: &mut Findings, line: &Line, instruction: &str, names: &[&str]) {
    let Some(comment) = line.comments.last() else { return };
    if names.contains(&comment.split(' ').next().unwrap_or_default()) {
        return;
    }
    let example = if let [name] = names { name } else { "<arg_key>" };
    let detail = format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    findings.note_for(&rule::INVALID_DEFINITION_DESCRIPTION, line, &detail);
}

fn stage_names(findings: &mut Findings, read: &[Read<'_>]) {
    let mut seen: Vec<&str> = Vec::new();
    for one in read {
        let Instruction::From { name: Some(name), .. } = &one.located.instruction else { continue };
        if ["context", "scratch"].contains(&name.as_str()) {
            let detail = format!("Stage name should not use the same name as reserved stage {name:?}");
            findings.note(&rule::RESERVED_STAGE_NAME, one.place(), &detail);
        }
        if seen.contains(&name.as_str()) {
            let detail = format!("Duplicate stage name {name:?}, stage names should be unique");
            findings.note(&rule::DUPLICATE_STAGE_NAME, one.place(), &detail);
        }
        seen.push(name);
    }
}

/// The case that more instructions have is the right one; arguments before the first FROM have no say.
fn casing(findings: &mut Findings, read: &[Read<'_>]) {
    let first = read.iter().position(|one| matches!(one.located.instruction, Instruction::From { .. }));
    let Some(counted) = first.and_then(|first| read.get(first..)) else { return };
    let lower = counted.iter().filter(|one| is_lower(word(one.line))).count();
    let upper = counted.iter().filter(|one| is_upper(word(one.line))).count();
    let (right, wanted): (fn(&str) -> bool, &str) =
        if lower > upper { (is_lower, "lowercase") } else { (is_upper, "uppercase") };
    for one in counted.iter().filter(|one| !right(word(one.line))) {
        let word = word(one.line);
        let detail = format!("Command '{word}' should match the case of the command majority ({wanted})");
        findings.note(&rule::CONSISTENT_INSTRUCTION_CASING, one.place(), &detail);
    }
}
