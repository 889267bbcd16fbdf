//! libseccomp as an oracle: generated profiles are compiled by it and by us, and both programs must answer every call
//! alike.
//!
//! What differs on purpose is not asked: numbers beyond the newest call of a profile (ENOSYS here, the default there),
//! and arguments of calls that 32-bit x86 makes through another call.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use super::tests::run;
use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// Calls that both architectures have, with numbers far apart.
const CALLS: &[&str] = &[
    "read",
    "write",
    "close",
    "mkdir",
    "mkdirat",
    "unshare",
    "kill",
    "ptrace",
    "personality",
    "chmod",
    "fchmodat",
    "dup3",
    "prctl",
    "keyctl",
    "setns",
    "openat2",
    "mount",
    "reboot",
    "ioctl",
    "fcntl",
];
/// Through `socketcall` on 32-bit x86.
const SOCKET_CALLS: &[&str] = &["socket", "connect", "bind", "sendto"];
const OPERATORS: &[&str] = &[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
/// The place of "equal" in the table: alternatives that overlap otherwise are decided by the order of libseccomp's tree.
const EQUAL_TO: usize = 3;
const ACTIONS: &[(&str, u32)] = &[
    ("SCMP_ACT_ALLOW", 0x7fff_0000),
    ("SCMP_ACT_ERRNO", 0x0005_0001),
    ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
    ("SCMP_ACT_KILL_THREAD", 0),
    ("SCMP_ACT_TRAP", 0x0003_0000),
    ("SCMP_ACT_LOG", 0x7ffc_0000),
    ("SCMP_ACT_TRACE", 0x7ff0_0001),
];

/// An argument's index, its operator's place in the table, and two values.
type Comparison = (u32, usize, u64, u64);

/// One rule of a generated profile.
#[derive(Debug, Clone)]
struct Generated {
    call: &'static str,
    action: usize,
    conditions: Vec<Comparison>,
}

/// The oracle, compiled once; nothing where this machine has no compiler or no libseccomp.
static PROBE: LazyLock<Option<(tempfile::TempDir, PathBuf)>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (directory.path().join("probe.c"), directory.path().join("probe"));
    std::fs::write(&source, include_str!("libseccomp_probe.c")).unwrap();
    let mut compiler = Command::new("cc");
    let built = compiler.arg("-o").arg(&program).arg(&source).arg("-lseccomp").stderr(Stdio::null()).status();
    if built.is_ok_and(|status| status.success()) {
        return Some((directory, program));
    }
    if let Some(file) = std::env::var_os("KNARR_SKIPS") {
        let mut skips = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(skips, "profiles_mean_what_libseccomp_makes_of_them: no C compiler or no libseccomp-dev")
            .unwrap();
    }
    None
});

/// Two conditions on one argument are alternatives: two rules for libseccomp, as runc has it.
fn alternatives(rule: &Generated) -> Vec<Vec<Comparison>> {
    match rule.conditions.as_slice() {
        [a, b] if a.0 == b.0 => vec![vec![*a], vec![*b]],
        all => vec![all.to_vec()],
    }
}

fn theirs(default: u32, with_x86: bool, rules: &[Generated]) -> Option<Vec<Instruction>> {
    let (_, program) = PROBE.as_ref()?;
    let mut text = format!("default {default}\n");
    text.push_str(if with_x86 { "arch x86\n" } else { "" });
    for rule in rules.iter().filter(|rule| ACTIONS[rule.action].1 != default) {
        for conditions in alternatives(rule) {
            text.push_str(&format!("rule {} {} {}", ACTIONS[rule.action].1, rule.call, conditions.len()));
            for (index, operator, value, masked) in conditions {
                text.push_str(&format!(" {index} {} {value} {masked}", operator + 1));
            }
            text.push('\n');
        }
    }
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?} for\n{text}", output.status);
    let instruction = |bytes: &[u8]| Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jump_true: bytes[2],
        jump_false: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    Some(output.stdout.chunks_exact(8).map(instruction).collect())
}

fn ours(default: usize, with_x86: bool, rules: &[Generated]) -> Vec<Instruction> {
    let argument = |(index, operator, value, masked): &Comparison| serde_json::json!({"index": index, "op": OPERATORS[*operator], "value": value, "valueTwo": masked});
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| {
            serde_json::json!({"names": [rule.call], "action": ACTIONS[rule.action].0,
            "args": rule.conditions.iter().map(argument).collect::<Vec<_>>()})
        })
        .collect();
    let architectures =
        if with_x86 { vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"] } else { vec!["SCMP_ARCH_X86_64"] };
    let section = serde_json::json!({"defaultAction": ACTIONS[default].0, "architectures": architectures, "syscalls": rules});
    program(&serde_json::from_value(section).unwrap()).unwrap()
}

/// Values whose halves collide, and around the values compared with.
fn values(rules: &[Generated]) -> Vec<u64> {
    let near = rules.iter().flat_map(|rule| &rule.conditions);
    let near = near
        .flat_map(|(_, _, value, masked)| [*value, value.wrapping_add(1), value.wrapping_sub(1), *masked]);
    let mut values: Vec<u64> = near.chain([0, 1, 1 << 32, u64::MAX]).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn comparison() -> impl Strategy<Value = Comparison> {
    let word = || (0_u64..3, 0_u64..3).prop_map(|(high, low)| high << 32 | low);
    (0_u32..3, 0..OPERATORS.len(), word(), word())
}

fn rules() -> impl Strategy<Value = Vec<Generated>> {
    let names: Vec<&'static str> = CALLS.iter().chain(SOCKET_CALLS).copied().collect();
    let rule = (0..ACTIONS.len(), proptest::collection::vec(comparison(), 0..3));
    proptest::collection::btree_map(proptest::sample::select(names), rule, 1..12).prop_map(|rules| {
        let plain = |call: &str| SOCKET_CALLS.contains(&call);
        let rule = |(call, (action, conditions)): (&'static str, (usize, Vec<Comparison>))| {
            let mut conditions = if plain(call) { vec![] } else { conditions };
            if let [a, b] = conditions.as_mut_slice()
                && a.0 == b.0
            {
                (a.1, b.1) = (EQUAL_TO, EQUAL_TO);
            }
            Generated { call, action, conditions }
        };
        rules.into_iter().map(rule).collect()
    })
}

proptest! {
    #[test]
    fn profiles_mean_what_libseccomp_makes_of_them(default in 0..ACTIONS.len(), with_x86 in any::<bool>(), rules in rules()) {
        let Some(theirs) = theirs(ACTIONS[default].1, with_x86, &rules) else { return Ok(()) };
        let ours = ours(default, with_x86, &rules);
        let decided = |arch: Arch| rules.iter().filter(|rule| rule.action != default).filter_map(move |rule| arch.number(rule.call));
        for (arch, audit) in [(Arch::X86_64, X86_64), (Arch::X86, I386)] {
            let newest = decided(arch).max().unwrap_or(0);
            let known = CALLS.iter().chain(SOCKET_CALLS).filter_map(|call| arch.number(call));
            for number in known.chain([0, 39, 102]).filter(|number| *number <= newest) {
                for value in values(&rules) {
                    for args in [[value, 0, 0], [0, value, 1 << 32], [value, value, value], [1, 2, value]] {
                        let width = if arch == Arch::X86 { u64::from(u32::MAX) } else { u64::MAX };
                        let args = [args[0] & width, args[1] & width, args[2] & width, 0, 0, 0];
                        let (a, b) = (run(&ours, number, audit, args), run(&theirs, number, audit, args));
                        prop_assert_eq!(a, b, "call {} on {:#x} with {:x?}: ours {:#x}, theirs {:#x}", number, audit, args, a, b);
                    }
                }
            }
        }
        // Calls of x32 and of machines that this is not.
        for (number, audit) in [(0x4000_0000, X86_64), (0x4000_0123, X86_64), (0, 0x1234)] {
            prop_assert_eq!(run(&ours, number, audit, [0; 6]), run(&theirs, number, audit, [0; 6]));
        }
    }
}
