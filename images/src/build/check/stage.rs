//! Rules on what the instructions of a stage say once variables are replaced: every stage is followed as a build would
//! follow it, but nothing is executed.
//!
//! Where the base image's config is not known, nothing is said about variables: it may define them.

use crate::build::BuildRequest;
use crate::build::check::noted::Noted;
use crate::build::check::{BaseConfigs, Findings, expose, form, rule, secret};
use crate::build::config::Draft;
use crate::build::describe::{Words, describe};
use crate::build::expand::{expand, expand_document, words};
use crate::build::ignore::Ignore;
use crate::build::instruction::{Command, Instruction, Located, Transfer};
use crate::build::near::nearest;
use crate::build::scope::{Arguments, Scope};
use crate::build::source::Line;
use crate::build::stages::{Base, Graph, Stage};
use crate::error::Result;
use crate::layer::entry::TreePath;
use crate::platform::Platform;
use std::collections::BTreeMap;

/// How far a stage has come.
#[derive(Clone)]
struct State {
    draft: Draft,
    arguments: Arguments,
    base_is_known: bool,
    has_workdir: bool,
}

impl State {
    fn scope<'s>(&'s self, walk: &'s Walk<'_>) -> Scope<'s> {
        let (draft, arguments) = (&self.draft, &self.arguments);
        Scope { draft, arguments, given: &walk.request.arguments, escape: walk.graph.escape }
    }
}

/// What holds for all stages.
pub(crate) struct Walk<'a> {
    request: &'a BuildRequest,
    graph: &'a Graph,
    lines: BTreeMap<usize, &'a Line>,
    ignore: Ignore,
    bases: &'a BaseConfigs,
    platform: &'a Platform,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        (request, graph): (&'a BuildRequest, &'a Graph),
        lines: &'a [Line],
        bases: &'a BaseConfigs,
        platform: &'a Platform,
    ) -> Self {
        let lines = lines.iter().map(|line| (line.number, line)).collect();
        Self { request, graph, lines, ignore: Ignore::parse(&request.ignore), bases, platform }
    }

    /// Checks those stages that `wanted` says; a stage stands on an earlier one.
    pub(crate) fn run(&self, findings: &mut Findings, wanted: &dyn Fn(usize) -> bool) {
        let mut ends: Vec<State> = Vec::new();
        for (index, stage) in self.graph.stages.iter().enumerate() {
            let mut silent = Findings::default();
            let findings = if wanted(index) { &mut *findings } else { &mut silent };
            let state = self.start(stage, &ends);
            let mut at_work = StageCheck { walk: self, findings, state, said: BTreeMap::new() };
            stage.steps.iter().for_each(|step| at_work.step(step));
            ends.push(at_work.state);
        }
    }

    fn start(&self, stage: &Stage, ends: &[State]) -> State {
        let scratch = || State {
            draft: Draft::scratch(self.platform),
            arguments: Arguments::default(),
            base_is_known: true,
            has_workdir: false,
        };
        match &stage.base {
            Base::Scratch => scratch(),
            Base::Stage(base) => ends.get(*base).cloned().unwrap_or_else(scratch),
            Base::Image(name) => {
                let config = self.bases.get(&(name.clone(), stage.platform.clone()));
                let draft = config.and_then(|config| Draft::of_image(config.clone(), Vec::new()).ok());
                let base_is_known = draft.is_some();
                State { draft: draft.unwrap_or_else(|| scratch().draft), base_is_known, ..scratch() }
            }
        }
    }
}

struct StageCheck<'a, 'f> {
    walk: &'a Walk<'a>,
    findings: &'f mut Findings,
    state: State,
    /// Where something was said that counts once.
    said: BTreeMap<&'static str, (usize, usize)>,
}

impl StageCheck<'_, '_> {
    fn step(&mut self, located: &Located) {
        let Some(line) = self.walk.lines.get(&located.first).copied() else { return };
        let instruction = &located.instruction;
        self.variables(line, instruction);
        match instruction {
            Instruction::Arg(declared) => self.declare(line, declared),
            Instruction::Env(pairs) => {
                self.legacy(line);
                pairs.iter().for_each(|(name, _)| self.secret(line, "ENV", name));
            }
            Instruction::Label(_) => self.legacy(line),
            Instruction::Workdir(path) => self.workdir(line, path),
            Instruction::Expose(ports) => self.expose(line, ports),
            Instruction::Copy(transfer) => self.copy(line, transfer),
            Instruction::Cmd(command) => self.command(line, "CMD", command),
            Instruction::Entrypoint(command) => self.command(line, "ENTRYPOINT", command),
            Instruction::Health(_) => self.once(line, "HEALTHCHECK"),
            _ => {}
        }
        // What is wrong with it, the build itself says.
        self.apply(instruction).unwrap_or_default();
    }

    fn apply(&mut self, instruction: &Instruction) -> Result<()> {
        let words = Words {
            arguments: &self.state.arguments,
            given: &self.walk.request.arguments,
            escape: self.walk.graph.escape,
        };
        describe(&mut self.state.draft, &words, instruction)
    }

    /// Expands a text and complains of variables in it that nobody has defined.
    fn expanded(&mut self, line: &Line, text: &str, is_document: bool) -> Option<String> {
        let (scope, escape) = (self.state.scope(self.walk), self.walk.graph.escape);
        let (draft, arguments) = (&self.state.draft, &self.state.arguments);
        let noted = Noted::new(&scope);
        let value = match is_document {
            true => expand_document(text, escape, &noted),
            false => expand(text, escape, &noted),
        };
        let missing = noted.missing();
        for name in missing.iter().filter(|name| !arguments.declares(name) && self.state.base_is_known) {
            let known = draft.env.iter().map(|(name, _)| name.as_str()).chain(arguments.names());
            let hint = nearest(name, known).map(|near| format!(" (did you mean ${near}?)"));
            let detail = format!("Usage of undefined variable '${name}'{}", hint.unwrap_or_default());
            self.findings.note_for(&rule::UNDEFINED_VAR, line, &detail);
        }
        value.ok()
    }

    /// Whatever of an instruction is expanded. ARG's defaults are not always.
    fn variables(&mut self, line: &Line, instruction: &Instruction) {
        let mut texts: Vec<&str> = Vec::new();
        match instruction {
            Instruction::Env(pairs) | Instruction::Label(pairs) => {
                texts.extend(pairs.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
            }
            Instruction::Copy(transfer) => {
                let flags = ["chown", "chmod", "checksum"];
                texts.extend(flags.iter().filter_map(|flag| transfer.flags.get(flag)));
                texts.extend(transfer.sources.iter().chain([&transfer.target]).map(String::as_str));
            }
            Instruction::Run { flags, .. } => texts.extend(flags.all("mount")),
            Instruction::Workdir(text) | Instruction::User(text) | Instruction::StopSignal(text) => {
                texts.push(text);
            }
            Instruction::Volume(paths) => texts.extend(paths.iter().map(String::as_str)),
            _ => {}
        }
        for text in texts {
            self.expanded(line, text, false);
        }
        if let Instruction::Copy(transfer) = instruction {
            for document in transfer.heredocs.iter().filter(|document| document.expand) {
                self.expanded(line, &document.content, true);
            }
        }
    }

    fn declare(&mut self, line: &Line, declared: &[(String, Option<String>)]) {
        let (given, global) = (&self.walk.request.arguments, &self.walk.graph.global);
        for (name, default) in declared {
            self.secret(line, "ARG", name);
            let default = default.as_deref().filter(|_| !given.contains_key(name));
            let default = default.and_then(|text| self.expanded(line, text, false));
            self.state.arguments.declare(name, default, given, global);
        }
    }

    fn secret(&mut self, line: &Line, instruction: &str, name: &str) {
        if secret::is_secret(name) {
            let detail =
                format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
            self.findings.note_for(&rule::SECRETS_USED_IN_ARG_OR_ENV, line, &detail);
        }
    }

    /// `ENV name value`.
    fn legacy(&mut self, line: &Line) {
        let word = form::word(line);
        let rest = line.text.strip_prefix(word).unwrap_or_default();
        let first = words(rest, self.walk.graph.escape).into_iter().next().unwrap_or_default();
        if !first.contains('=') {
            let detail =
                format!("\"{word} key=value\" should be used instead of legacy \"{word} key value\" format");
            self.findings.note_for(&rule::LEGACY_KEY_VALUE_FORMAT, line, &detail);
        }
    }

    /// An absolute one makes those after it sound.
    fn workdir(&mut self, line: &Line, path: &str) {
        let path = self.state.scope(self.walk).expand(path).unwrap_or_default();
        if !self.state.has_workdir && !path.starts_with('/') {
            let detail =
                format!("Relative workdir {path:?} can have unexpected results if the base image changes");
            self.findings.note_for(&rule::WORKDIR_RELATIVE_PATH, line, &detail);
        }
        self.state.has_workdir = true;
    }

    fn expose(&mut self, line: &Line, ports: &[String]) {
        let texts = self.state.scope(self.walk).expand_all(ports).unwrap_or_default();
        for port in texts.iter().flat_map(|text| text.split_whitespace()) {
            expose::check(self.findings, line, port);
        }
    }

    /// What `.dockerignore` takes back again is not followed.
    fn copy(&mut self, line: &Line, transfer: &Transfer) {
        let ignore = &self.walk.ignore;
        if ignore.is_empty() || ignore.may_keep_inside() || transfer.flags.get("from").is_some() {
            return;
        }
        let sources = self.state.scope(self.walk).expand_all(&transfer.sources);
        let command = if transfer.add { "Add" } else { "Copy" };
        let is_remote =
            |text: &String| ["http://", "https://", "git@", "<<"].iter().any(|start| text.starts_with(start));
        for source in sources.unwrap_or_default().iter().filter(|source| !is_remote(source)) {
            let path = TreePath::clean(source.as_bytes());
            let hidden = if path.is_root() { ignore.hides_everything() } else { ignore.hides(&path) };
            if hidden {
                let shown = if path.is_root() { ".".to_owned() } else { relative(source) };
                let detail =
                    format!("Attempting to {command} file {shown:?} that is excluded by .dockerignore");
                self.findings.note_for(&rule::COPY_IGNORED_FILE, line, &detail);
            }
        }
    }

    fn command(&mut self, line: &Line, name: &'static str, command: &Command) {
        self.once(line, name);
        if matches!(command, Command::Shell(_)) && !self.state.draft.has_shell() {
            let detail = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                form::word(line)
            );
            self.findings.note_for(&rule::JSON_ARGS_RECOMMENDED, line, &detail);
        }
    }

    /// The earlier one is in vain, so that is where it is told.
    fn once(&mut self, line: &Line, name: &'static str) {
        if let Some(earlier) = self.said.insert(name, (line.number, line.last)) {
            let detail = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                form::word(line)
            );
            let rule = &rule::MULTIPLE_INSTRUCTIONS_DISALLOWED;
            self.findings.note_under(rule, &line.comments, earlier, &detail);
        }
    }
}

/// Without `.` and double slashes; a slash at the front stays.
fn relative(source: &str) -> String {
    let clean = TreePath::clean(source.as_bytes()).to_string();
    match source.starts_with('/') {
        true => clean,
        false => clean.trim_start_matches('/').to_owned(),
    }
}
