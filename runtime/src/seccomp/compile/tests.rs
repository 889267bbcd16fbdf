//! Programs are run on a small machine and compared with a direct reading of the rules.

use super::*;
use crate::seccomp::conditions::{AND, GREATER, Operator};
use proptest::prelude::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// Runs a program on (number, architecture, arguments).
pub(super) fn run(program: &[Instruction], number: u32, arch: u32, args: [u64; 6]) -> u32 {
    let mut data = [0_u8; 64];
    data[0..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (index, arg) in args.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&arg.to_ne_bytes());
    }
    let (mut at, mut a) = (0_usize, 0_u32);
    loop {
        let i = program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { i.jump_true } else { i.jump_false });
        match i.code {
            LOAD => a = u32::from_ne_bytes(data[i.k as usize..i.k as usize + 4].try_into().unwrap()),
            AND => a &= i.k,
            JUMP => at += i.k as usize,
            EQUAL => at += jump(a == i.k),
            GREATER => at += jump(a > i.k),
            GREATER_OR_EQUAL => at += jump(a >= i.k),
            RETURN => return i.k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn compile(json: serde_json::Value) -> Vec<Instruction> {
    program(&serde_json::from_value(json).unwrap()).unwrap()
}

fn number(name: &str) -> u32 {
    Arch::X86_64.number(name).unwrap()
}

#[test]
fn allowed_refused_unknown_and_foreign() {
    let program = compile(serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read", "write", "no_such_call", "openat2"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW"}]
    }));
    for (call, arch, expected) in [
        (number("read"), X86_64, ALLOW),
        (number("write"), X86_64, ALLOW),
        (number("open"), X86_64, EPERM),
        (number("getcwd"), X86_64, ENOSYS),
        (number("openat2"), X86_64, ALLOW),
        (number("openat2") + 1, X86_64, ENOSYS),
        (number("read") | X32_BIT, X86_64, actions::BAD_ARCHITECTURE),
        (number("read"), 0x1234, actions::BAD_ARCHITECTURE),
        (3, I386, ALLOW),
        (5, I386, EPERM),
    ] {
        assert_eq!(run(&program, call, arch, [0; 6]), expected, "{call} on {arch:#x}");
    }
    assert_eq!(run(&program, 102, I386, [1, 0, 0, 0, 0, 0]), ALLOW, "socket through socketcall");
    assert_eq!(run(&program, 102, I386, [2, 0, 0, 0, 0, 0]), EPERM, "bind through socketcall");
}

#[test]
fn x32_is_allowed_only_where_asked_for() {
    let program = compile(serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X32"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]
    }));
    assert_eq!(run(&program, X32_BIT, X86_64, [0; 6]), ALLOW);
    assert_eq!(run(&program, 0, X86_64, [0; 6]), ALLOW);
    assert_eq!(run(&program, X32_BIT | 1, X86_64, [0; 6]), ENOSYS);
}

#[test]
fn conditions_on_one_argument_are_alternatives_and_on_several_all_hold() {
    let argument =
        |index: u32, value: u64| serde_json::json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let program = compile(serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [argument(0, 0), argument(0, 8)]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [argument(0, 1), argument(1, 2)]},
            {"names": ["clone3"], "action": "SCMP_ACT_ALLOW"}]
    }));
    for (call, args, expected) in [
        ("personality", [0, 0], ALLOW),
        ("personality", [8, 0], ALLOW),
        ("personality", [1 << 32, 0], EPERM),
        ("socket", [1, 2], ALLOW),
        ("socket", [1, 3], EPERM),
        ("socket", [0, 2], EPERM),
    ] {
        let args = [args[0], args[1], 0, 0, 0, 0];
        assert_eq!(run(&program, number(call), X86_64, args), expected, "{call} {args:?}");
    }
}

#[test]
fn an_unconditional_rule_wins_over_conditional_ones() {
    let condition = serde_json::json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]);
    for order in [[0, 1], [1, 0]] {
        let rules = [
            serde_json::json!({"names": ["dup"], "action": "SCMP_ACT_ALLOW"}),
            serde_json::json!({"names": ["dup"], "action": "SCMP_ACT_KILL", "args": condition}),
        ];
        let rules: Vec<_> = order.iter().map(|index| &rules[*index]).collect();
        let program = compile(serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
        assert_eq!(run(&program, number("dup"), X86_64, [1, 0, 0, 0, 0, 0]), ALLOW);
    }
}

#[test]
fn bad_sections_name_the_field() {
    for (json, field) in [
        (serde_json::json!({"defaultAction": "SCMP_ACT_X"}), "defaultAction"),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["Z80"]}),
            "architectures[0]",
        ),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]}),
            "names",
        ),
        (
            serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["a"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}),
            "syscalls[0].args",
        ),
    ] {
        let error = program(&serde_json::from_value(json).unwrap()).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

fn holds(c: &Condition, arg: u64) -> bool {
    match c.operator {
        Operator::NotEqual => arg != c.value,
        Operator::Less => arg < c.value,
        Operator::LessOrEqual => arg <= c.value,
        Operator::Equal => arg == c.value,
        Operator::GreaterOrEqual => arg >= c.value,
        Operator::Greater => arg > c.value,
        Operator::MaskedEqual => arg & c.value == c.masked,
    }
}

/// Numbers whose halves collide often.
fn word() -> impl Strategy<Value = u64> {
    (0_u64..3, 0_u64..3).prop_map(|(high, low)| high << 32 | low)
}

fn condition() -> impl Strategy<Value = Condition> {
    use Operator::*;
    let operator = proptest::sample::select(vec![
        NotEqual,
        Less,
        LessOrEqual,
        Equal,
        GreaterOrEqual,
        Greater,
        MaskedEqual,
    ]);
    (0_u32..6, operator, word(), word()).prop_map(|(index, operator, value, masked)| Condition {
        index,
        operator,
        value,
        masked,
    })
}

proptest! {
    #[test]
    fn conditions_compare_as_64_bit_numbers(
        list in proptest::collection::vec((proptest::collection::vec(condition(), 1..6), 1_u32..9), 0..6),
        args in proptest::array::uniform6(word()),
    ) {
        let expected = list.iter().find(|(all, _)| all.iter().all(|c| holds(c, args[c.index as usize])));
        let code = when(&list, 99).unwrap();
        prop_assert_eq!(run(&code, 0, X86_64, args), expected.map_or(99, |(_, action)| *action));
    }

    #[test]
    fn the_search_finds_the_range(numbers in proptest::collection::btree_map(0_u32..600, 1_u32..5, 0..300), asked in 0_u32..700) {
        let decisions: BTreeMap<u32, Decision> = numbers.iter().map(|(n, a)| (*n, Decision::Always(*a))).collect();
        let default = ALLOW;
        let mut code = vec![op(LOAD, 0, 0, NUMBER)];
        code.extend(search(&ranges(&decisions, default), default).unwrap());
        prop_assert_eq!(run(&code, asked, X86_64, [0; 6]), numbers.get(&asked).copied().unwrap_or(default));
    }
}
