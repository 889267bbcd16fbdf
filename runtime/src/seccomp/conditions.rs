//! Conditions on arguments. The machine is 32 bits wide, arguments are 64: high half first, then the low one.

use crate::error::{Error, Result};
use crate::spec::SyscallArg;
use knarr_sys::seccomp::Instruction;

pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const GREATER: u16 = 0x25;
pub(super) const GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) index: u32,
    pub(crate) operator: Operator,
    pub(crate) value: u64,
    /// What the masked argument must be.
    pub(crate) masked: u64,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    MaskedEqual,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("SCMP_CMP_NE", Operator::NotEqual),
    ("SCMP_CMP_LT", Operator::Less),
    ("SCMP_CMP_LE", Operator::LessOrEqual),
    ("SCMP_CMP_EQ", Operator::Equal),
    ("SCMP_CMP_GE", Operator::GreaterOrEqual),
    ("SCMP_CMP_GT", Operator::Greater),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEqual),
];

/// All names, for `features`.
pub(crate) fn operator_names() -> Vec<String> {
    OPERATORS.iter().map(|(name, _)| (*name).to_string()).collect()
}

/// Reads one condition of rule number `rule`.
pub(crate) fn parse(rule: usize, arg: &SyscallArg) -> Result<Condition> {
    let wrong = |why: String| Error::invalid(format!("linux.seccomp.syscalls[{rule}].args: {why}"));
    let operator = OPERATORS.iter().find(|(name, _)| *name == arg.op).map(|(_, operator)| *operator);
    let operator = operator.ok_or_else(|| wrong(format!("invalid operator {:?}", arg.op)))?;
    if arg.index > 5 {
        return Err(wrong(format!("invalid argument index {}: a system call has six", arg.index)));
    }
    // Bits outside of the mask say nothing, as in libseccomp: without this the condition could never hold.
    let masked = arg.value_two.unwrap_or(0) & arg.value;
    Ok(Condition { index: arg.index, operator, value: arg.value, masked })
}

/// Tests the condition: falls through when it holds, else jumps `fail` instructions further than its own end.
pub(crate) fn code(condition: &Condition, fail: u8) -> Vec<Instruction> {
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    let offset = 16 + 8 * condition.index;
    let (load_low, load_high) = (op(LOAD, 0, 0, offset), op(LOAD, 0, 0, offset + 4));
    match condition.operator {
        Operator::Equal => {
            vec![load_high, op(EQUAL, 0, fail + 2, high), load_low, op(EQUAL, 0, fail, low)]
        }
        Operator::NotEqual => {
            vec![load_high, op(EQUAL, 0, 2, high), load_low, op(EQUAL, fail, 0, low)]
        }
        Operator::MaskedEqual => {
            let (wanted_high, wanted_low) = ((condition.masked >> 32) as u32, condition.masked as u32);
            vec![
                load_high,
                op(AND, 0, 0, high),
                op(EQUAL, 0, fail + 3, wanted_high),
                load_low,
                op(AND, 0, 0, low),
                op(EQUAL, 0, fail, wanted_low),
            ]
        }
        Operator::Greater => order(load_high, load_low, high, op(GREATER, 0, fail, low), (3, fail + 2)),
        Operator::GreaterOrEqual => {
            order(load_high, load_low, high, op(GREATER_OR_EQUAL, 0, fail, low), (3, fail + 2))
        }
        Operator::Less => order(load_high, load_low, high, op(GREATER_OR_EQUAL, fail, 0, low), (fail + 3, 2)),
        Operator::LessOrEqual => order(load_high, load_low, high, op(GREATER, fail, 0, low), (fail + 3, 2)),
    }
}

/// The high half decides unless it is equal: `above` and `below` are where to go then.
fn order(
    load_high: Instruction,
    load_low: Instruction,
    high: u32,
    last: Instruction,
    (above, below): (u8, u8),
) -> Vec<Instruction> {
    vec![load_high, op(GREATER, above, 0, high), op(EQUAL, 0, below, high), load_low, last]
}

pub(super) fn op(code: u16, jump_true: u8, jump_false: u8, k: u32) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}
