//! Faults as CEL's own checker words them, and what it has no fault to find with.

use super::*;
use crate::schema::types;
use serde_json::json;
use std::sync::Arc;

fn faults(object: Kind, source: &str) -> String {
    let scope = Scope::default().with("object", object).with("request", Kind::Any);
    let scope = scope
        .with("variables", Kind::Object(Shape::Named(Arc::new([("size".to_owned(), Kind::Int)].into()))));
    Expression::compile(source).unwrap().kind_in(&scope).err().unwrap_or_default()
}

fn deployment() -> Kind {
    Kind::Object(Shape::Known(types::of_kind("apps", "v1", "Deployment").unwrap()))
}

#[test]
fn faults_are_shown_where_they_are() {
    for (source, expected) in [
        (
            "object.spec.replicas > '1'",
            "ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^",
        ),
        ("object.foo > 1", "ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1\n | ......^"),
        (
            "true &&\n object.spec.replica == 1",
            "ERROR: <input>:2:13: undefined field 'replica'\n |  object.spec.replica == 1\n | ............^",
        ),
        (
            "objects.spec == 1",
            "ERROR: <input>:1:1: undeclared reference to 'objects' (in container '')\n | objects.spec == 1\n | ^",
        ),
        (
            "object.metadata.name.x == ''",
            "ERROR: <input>:1:21: type 'string' does not support field selection\n | object.metadata.name.x == ''\n | ....................^",
        ),
        (
            "object.spec.replicas || true",
            "ERROR: <input>:1:22: found no matching overload for '_||_' applied to '(int, bool)'\n | object.spec.replicas || true\n | .....................^",
        ),
    ] {
        assert_eq!(faults(deployment(), source), expected, "{source}");
    }
    let privileged = "object.spec.template.spec.containers.all(c, !has(c.securityContext) || !has(c.securityContext.Privileged) || !c.securityContext.Privileged)";
    let found = faults(deployment(), privileged);
    assert_eq!(found.matches("undefined field 'Privileged'").count(), 2, "{found}");
    assert!(
        found.contains("<input>:1:76: ") && found.contains("<input>:1:128: "),
        "as a real server says it: {found}"
    );
    let two = faults(deployment(), "object.a == 1 || object.b == 1");
    assert_eq!(two.matches("ERROR: ").count(), 2, "{two}");
}

#[test]
fn every_kind_of_fault_is_found_and_no_other() {
    for (source, expected) in [
        ("object.spec.template.spec.containers.all(c, c.image.startsWith('a'))", ""),
        ("object.spec.template.spec.containers.all(c, c.imago == 'a')", "undefined field 'imago'"),
        ("object.spec.template.spec.containers[0].ports[0].containerPort == '1'", "'(int, string)'"),
        ("has(object.spec.strategy.rollingUpdate) && object.spec.strategy.rollingUpdate.maxSurge == 1", ""),
        ("has(object.spec.nothing)", "undefined field 'nothing'"),
        ("object.metadata.labels['a'] == 'b' && object.metadata.labels.a == 'b'", ""),
        ("object.metadata.labels.a == 1", "'_==_' applied to '(string, int)'"),
        ("object.spec.replicas + 1 > 2.5 && object.spec.replicas * 2 < 7", ""),
        ("object.spec.paused + true", "'_+_' applied to '(bool, bool)'"),
        ("object.metadata.name + 'x' == 'y'", ""),
        ("-object.metadata.name == 'y'", "'-_' applied to '(string)'"),
        ("variables.size == 3 && request.anything.goes > 1", ""),
        ("variables.sizes == 3", "undefined field 'sizes'"),
        ("object == null || object.spec == null || object.spec.replicas in [1, 2]", ""),
        ("(object.spec.paused ? object.spec.replicas : 0) > 'a'", "'(int, string)'"),
        ("size(object.metadata.name) > 'a'", "'(int, string)'"),
        ("type(object.spec.replicas) == int && math.greatest(1, 2) == 2", ""),
        (
            "quantity(object.spec.template.spec.containers[0].resources.limits.cpu).isLessThan(quantity('1'))",
            "",
        ),
        ("object.spec.?replicas.orValue(1) > 0", ""),
        ("object.metadata.name != null", "'_!=_' applied to '(string, null)'"),
        ("null == object.metadata.labels", "'_==_' applied to '(null, map(string, string))'"),
        ("object.spec['replicas'] == 1", "'_[_]' applied to '(object, string)'"),
        ("['a'].sum() == 1", "'sum' applied to 'list(string).()'"),
        ("object.spec.template.spec.containers.max() == 1", "'max' applied to 'list(object).()'"),
        ("['a', 'b'].min() == 'a' && [1.5].sum() == 1.5", ""),
        ("object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')", ""),
    ] {
        let found = faults(deployment(), source);
        assert!(
            if expected.is_empty() { found.is_empty() } else { found.contains(expected) },
            "{source}: {found}"
        );
    }
}

#[test]
fn schemas_of_custom_resources_count() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "crew": {"type": "integer"}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
        "ports": {"type": "array", "items": {"x-kubernetes-int-or-string": true}},
        "flags": {"type": "object", "additionalProperties": {"type": "string"}}}}}});
    let boat = || Kind::Object(Shape::Resource(Arc::new(schema.clone())));
    types::of_kind("", "v1", "Pod").unwrap();
    for (source, expected) in [
        ("object.spec.crew > 1 && has(object.spec.free) && object.spec.ports[0] == 'a'", ""),
        ("object.spec.free.x == 1", "undefined field 'x'"),
        ("has(object.spec.any)", "undefined field 'any'"),
        ("object.spec.crew > '1'", "'(int, string)'"),
        ("object.spec.flags.a == 1", "'(string, int)'"),
        ("object.metadata.namo == ''", "undefined field 'namo'"),
        ("object.kind == 'Boat' && object.metadata.name == 'a'", ""),
        ("object.status == 1", "undefined field 'status'"),
    ] {
        let found = faults(boat(), source);
        assert!(
            if expected.is_empty() { found.is_empty() } else { found.contains(expected) },
            "{source}: {found}"
        );
    }
}

#[test]
fn literals_that_cannot_be_used_are_faults() {
    for (source, expected) in [
        ("duration('1h30m') > duration('5s') && timestamp('2024-01-02T03:04:05Z') != null", ""),
        (
            "duration('1x') > duration('5s')",
            "ERROR: <input>:1:10: invalid duration argument\n | duration('1x') > duration('5s')\n | .........^",
        ),
        ("timestamp('today') != null", "ERROR: <input>:1:11: invalid timestamp argument"),
        ("object.metadata.name.matches('a(')", "ERROR: <input>:1:30: invalid matches argument"),
        ("object.metadata.name.matches('^a+$')", ""),
        ("object.metadata.name in ['a', 1]", "ERROR: <input>:1:31: expected type 'string' but found 'int'"),
        ("{'a': 1, 'b': true} != null", "expected type 'int' but found 'bool'"),
        ("'%s %d'.format(['a', 1]) != ''", ""),
    ] {
        let found = faults(deployment(), source);
        assert!(
            if expected.is_empty() { found.is_empty() } else { found.contains(expected) },
            "{source}: {found}"
        );
    }
}

#[test]
fn a_rule_sees_the_names_of_its_object_alone() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"crew": {"type": "integer"}}},
        "part": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "piece": {"type": "object", "x-kubernetes-embedded-resource": true,
            "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}}});
    let told = |source: &str| {
        let scope = Scope::default().with("self", Kind::of_rule(&schema, true));
        Expression::compile(source).unwrap().kind_in(&scope).err().unwrap_or_default()
    };
    for (source, expected) in [
        ("self.metadata.name == 'a' && self.metadata.generateName == '' && self.kind == 'A'", ""),
        ("self.metadata.labels.size() == 0", "undefined field 'labels'"),
        ("self.metadata.namespace == 'a'", "undefined field 'namespace'"),
        ("self.piece.metadata.name == 'a' && self.piece.spec.n == 1", ""),
        ("self.piece.metadata.uid == 'a'", "undefined field 'uid'"),
        ("self.spec.crew > 1", ""),
    ] {
        let found = told(source);
        assert!(
            if expected.is_empty() { found.is_empty() } else { found.contains(expected) },
            "{source}: {found}"
        );
    }
}
