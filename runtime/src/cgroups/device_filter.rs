//! The device rules as an eBPF program for cgroup version 2.
//!
//! The program gets (access and kind, major, minor) and answers 1 or 0. Later rules win, so they are tested from the
//! last to the first and the first match decides. Before any rule everything is allowed.

use super::devices::Rule;
use knarr_sys::bpf::Instruction;

const KIND_BLOCK: i32 = 1;
const KIND_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

const LOAD_WORD: u8 = 0x61;
const AND32_IMMEDIATE: u8 = 0x54;
const RIGHT_SHIFT32: u8 = 0x74;
const MOVE32_REGISTER: u8 = 0xbc;
const MOVE64_IMMEDIATE: u8 = 0xb7;
const JUMP32_NOT_EQUAL: u8 = 0x56;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

// r1: context; r2: kind; r3: access; r4: major; r5: minor; r0: result and scratch
fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

/// Writes the program.
pub(crate) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(AND32_IMMEDIATE, 2, 0, 0, 0xffff),
        op(LOAD_WORD, 3, 1, 0, 0),
        op(RIGHT_SHIFT32, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        append(rule, &mut program);
        if rule.is_everything() && rule.read && rule.write && rule.mknod {
            // What follows could not be reached, which the verifier refuses.
            return program;
        }
    }
    program.extend(answer(true));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [op(MOVE64_IMMEDIATE, 0, 0, 0, i32::from(allow)), op(EXIT, 0, 0, 0, 0)]
}

/// The tests of one rule; each jumps behind its answer when it fails.
fn append(rule: &Rule, program: &mut Vec<Instruction>) {
    let mut tests = Vec::new();
    match rule.kind {
        'b' => tests.push(op(JUMP32_NOT_EQUAL, 2, 0, 0, KIND_BLOCK)),
        'c' => tests.push(op(JUMP32_NOT_EQUAL, 2, 0, 0, KIND_CHAR)),
        _ => {}
    }
    if !(rule.read && rule.write && rule.mknod) {
        // An allowing rule must cover all that is asked; a denying one any part of it.
        tests.push(op(MOVE32_REGISTER, 0, 3, 0, 0));
        tests.push(op(AND32_IMMEDIATE, 0, 0, 0, access(rule)));
        if rule.allow {
            tests.push(op(JUMP_NOT_EQUAL_REGISTER, 0, 3, 0, 0));
        } else {
            tests.push(op(JUMP_EQUAL, 0, 0, 0, 0));
        }
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            tests.push(op(JUMP32_NOT_EQUAL, register, 0, 0, number as i32));
        }
    }
    let length = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, JUMP32_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER | JUMP_EQUAL) {
            // Over the remaining tests and the two instructions of the answer.
            test.offset = (length - index - 1 + 2) as i16;
        }
    }
    program.extend(tests);
    program.extend(answer(rule.allow));
}

const JUMP_EQUAL: u8 = 0x15;

fn access(rule: &Rule) -> i32 {
    [(rule.mknod, ACCESS_MKNOD), (rule.read, ACCESS_READ), (rule.write, ACCESS_WRITE)]
        .iter()
        .filter(|(set, _)| *set)
        .fold(0, |all, (_, bit)| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the rules mean, read directly.
    fn decide(rules: &[Rule], kind: char, major: u32, minor: u32, asked: i32) -> bool {
        let matches = |rule: &&Rule| {
            let kind_fits = rule.kind == 'a' || rule.kind == kind;
            let number_fits = |number: Option<u32>, is: u32| number.is_none_or(|n| n == is);
            let access_fits =
                if rule.allow { access(rule) & asked == asked } else { access(rule) & asked != 0 };
            kind_fits && number_fits(rule.major, major) && number_fits(rule.minor, minor) && access_fits
        };
        rules.iter().rev().find(matches).is_none_or(|rule| rule.allow)
    }

    /// A machine for the few instructions used.
    fn run(program: &[Instruction], context: [u32; 3]) -> Option<bool> {
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let i = program.get(at)?;
            at += 1;
            let (d, s) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            match i.code {
                LOAD_WORD => registers[d] = context[i.offset as usize / 4].into(),
                AND32_IMMEDIATE => registers[d] = u64::from(registers[d] as u32 & i.immediate as u32),
                RIGHT_SHIFT32 => registers[d] = u64::from((registers[d] as u32) >> i.immediate),
                MOVE32_REGISTER => registers[d] = u64::from(registers[s] as u32),
                MOVE64_IMMEDIATE => registers[d] = i.immediate as u64,
                JUMP32_NOT_EQUAL if registers[d] as u32 != i.immediate as u32 => at += i.offset as usize,
                JUMP_NOT_EQUAL_REGISTER if registers[d] != registers[s] => at += i.offset as usize,
                JUMP_EQUAL if registers[d] == i.immediate as u64 => at += i.offset as usize,
                JUMP32_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER | JUMP_EQUAL => {}
                EXIT => return Some(registers[0] == 1),
                _ => return None,
            }
        }
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let number = || proptest::option::of(0_u32..3);
        (any::<bool>(), prop_oneof![Just('a'), Just('b'), Just('c')], number(), number(), 1_i32..8).prop_map(
            |(allow, kind, major, minor, bits)| Rule {
                allow,
                kind,
                major,
                minor,
                read: bits & ACCESS_READ != 0,
                write: bits & ACCESS_WRITE != 0,
                mknod: bits & ACCESS_MKNOD != 0,
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules_read(
            rules in proptest::collection::vec(rule(), 0..12),
            block in any::<bool>(), major in 0_u32..4, minor in 0_u32..4, asked in 1_i32..8,
        ) {
            let (kind, number) = if block { ('b', KIND_BLOCK) } else { ('c', KIND_CHAR) };
            let context = [(asked as u32) << 16 | number as u32, major, minor];
            prop_assert_eq!(run(&program(&rules), context), Some(decide(&rules, kind, major, minor, asked)));
        }
    }
}
