//! `docs/security.md` and `docs/images-security.md` name a test for every attack: a test that is renamed or lost must not
//! leave a claim behind.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// All Rust sources beneath a directory, as one text.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}

/// Every row ends with the names of tests that exist, or says that it cannot apply.
fn check<'a>(rows: impl Iterator<Item = &'a str>, tests: &str) -> usize {
    let mut count = 0;
    for row in rows {
        count += 1;
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || last.contains("cannot apply"), "no test in: {row}");
        for name in names {
            assert!(tests.contains(&format!("fn {name}(")), "{name} does not exist");
        }
    }
    count
}

#[test]
fn every_attack_on_the_runtime_has_its_test() {
    let table = read("docs/security.md");
    let suites =
        ["security", "attacks", "apparmor"].map(|name| read(&format!("tests/tests/runtime_{name}.rs")));
    let tests = suites.concat();
    let rows = table.lines().filter(|line| line.contains("CVE-") && line.starts_with('|'));
    let count = check(rows, &tests);
    assert!(count >= 15, "the table has only {count} rows");
}

#[test]
fn every_attack_by_an_image_has_its_test() {
    let table = read("docs/images-security.md");
    let tests = sources(&root().join("images"))
        + &sources(&root().join("agent/src"))
        + &["image_build", "image_configs", "cri_checkpoint"]
            .map(|name| read(&format!("tests/tests/{name}.rs")))
            .concat();
    // The first table is of rules; a table's own head and the line beneath it name no test.
    let (_, tables) = table.split_once("## Archives").unwrap();
    let head = |line: &str| {
        line.starts_with("| attack ") || line.starts_with("| fault ") || line.starts_with("| advisory ")
    };
    let rows = tables.lines().filter(|line| line.starts_with("| ") && !head(line));
    let count = check(rows, &tests);
    assert!(count >= 50, "the tables have only {count} rows");
}
