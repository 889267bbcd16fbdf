//! `docs/security.md` names a test for every attack: a test that is renamed or lost must not leave a claim behind.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn every_attack_of_the_table_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let (table, tests) =
        (read("../docs/security.md"), read("tests/runtime_security.rs") + &read("tests/runtime_attacks.rs"));
    let rows: Vec<&str> =
        table.lines().filter(|line| line.contains("CVE-") && line.starts_with('|')).collect();
    assert!(rows.len() >= 15, "the table has only {} rows", rows.len());
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || last.contains("cannot apply"), "no test in: {row}");
        for name in names {
            assert!(tests.contains(&format!("fn {name}()")), "{name} does not exist");
        }
    }
}
