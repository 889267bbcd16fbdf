//! What loops with two names give, what is wrong with them, what they cost, and that their names hide others.

use crate::expressions::cost::spent;
use crate::expressions::typing::{Kind, Scope, Shape};
use crate::expressions::{Expression, Variables};
use serde_json::{Value, json};
use std::sync::Arc;

fn holds(source: &str) -> Result<bool, String> {
    let object = json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}],
        "labels": {"app": "web", "tier": "front"}, "names": ["x", "y", "x"]});
    Expression::compile(source)?.holds(&Variables::default().with("self", &object))
}

#[test]
fn lists_and_maps_are_gone_over_in_pairs() {
    for source in [
        "self.ports.all(i, p, p.port == i + 1)",
        "!self.ports.all(i, p, p.port == i)",
        "self.ports.exists(i, p, i == 1 && p.name == 'b')",
        "!self.ports.exists(i, p, i == 1 && p.name == 'a')",
        "self.names.existsOne(i, n, n == 'y' && i == 1) && !self.names.exists_one(_, n, n == 'x')",
        "self.labels.all(k, v, k.size() > 2 && v.size() > 2)",
        "self.labels.exists(k, v, k == 'app' && v == 'web')",
        "self.labels.existsOne(k, v, v.startsWith('f'))",
        "self.names.transformList(i, n, n + string(i)) == ['x0', 'y1', 'x2']",
        "self.names.transformList(i, n, i != 1, n) == ['x', 'x']",
        "self.labels.transformList(k, v, k + '=' + v).exists(l, l == 'app=web')",
        "self.names.transformMap(i, n, n) == {0: 'x', 1: 'y', 2: 'x'}",
        "self.labels.transformMap(k, v, k == 'app', v + '!') == {'app': 'web!'}",
        "self.labels.transformMapEntry(k, v, {v: k}) == {'web': 'app', 'front': 'tier'}",
        "self.ports.transformMapEntry(i, p, i > 0, {p.name: p.port}) == {'b': 2}",
        "self.ports.transformMapEntry(i, p, {}) == {} && {}.transformMap(k, v, v).size() == 0",
        // An error of one does not matter where another one decides.
        "!self.ports.all(i, p, p.port / i == 7) && self.ports.exists(i, p, 2 / i == 2)",
        "self.ports.all(i, p, has(p.name) && !has(p.protocol))",
        "self.ports.transformList(i, p, p.?protocol.orValue('TCP')) == ['TCP', 'TCP']",
    ] {
        assert_eq!(holds(source), Ok(true), "{source}");
    }
}

#[test]
fn names_of_inner_loops_hide_those_of_outer_ones() {
    for source in [
        "[1, 2].all(i, v, [10, 20].all(j, w, w > v && i + j < 3))",
        "[5, 6].transformList(i, v, [7].transformList(i, w, v * 10 + i)) == [[50], [60]]",
        "[5, 6].transformList(i, v, [7, 8].map(v, v + i)) == [[7, 8], [8, 9]]",
        "[[1], [2]].transformList(i, v, v.map(v, v * 2)) == [[2], [4]]",
        "[3, 4].transformMap(i, v, {'a': v}.transformMap(k, v, v + i)) == {0: {'a': 3}, 1: {'a': 5}}",
        "[3].map(v, [v].transformList(i, w, v + w + i)) == [[6]]",
        "[[2, 1]].transformList(i, v, v.sortBy(e, e + i)) == [[1, 2]]",
    ] {
        assert_eq!(holds(source), Ok(true), "{source}");
    }
}

#[test]
fn faults_are_said_in_the_words_of_cel() {
    for (source, expected) in [
        ("[1].all(i, i, true)", "duplicate variable name: i"),
        ("[1].all(i, v.x, true)", "argument must be a simple name"),
        ("[1].transformMap(__result__, v, v) == {}", "iteration variable overwrites accumulator variable"),
        ("self.names.transformMapEntry(i, n, {n: i}) == {}", "insert failed: key x already exists"),
        (
            "[1, 2].transformMapEntry(i, n, i == 0 ? {1: i} : {1u: i}) == {}",
            "insert failed: key 1 already exists",
        ),
        ("self.names.transformMapEntry(i, n, i) == {}", "int"),
        ("self.names[0].all(i, n, true)", "iterable"),
    ] {
        let error = holds(source).unwrap_err();
        assert!(error.contains(expected), "{source}: {error}");
    }
}

#[test]
fn types_of_keys_and_values_are_known() {
    let schema = json!({"type": "object", "properties": {
        "ports": {"type": "array", "items": {"type": "object", "properties": {"port": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}}}});
    let scope = Scope::default().with("self", Kind::Object(Shape::Custom(Arc::new(schema))));
    for (source, expected) in [
        ("self.ports.all(i, p, p.port == i)", ""),
        ("self.ports.all(i, p, p.prot == i)", "undefined field 'prot'"),
        ("self.ports.all(i, p, i == 'a')", "'_==_' applied to '(int, string)'"),
        ("self.labels.transformMap(k, v, v + k)['a'] == 'b'", ""),
        ("self.labels.exists(k, v, v > 1)", "'_>_' applied to '(string, int)'"),
        ("self.labels.exists(k, v, q == 1)", "undeclared reference to 'q'"),
        ("self.labels['a'].all(c, true)", "expression of type 'string' cannot be range of a comprehension"),
    ] {
        let found = Expression::compile(source).unwrap().kind_in(&scope).err().unwrap_or_default();
        assert_eq!(found.is_empty(), expected.is_empty(), "{source}: {found}");
        assert!(found.contains(expected), "{source}: {found}");
    }
}

#[test]
fn loops_cost_what_kubernetes_says() {
    for (source, expected) in [
        ("[1, 2, 3, 4].all(i, v, i < 5 && v > 0)", 39),
        ("{1: 1, 2: 2, 3: 3}.all(i, v, i < 5 && v > 0)", 52),
        ("[].transformList(i, v, v) == []", 31),
        ("[1].transformList(i, v, i) == [0]", 45),
        ("[3, 2, 1].transformList(i, v, v > i, v) == [3, 2]", 67),
        ("[].transformMap(k, v, v + 1) == {}", 71),
        ("{1: 2}.transformMap(k, v, v + 1) == {1: 3}", 97),
    ] {
        assert_eq!(holds(source), Ok(true), "{source}");
        assert!(spent().abs_diff(expected) * 4 <= expected, "{source}: {} for {expected}", spent());
    }
}

#[test]
fn a_large_map_is_collected_in_time() {
    let labels: serde_json::Map<String, Value> =
        (0..30_000).map(|n| (format!("key-{n}"), n.into())).collect();
    let variables = Variables::default().with("self", &Value::Object(labels));
    let changed = Expression::compile("self.transformMap(k, v, v + 1).size() == 30000").unwrap();
    assert_eq!(changed.holds(&variables), Ok(true));
    let nested = Expression::compile("self.all(k, v, self.all(l, w, k != l || v == w))").unwrap();
    assert!(nested.holds(&variables).unwrap_err().contains("actual cost limit exceeded"));
    let schema = json!({"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 10});
    let (pairs, singles) = ("self.all(i, v, v.contains('a'))", "self.all(v, v.contains('a'))");
    let estimated = |source| Expression::compile(source).unwrap().estimated_cost(&schema);
    assert_eq!(estimated(pairs), estimated(singles));
}
