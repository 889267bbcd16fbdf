//! What is better written otherwise in a Dockerfile, found without building: BuildKit's build checks, with its names of
//! rules, its findings and its order.
//!
//! `form` looks at how the lines are written, `from` at the variables of FROM, `stage` follows every stage as a build
//! would. `options` says what is looked for.
//!
//! What must hold: a file that cannot be built is still checked as far as it can be read; why it cannot be built is the
//! build's to tell.

use crate::build::check::options::Options;
use crate::build::check::rule::Rule;
use crate::build::instruction::{Located, parse};
use crate::build::source::{Line, read};
use crate::build::stages::{Base, Graph};
use crate::build::{Build, BuildRequest, automatic_arguments};
use crate::error::{Error, Result};
use crate::platform::Platform;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

mod expose;
mod form;
mod from;
pub(crate) mod noted;
mod options;
mod rule;
mod secret;
mod stage;

/// Configs of the images that stages begin with, by name and platform.
pub type BaseConfigs = BTreeMap<(String, Option<String>), Value>;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the rule.
    pub rule: &'static str,
    /// What the rule asks for.
    pub description: &'static str,
    /// Its page.
    pub url: String,
    /// What was found.
    pub detail: String,
    /// The lines it is about, the first and the last.
    pub lines: (usize, usize),
}

impl Finding {
    /// In one line, as a build tells it.
    pub fn short(&self) -> String {
        format!("{}: {} (line {})", self.rule, self.detail, self.lines.0)
    }
}

/// All findings in the order in which they were made.
#[derive(Debug, Default)]
pub struct Findings {
    options: Options,
    /// What was found.
    pub list: Vec<Finding>,
}

impl Findings {
    fn note(&mut self, rule: &'static Rule, lines: (usize, usize), detail: &str) {
        self.note_under(rule, &[], lines, detail);
    }

    /// On an instruction, whose comments may say that this is not to be told.
    fn note_for(&mut self, rule: &'static Rule, line: &Line, detail: &str) {
        self.note_under(rule, &line.comments, (line.number, line.last), detail);
    }

    fn note_under(&mut self, rule: &'static Rule, comments: &[String], lines: (usize, usize), detail: &str) {
        if self.options.checks(&Options::of_comments(comments), rule) {
            let (description, detail) = (rule.description, detail.to_owned());
            self.list.push(Finding { rule: rule.name, description, url: rule.url(), detail, lines });
        }
    }

    /// Whether what was found is to end the build: in BuildKit's words.
    pub fn violation(&self) -> Option<String> {
        let names: BTreeSet<&str> = self.list.iter().map(|finding| finding.rule).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let ends = self.options.error && !names.is_empty();
        ends.then(|| format!("lint violation found for rules: {}", names.join(", ")))
    }
}

/// A line that was understood.
struct Read<'a> {
    line: &'a Line,
    located: Located,
}

impl Read<'_> {
    fn place(&self) -> (usize, usize) {
        (self.line.number, self.line.last)
    }
}

/// Checks a Dockerfile. `every_stage`: also those that the target does not need.
///
/// # Errors
/// When what is to be checked is not understood.
pub fn check(request: &BuildRequest, bases: &BaseConfigs, every_stage: bool) -> Result<Findings> {
    let mut findings = Findings::default();
    let Ok(source) = read(&request.dockerfile) else { return Ok(findings) };
    let told = request.arguments.get("BUILDKIT_DOCKERFILE_CHECK").or(source.check.as_ref());
    let failed = |error: Error| error.context("failed to parse check options");
    findings.options = Options::parse(told.map_or("", String::as_str)).map_err(failed)?;
    let understood = source.lines.iter().map_while(|line| {
        let located = parse(line, source.escape).ok()?;
        Some(Read { line, located })
    });
    let understood: Vec<Read<'_>> = understood.collect();
    form::check(&mut findings, &source.lines, &understood);
    if understood.len() < source.lines.len() {
        return Ok(findings);
    }
    form::check_all(&mut findings, &understood);
    let platform = match &request.platform {
        Some(text) => Platform::parse(text.split(',').next().unwrap_or(text))?,
        None => Platform::host(),
    };
    let automatic = automatic_arguments(&platform);
    from::check(&mut findings, &understood, source.escape, (request, &automatic));
    let Ok(graph) = Graph::plan(request, request.target.as_deref(), &automatic) else { return Ok(findings) };
    let (needed, all) = (graph.needed(), every_stage && request.target.is_none());
    let walk = stage::Walk::new((request, &graph), &source.lines, bases, &platform);
    walk.run(&mut findings, &|index| all || needed.contains(&index));
    Ok(findings)
}

impl Build {
    /// Images that stages begin with: of all stages, or of those that the target needs.
    pub fn bases(&self, every_stage: bool) -> BTreeSet<(String, Option<String>)> {
        let needed = self.graph.needed();
        let stages = self.graph.stages.iter().enumerate();
        let stages = stages.filter(|(index, _)| every_stage || needed.contains(index));
        let named = stages.filter_map(|(_, stage)| match &stage.base {
            Base::Image(name) => Some((name.clone(), stage.platform.clone())),
            _ => None,
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests;
