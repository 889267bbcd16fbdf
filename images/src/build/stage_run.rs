//! One stage, instruction by instruction. Those that only describe change the draft; those that change files go
//! through the cache.

use crate::build::cache::Outcome;
use crate::build::config::Draft;
use crate::build::copy::{Copier, Look};
use crate::build::describe::{Words, describe};
use crate::build::instruction::{Command, Instruction, Located, parse};
use crate::build::job::{Job, Step};
use crate::build::scope::{Arguments, Scope};
use crate::build::source::read;
use crate::build::stages::{Base, Stage};
use crate::build::tree::field;
use crate::build::workspace::{Workspace, with_workspace};
use crate::build::{copy_step, owner, platform_text, run_step};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::layer::entry::TreePath;
use serde_json::json;

/// A stage at work.
pub(crate) struct StageRun<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) index: usize,
    stage: &'a Stage,
    pub(crate) draft: Draft,
    pub(crate) arguments: Arguments,
    /// Which of the stage's shown steps is next, and how many there are.
    shown: usize,
    total: usize,
}

/// Steps that are shown.
fn is_shown(step: &Located) -> bool {
    matches!(step.instruction, Instruction::Run { .. } | Instruction::Copy(_) | Instruction::Workdir(_))
}

impl<'a> StageRun<'a> {
    /// Begins a stage as soon as its base is there.
    pub(crate) fn new(job: &'a Job<'a>, index: usize) -> Result<Self> {
        let graph = &job.build.graph;
        let stage = graph.stages.get(index).ok_or_else(|| Error::invalid("no such stage"))?;
        let named = |error: Error| error.at(stage.from.first);
        let (draft, arguments) = match &stage.base {
            Base::Scratch => {
                let own = stage.platform.as_deref().map(crate::platform::Platform::parse).transpose();
                let own = own.map_err(named)?;
                let platform = own.as_ref().unwrap_or(&job.build.platform);
                (Draft::scratch(platform), Arguments::default())
            }
            Base::Stage(base) => {
                let (draft, arguments) = job.wait_for_whole(*base)?;
                (Draft::of_stage(&draft), arguments)
            }
            Base::Image(name) => {
                (job.image(name, stage.platform.as_ref()).map_err(named)?, Arguments::default())
            }
        };
        let triggers = draft.triggers().len();
        let total = stage.steps.iter().filter(|step| is_shown(step)).count() + triggers + 1;
        let run = Self { job, index, stage, draft, arguments, shown: 1, total };
        run.check_platform().map_err(named)?;
        let step = job.begin(run.title(&format!("FROM {}", run.base_name())));
        step.done();
        Ok(run)
    }

    fn base_name(&self) -> String {
        match &self.stage.base {
            Base::Scratch => "scratch".to_owned(),
            Base::Image(name) => name.clone(),
            Base::Stage(index) => {
                let name = self.job.build.graph.stages.get(*index).and_then(|stage| stage.name.clone());
                name.unwrap_or_else(|| index.to_string())
            }
        }
    }

    /// An image for another machine would only fail at its first RUN, and not say why.
    fn check_platform(&self) -> Result<()> {
        let (os, architecture) = self.draft.platform();
        let wanted = match &self.stage.platform {
            Some(text) => crate::platform::Platform::parse(text)?,
            None => self.job.build.platform.clone(),
        };
        if architecture.is_empty() || (os == wanted.os && architecture == wanted.architecture) {
            return Ok(());
        }
        let (name, wanted) = (self.base_name(), platform_text(&wanted));
        Err(Error::invalid(format!("{name}: the image here is for {os}/{architecture}, not for {wanted}")))
    }

    /// `[builder 2/4] RUN make`
    fn title(&self, text: &str) -> String {
        let graph = &self.job.build.graph;
        let name = match &self.stage.name {
            Some(name) => format!("{name} "),
            None if graph.stages.len() > 1 => format!("stage-{} ", self.index),
            None => String::new(),
        };
        let first_line: String = text.chars().take(200).collect();
        format!("[{name}{}/{}] {first_line}", self.shown, self.total)
    }

    /// All instructions, those that the base image left for its children first.
    pub(crate) fn run(mut self) -> Result<(Draft, Arguments)> {
        for text in self.draft.take_triggers() {
            let line = self.stage.from.first;
            let at = |error: Error| error.context(format_args!("ONBUILD {text}")).at(line);
            for trigger in read(&text).map_err(at)?.lines {
                let trigger = parse(&trigger, '\\').map_err(at)?;
                self.step(&Located { first: line, last: line, ..trigger })?;
            }
        }
        let stage = self.stage;
        stage.steps.iter().try_for_each(|step| self.step(step))?;
        Ok((self.draft, self.arguments))
    }

    fn step(&mut self, located: &Located) -> Result<()> {
        self.job.check()?;
        let at = |error: Error| error.at(located.first);
        if !is_shown(located) {
            return self.describe(&located.instruction, &located.text).map_err(at);
        }
        self.shown += 1;
        let step = self.job.begin(self.title(&located.text));
        let done = match &located.instruction {
            Instruction::Run { flags, command, heredocs } => {
                run_step::run(self, &step, (flags, command, heredocs))
            }
            Instruction::Copy(transfer) => copy_step::run(self, &step, transfer, &located.text),
            Instruction::Workdir(path) => self.workdir(&step, path),
            _ => Ok(()),
        };
        done.map_err(|error| {
            step.failed(&error);
            at(error)
        })
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        let given = &self.job.build.request.arguments;
        Scope { draft: &self.draft, arguments: &self.arguments, given, escape: self.job.build.graph.escape }
    }

    /// Instructions that change no file.
    fn describe(&mut self, instruction: &Instruction, text: &str) -> Result<()> {
        if let Instruction::Arg(declared) = instruction {
            return self.declare(declared, text);
        }
        let (given, escape) = (&self.job.build.request.arguments, self.job.build.graph.escape);
        describe(&mut self.draft, &Words { arguments: &self.arguments, given, escape }, instruction)?;
        self.draft.remember(text, false);
        Ok(())
    }

    fn declare(&mut self, declared: &[(String, Option<String>)], text: &str) -> Result<()> {
        for (name, default) in declared {
            let (given, global) = (&self.job.build.request.arguments, &self.job.build.graph.global);
            let name = self.scope().expand(name)?;
            // A default that is not needed may be one that cannot be had.
            let default = default.as_deref().filter(|_| !given.contains_key(&name));
            let default = default.map(|text| self.scope().expand(text)).transpose()?;
            self.arguments.declare(&name, default, given, global);
        }
        self.draft.remember(text, false);
        Ok(())
    }

    /// A path as the image's processes would take it.
    pub(crate) fn absolute(&self, path: &str) -> TreePath {
        TreePath::clean(self.draft.workdir().as_bytes()).join(path.as_bytes())
    }

    fn workdir(&mut self, step: &Step<'_>, path: &str) -> Result<()> {
        let path = self.absolute(&self.scope().expand(path)?);
        let key = self.key("WORKDIR", &[path.as_bytes(), self.draft.user().as_bytes()]);
        let text = format!("WORKDIR {path}");
        self.draft.set("WorkingDir", json!(path.to_string()));
        let user = self.draft.user().to_owned();
        self.layered(step, &[key], &text, |workspace| {
            // Whoever works there owns what is made for it.
            let named = || owner::resolve_or_root(&user, &workspace.tree()?);
            let owner = if user.is_empty() { None } else { Some(named()?) };
            let mut copier = Copier::new(&workspace.root(), Look { owner, ..Look::default() })?;
            copier.make_dir(&path)?;
            copier.finish()
        })
    }

    /// The key of a step on the layers so far.
    pub(crate) fn key(&self, kind: &str, fields: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::default();
        let top = self.draft.top().map_or("scratch", |chain| chain.as_str());
        let clamp = format!("{:?}", self.job.build.request.source_date_epoch);
        for bytes in [b"2", kind.as_bytes(), top.as_bytes(), clamp.as_bytes()]
            .into_iter()
            .chain(fields.iter().copied())
        {
            field(&mut hasher, bytes);
        }
        hasher.finish()
    }

    /// A step that changes files: known by one of its keys, or executed and remembered under all of them.
    pub(crate) fn layered(
        &mut self,
        step: &Step<'_>,
        keys: &[Digest],
        created_by: &str,
        act: impl FnOnce(&Workspace<'_>) -> Result<()> + Send,
    ) -> Result<()> {
        for key in keys.iter().filter(|_| !self.is_to_be_repeated()) {
            if let Some(outcome) = self.job.cached(key)? {
                step.cached();
                self.apply(&outcome, created_by);
                return Ok(());
            }
        }
        let (job, below) = (self.job, self.draft.layers.last());
        let clamp = job.build.request.source_date_epoch;
        let made = with_workspace(job.parts, self.draft.top(), |workspace| {
            act(workspace)?;
            workspace.commit(below, clamp, &|layer| job.keep_layer(layer))
        })?;
        let outcome = match made {
            None => Outcome { layer: None },
            Some((layer, newest)) => Outcome::of_layer(layer.blob, layer.diff_id, layer.chain_id, newest),
        };
        keys.iter().try_for_each(|key| job.remember(key, &outcome))?;
        step.done();
        self.apply(&outcome, created_by);
        Ok(())
    }

    /// Whether a step with one of these keys would not be executed.
    pub(crate) fn has_done(&self, keys: &[Digest]) -> Result<bool> {
        for key in keys.iter().filter(|_| !self.is_to_be_repeated()) {
            if self.job.cached(key)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `--no-cache-filter` names this stage.
    fn is_to_be_repeated(&self) -> bool {
        let stages = &self.job.build.request.no_cache_stages;
        stages.contains(&self.index.to_string())
            || self.stage.name.as_ref().is_some_and(|name| stages.contains(name))
    }

    fn apply(&mut self, outcome: &Outcome, created_by: &str) {
        if let Some(layer) = &outcome.layer {
            self.draft.push(layer.blob.clone(), layer.diff_id.clone(), layer.newest);
            debug_assert_eq!(self.draft.top(), Some(&layer.chain_id));
        }
        self.draft.remember(created_by, outcome.layer.is_some());
    }

    /// What the history says about a command that was run.
    pub(crate) fn history_of(&self, command: &Command) -> String {
        let arguments = self.arguments.traced();
        let shown: String = arguments.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let count =
            if arguments.is_empty() { String::new() } else { format!("|{} {shown}", arguments.len()) };
        format!("RUN {count}{}", self.draft.argv(command).join(" "))
    }
}
