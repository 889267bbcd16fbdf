//! From rules to a program: per architecture a binary search over ranges of call numbers, so any call is decided after
//! about eight comparisons, and the kernel's own warm-up of its bitmap is as fast.
//!
//! A rule without conditions decides about its call alone; rules with conditions are tried in their order; what matches
//! none gets the default.

use super::actions;
use super::arch::{self, Arch, X32_BIT};
use super::conditions::{self, Condition, EQUAL, GREATER_OR_EQUAL, JUMP, LOAD, RETURN, op};
use crate::error::{Error, Result};
use crate::spec::Seccomp;
use knarr_sys::seccomp::Instruction;
use std::collections::BTreeMap;

/// Offsets in seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The kernel's own limit.
const MAX_LENGTH: usize = 4096;

/// One rule as the program needs it.
struct Rule<'a> {
    names: &'a [String],
    action: u32,
    /// Alternatives, each a list of conditions that must all hold; one empty list is "always".
    alternatives: Vec<Vec<Condition>>,
}

/// What happens to one call.
#[derive(Debug, Clone, PartialEq)]
enum Decision {
    Always(u32),
    When(Vec<(Vec<Condition>, u32)>),
}

/// Compiles the whole section.
pub(crate) fn program(seccomp: &Seccomp) -> Result<Vec<Instruction>> {
    let default = actions::parse("defaultAction", &seccomp.default_action, seccomp.default_errno_ret)?;
    let rules = rules(seccomp, default)?;
    let selected = arch::select(&seccomp.architectures)?;
    let mut program = vec![op(LOAD, 0, 0, ARCHITECTURE)];
    for arch in selected.iter().filter(|arch| **arch != Arch::X32) {
        let x32 = *arch == Arch::X86_64 && selected.contains(&Arch::X32);
        let section = section(*arch, x32, &rules, default)?;
        program.push(op(EQUAL, 1, 0, arch.audit()));
        program.push(op(JUMP, 0, 0, section.len() as u32));
        program.extend(section);
    }
    program.push(op(RETURN, 0, 0, actions::BAD_ARCHITECTURE));
    if program.len() > MAX_LENGTH {
        return Err(Error::invalid(format!(
            "linux.seccomp: the filter needs {} instructions, the kernel takes {MAX_LENGTH}",
            program.len()
        )));
    }
    Ok(program)
}

fn rules(seccomp: &Seccomp, default: u32) -> Result<Vec<Rule<'_>>> {
    let mut rules = Vec::with_capacity(seccomp.syscalls.len());
    for (index, syscall) in seccomp.syscalls.iter().enumerate() {
        if syscall.names.is_empty() {
            return Err(Error::invalid(format!("linux.seccomp.syscalls[{index}].names is empty")));
        }
        let action = actions::parse(&format!("syscalls[{index}]"), &syscall.action, syscall.errno_ret)?;
        let conditions: Vec<Condition> =
            syscall.args.iter().map(|arg| conditions::parse(index, arg)).collect::<Result<_>>()?;
        if action != default {
            rules.push(Rule { names: &syscall.names, action, alternatives: alternatives(conditions) });
        }
    }
    Ok(rules)
}

/// Conditions on different arguments must all hold; two on the same argument are alternatives, as runc has it.
fn alternatives(conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let repeated = conditions
        .iter()
        .enumerate()
        .any(|(at, c)| conditions.iter().skip(at + 1).any(|d| d.index == c.index));
    if repeated {
        conditions.into_iter().map(|condition| vec![condition]).collect()
    } else {
        vec![conditions]
    }
}

fn section(arch: Arch, with_x32: bool, rules: &[Rule<'_>], default: u32) -> Result<Vec<Instruction>> {
    let mut ranges = ranges(&decisions(arch, rules), default);
    if arch == Arch::X86_64 {
        ranges.retain(|(start, _)| *start < X32_BIT);
        if with_x32 {
            let upper = self::ranges(&decisions(Arch::X32, rules), default);
            ranges.push((X32_BIT, Decision::Always(default)));
            ranges.extend(upper.into_iter().filter(|(start, _)| *start >= X32_BIT));
            // The first x32 call has the very number at which they begin.
            ranges.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    std::mem::swap(later, earlier);
                }
                same
            });
        } else {
            ranges.push((X32_BIT, Decision::Always(actions::BAD_ARCHITECTURE)));
        }
    }
    let mut section = vec![op(LOAD, 0, 0, NUMBER)];
    section.extend(search(&ranges, default)?);
    Ok(section)
}

fn decisions(arch: Arch, rules: &[Rule<'_>]) -> BTreeMap<u32, Decision> {
    let mut decisions = BTreeMap::new();
    for rule in rules {
        let alternatives = as_wide_as(arch, &rule.alternatives);
        for name in rule.names {
            if let Some(number) = arch.number(name) {
                add(&mut decisions, number, &alternatives, rule.action);
            }
            if let Some((carrier, argument)) = arch.multiplexed(name) {
                let number = arch.number(carrier);
                // What the call's own arguments are cannot be seen through the carrier.
                if let (Some(number), true) = (number, rule.alternatives == [vec![]]) {
                    let is_it = Condition {
                        index: 0,
                        operator: conditions::Operator::Equal,
                        value: argument,
                        masked: 0,
                    };
                    add(&mut decisions, number, &[vec![is_it]], rule.action);
                }
            }
        }
    }
    decisions
}

/// Arguments of 32-bit calls have no upper half: a -1 that was written with 64 bits means theirs too.
fn as_wide_as(arch: Arch, alternatives: &[Vec<Condition>]) -> Vec<Vec<Condition>> {
    let width = if arch == Arch::X86 { u64::from(u32::MAX) } else { u64::MAX };
    let narrow = |c: &Condition| Condition { value: c.value & width, masked: c.masked & width, ..*c };
    alternatives.iter().map(|all| all.iter().map(narrow).collect()).collect()
}

fn add(decisions: &mut BTreeMap<u32, Decision>, number: u32, alternatives: &[Vec<Condition>], action: u32) {
    if alternatives.iter().any(Vec::is_empty) {
        let decided = decisions.entry(number).or_insert(Decision::Always(action));
        if matches!(decided, Decision::When(_)) {
            *decided = Decision::Always(action);
        }
    } else if let Decision::When(list) = decisions.entry(number).or_insert(Decision::When(vec![])) {
        list.extend(alternatives.iter().map(|conditions| (conditions.clone(), action)));
    }
}

/// The whole number space as ranges, each given by its start. Calls newer than the newest one that the profile knows
/// do not exist for it: a program that sees ENOSYS falls back to an older call, one that sees EPERM gives up.
fn ranges(decisions: &BTreeMap<u32, Decision>, default: u32) -> Vec<(u32, Decision)> {
    let mut ranges = vec![(0, Decision::Always(default))];
    let mut push = |start: u32, decision: Decision| {
        if ranges.last().is_some_and(|(last, _)| *last == start) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((start, decision));
        }
    };
    for (number, decision) in decisions {
        push(*number, decision.clone());
        push(number + 1, Decision::Always(default));
    }
    if let (Some((newest, _)), true) = (decisions.last_key_value(), actions::refuses(default)) {
        push(newest + 1, Decision::Always(actions::NO_SUCH_CALL));
    }
    ranges
}

fn search(ranges: &[(u32, Decision)], default: u32) -> Result<Vec<Instruction>> {
    match ranges {
        [] => Ok(vec![op(RETURN, 0, 0, default)]),
        [(_, Decision::Always(action))] => Ok(vec![op(RETURN, 0, 0, *action)]),
        [(_, Decision::When(list))] => when(list, default),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let pivot = high.first().map_or(0, |(start, _)| *start);
            let (low, high) = (search(low, default)?, search(high, default)?);
            let mut code = match u8::try_from(low.len()) {
                Ok(near) => vec![op(GREATER_OR_EQUAL, near, 0, pivot)],
                Err(_) => vec![op(GREATER_OR_EQUAL, 0, 1, pivot), op(JUMP, 0, 0, low.len() as u32)],
            };
            code.extend(low);
            code.extend(high);
            Ok(code)
        }
    }
}

fn when(list: &[(Vec<Condition>, u32)], default: u32) -> Result<Vec<Instruction>> {
    let mut code = Vec::new();
    for (conditions, action) in list {
        let mut rule = vec![op(RETURN, 0, 0, *action)];
        for condition in conditions.iter().rev() {
            // At most six conditions of at most six instructions: always near.
            let fail =
                u8::try_from(rule.len()).map_err(|_| Error::invalid("linux.seccomp: a rule is too long"))?;
            let mut tested = conditions::code(condition, fail);
            tested.append(&mut rule);
            rule = tested;
        }
        code.append(&mut rule);
    }
    code.push(op(RETURN, 0, 0, default));
    Ok(code)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod libseccomp;
#[cfg(test)]
mod tests;
