//! The rules of the house, checked on every file: which crate may depend on which, headers, sizes, names, unsafe.
//!
//! ARCHITECTURE.md says why each rule exists; this test is what keeps them true.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a file, not counting its tests.
const MOST_LINES: usize = 500;

/// Who may depend on whom; `tests` runs binaries and links none of them, but for CRI's messages.
const ARROWS: &[(&str, &[&str])] = &[
    ("knarr-sys", &[]),
    ("knarr-runtime", &["knarr-sys"]),
    ("knarr-images", &["knarr-sys"]),
    ("knarr-cri", &[]),
    ("knarr-monitor", &["knarr-sys", "knarr-runtime"]),
    ("knarr-api", &[]),
    (
        "knarr-agent",
        &["knarr-api", "knarr-cri", "knarr-images", "knarr-monitor", "knarr-runtime", "knarr-sys"],
    ),
    ("knarr-control", &["knarr-api"]),
    ("knarr", &["knarr-agent", "knarr-control", "knarr-images"]),
    ("knarr-tests", &["knarr-cri"]),
];

/// Every source file (path relative to the root, text).
fn sources() -> Vec<(PathBuf, String)> {
    let listed = run(Command::new("git").args(["ls-files", "-co", "--exclude-standard", "*.rs"]));
    let read =
        |line: &str| std::fs::read_to_string(root().join(line)).ok().map(|text| (PathBuf::from(line), text));
    let sources: Vec<_> = listed.lines().filter_map(read).collect();
    assert!(sources.len() > 50, "only {} source files found", sources.len());
    sources
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with the names of all files for which `offends` says why.
fn no_file(rule: &str, offends: impl Fn(&Path, &str) -> Option<String>) {
    let offenders: Vec<String> = sources()
        .iter()
        .filter(|(file, _)| !file.ends_with("tidy.rs"))
        .filter_map(|(file, text)| offends(file, text).map(|why| format!("{}: {why}", file.display())))
        .collect();
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests")
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = run(Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1"]));
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut offenders = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let targets = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the table of arrows"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let target = dependency["name"].as_str().unwrap();
            if target.starts_with("knarr") && !targets.contains(&target) {
                offenders.push(format!("{name} -> {target}"));
            }
        }
    }
    assert!(offenders.is_empty(), "not allowed arrows: {offenders:?}");
}

#[test]
fn every_file_says_what_it_is() {
    no_file("the first line is no //! header", |_, text| {
        (!text.starts_with("//! ")).then(|| text.lines().next().unwrap_or_default().to_owned())
    });
}

#[test]
fn files_are_one_concept_long() {
    no_file("longer than 500 lines", |file, text| {
        let tests_begin = text.lines().position(|line| line == "#[cfg(test)]");
        let lines = tests_begin.unwrap_or_else(|| text.lines().count());
        (!is_test(file) && lines > MOST_LINES).then(|| format!("{lines} lines"))
    });
}

#[test]
fn files_are_named_for_a_concept() {
    let dumps: BTreeSet<&str> =
        ["util", "utils", "common", "helper", "helpers", "misc", "stuff", "mod"].into();
    no_file("named for no concept", |file, _| {
        let stem = file.file_stem().and_then(|stem| stem.to_str())?;
        dumps.contains(stem).then(|| stem.to_owned())
    });
}

#[test]
fn unsafe_code_lives_in_sys_alone() {
    no_file("unsafe outside runtime/sys", |file, text| {
        let holds = |line: &&str| {
            let code = line.split("//").next().unwrap_or_default();
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| code.contains(word))
        };
        if file.starts_with("runtime/sys") { None } else { text.lines().find(holds).map(str::to_owned) }
    });
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let words = ["todo!(", "unimplemented!(", "#[ignore", "// TODO", "// FIXME", "// XXX", "// HACK"];
    no_file("left for later", |_, text| {
        words.iter().find(|word| text.contains(**word)).map(|word| (*word).to_owned())
    });
}

#[test]
fn tests_wait_on_conditions_and_never_sleep() {
    no_file("sleeps (only eventually.rs polls, with a deadline)", |file, text| {
        let sleeps = |line: &&str| line.contains("thread::sleep(") || line.contains("time::sleep(");
        let polls = file.ends_with("eventually.rs") || !is_test(file);
        if polls { None } else { text.lines().find(sleeps).map(|line| line.trim().to_owned()) }
    });
}

#[test]
fn every_top_folder_is_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for folder in ["runtime/", "images/", "agent/", "control/", "cli/", "tests/", "docs/", "examples/"] {
        assert!(readme.contains(folder), "{folder} is not in README.md");
    }
}
