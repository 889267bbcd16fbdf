//! The stages of a Dockerfile, what each one takes from the others, and which of them the result needs.

use crate::build::expand::{Variables, expand};
use crate::build::instruction::{Instruction, Located, parse};
use crate::build::near::did_you_mean;
use crate::build::source::read;
use crate::build::step_mount::StepMount;
use crate::build::{BuildContext, BuildRequest};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    Image(String),
}

/// From one FROM to the next.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) name: Option<String>,
    pub(crate) base: Base,
    pub(crate) platform: Option<String>,
    pub(crate) from: Located,
    pub(crate) steps: Vec<Located>,
    /// Stages it begins with or copies from.
    pub(crate) needs: BTreeSet<usize>,
    /// Images it copies from.
    pub(crate) images: BTreeSet<String>,
}

/// A whole Dockerfile, understood.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    pub(crate) escape: char,
    pub(crate) stages: Vec<Stage>,
    /// Arguments before the first FROM with their values: what `ARG NAME` in a stage falls back to.
    pub(crate) global: BTreeMap<String, String>,
    /// `--build-context`.
    contexts: BTreeMap<String, BuildContext>,
    /// The stage that becomes the image.
    pub(crate) target: usize,
}

/// Whatever `--from` can mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Stage(usize),
    /// A directory that was given a name.
    Context(String),
    Image(String),
}

impl Graph {
    /// Understands a Dockerfile. `platform` are the automatic arguments.
    pub(crate) fn plan(
        request: &BuildRequest,
        target: Option<&str>,
        platform: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let source = read(&request.dockerfile)?;
        let lines = source.lines.iter().map(|line| parse(line, source.escape));
        let lines = lines.collect::<Result<Vec<_>>>()?;
        let contexts = request.contexts.clone();
        let graph =
            Self { escape: source.escape, stages: Vec::new(), global: platform.clone(), contexts, target: 0 };
        graph.fill(lines, &request.arguments)?.aim(target)
    }

    fn fill(mut self, located: Vec<Located>, arguments: &BTreeMap<String, String>) -> Result<Self> {
        let lines = located.len();
        for line in located {
            let number = line.first;
            match (&line.instruction, self.stages.is_empty()) {
                (Instruction::From { .. }, _) => self.open(line).map_err(|e| e.at(number))?,
                (Instruction::Arg(declared), true) => {
                    declare(&mut self.global, declared, arguments, self.escape).map_err(|e| e.at(number))?;
                }
                (_, true) => return Err(Error::invalid("no build stage in current context").at(number)),
                (_, false) => self.add(line).map_err(|e| e.at(number))?,
            }
        }
        if self.stages.is_empty() {
            let message = match lines {
                0 => "file with no instructions",
                _ => "dockerfile contains no stages to build",
            };
            return Err(Error::invalid(message).at(1));
        }
        self.refuse_later_stages()?;
        Ok(self)
    }

    /// A stage takes files from those before it: a name that only a later one has is a mistake, and no image.
    fn refuse_later_stages(&self) -> Result<()> {
        for (current, stage) in self.stages.iter().enumerate() {
            for step in &stage.steps {
                for from in origins_of(&step.instruction)? {
                    let is_image = self.origin(&from, current)? == Origin::Image(from.clone());
                    if is_image && self.named(&from).is_some_and(|later| later > current) {
                        let own = stage.name.clone().unwrap_or_else(|| current.to_string());
                        let message = format!(
                            "cannot copy from stage {from:?}, it needs to be defined before current stage {own:?}"
                        );
                        return Err(Error::invalid(message).at(step.first));
                    }
                }
            }
        }
        Ok(())
    }

    fn globals(&self) -> impl Variables + use<> {
        let global = self.global.clone();
        move |name: &str| global.get(name).cloned()
    }

    fn open(&mut self, from: Located) -> Result<()> {
        let Instruction::From { image, platform, name } = &from.instruction else { return Ok(()) };
        let globals = self.globals();
        let image = expand(image, self.escape, &globals)?;
        if image.is_empty() {
            return Err(Error::invalid("base name should not be blank"));
        }
        let platform = platform.as_deref().map(|text| expand(text, self.escape, &globals)).transpose()?;
        let mut steps = Vec::new();
        let base = match (self.contexts.get(&image), self.named(&image)) {
            (Some(BuildContext::Image(other)), _) if other == "scratch" => Base::Scratch,
            (Some(BuildContext::Image(other)), _) => Base::Image(other.clone()),
            // The directory is the whole file system.
            (Some(BuildContext::Directory(_)), _) => {
                let text = format!("COPY --from={image} / /");
                for line in read(&text)?.lines {
                    let copy = parse(&line, self.escape)?;
                    steps.push(Located { first: from.first, last: from.last, ..copy });
                }
                Base::Scratch
            }
            (None, Some(stage)) => Base::Stage(stage),
            (None, None) if image == "scratch" => Base::Scratch,
            (None, None) => Base::Image(image),
        };
        let (needs, triggers) = match base {
            Base::Stage(stage) => (BTreeSet::from([stage]), self.triggers_of(stage)),
            _ => (BTreeSet::new(), Vec::new()),
        };
        let (name, platform) = (name.clone(), platform.filter(|text| !text.is_empty()));
        let images = BTreeSet::new();
        self.stages.push(Stage { name, base, platform, from, steps, needs, images });
        self.foresee(self.stages.len() - 1, &triggers)
    }

    /// What a stage of this file leaves for those that begin with it.
    fn triggers_of(&self, stage: usize) -> Vec<String> {
        let steps = self.stages.get(stage).into_iter().flat_map(|stage| &stage.steps);
        let trigger = |step: &Located| match &step.instruction {
            Instruction::OnBuild(text) => Some(text.clone()),
            _ => None,
        };
        steps.filter_map(trigger).collect()
    }

    /// Takes note of what the triggers of a stage's base will copy from.
    fn foresee(&mut self, current: usize, triggers: &[String]) -> Result<()> {
        for text in triggers {
            for line in read(text)?.lines {
                let trigger = parse(&line, '\\')?;
                self.note_origins(current, &trigger.instruction)?;
            }
        }
        Ok(())
    }

    /// The same for every stage that begins with this image.
    pub(crate) fn inherit(&mut self, image: &str, triggers: &[String]) -> Result<()> {
        for index in 0..self.stages.len() {
            let stage = self.stages.get(index);
            let (begins, line) = stage
                .map_or((false, 1), |stage| (stage.base == Base::Image(image.to_owned()), stage.from.first));
            if begins {
                self.foresee(index, triggers).map_err(|error| error.at(line))?;
            }
        }
        Ok(())
    }

    /// A stage by its name. The last of several wins, as in Docker.
    fn named(&self, name: &str) -> Option<usize> {
        let wanted = name.to_ascii_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&wanted))
    }

    fn add(&mut self, line: Located) -> Result<()> {
        self.note_origins(self.stages.len() - 1, &line.instruction)?;
        self.stages.last_mut().into_iter().for_each(|stage| stage.steps.push(line.clone()));
        Ok(())
    }

    /// Takes note of the stages and images that an instruction of a stage copies from.
    fn note_origins(&mut self, current: usize, instruction: &Instruction) -> Result<()> {
        for from in origins_of(instruction)? {
            let origin = self.origin(&from, current)?;
            let Some(stage) = self.stages.get_mut(current) else { return Ok(()) };
            match origin {
                Origin::Stage(index) => drop(stage.needs.insert(index)),
                Origin::Context(_) => {}
                Origin::Image(name) => drop(stage.images.insert(name)),
            }
        }
        Ok(())
    }

    /// What `--from` means in the stage `current`: an earlier stage by name or number, else an image.
    pub(crate) fn origin(&self, from: &str, current: usize) -> Result<Origin> {
        if from.contains('$') {
            return Err(Error::invalid(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
            ));
        }
        match self.contexts.get(from) {
            Some(BuildContext::Image(other)) => return Ok(Origin::Image(other.clone())),
            Some(BuildContext::Directory(_)) => return Ok(Origin::Context(from.to_owned())),
            None => {}
        }
        let wanted = from.to_ascii_lowercase();
        let before = self.stages.iter().take(current);
        if let Some(index) = before.clone().rposition(|stage| stage.name.as_ref() == Some(&wanted)) {
            return Ok(Origin::Stage(index));
        }
        match from.parse::<usize>() {
            Ok(index) if index < current => Ok(Origin::Stage(index)),
            Ok(index) => Err(Error::invalid(format!("invalid stage index {index}: no such earlier stage"))),
            Err(_) if self.stages.get(current).and_then(|stage| stage.name.as_ref()) == Some(&wanted) => {
                Err(Error::invalid(format!("circular dependency detected on stage: {from}")))
            }
            Err(_) => Ok(Origin::Image(from.to_owned())),
        }
    }

    fn aim(mut self, target: Option<&str>) -> Result<Self> {
        let last = self.stages.len() - 1;
        self.target = match target {
            None => last,
            Some(name) => {
                let by_number = || name.parse::<usize>().ok().filter(|index| *index <= last);
                let missing = || {
                    let names = self.stages.iter().filter_map(|stage| stage.name.as_deref());
                    let hint = did_you_mean(&name.to_ascii_lowercase(), names);
                    Error::invalid(format!("target stage {name:?} could not be found{hint}")).at(1)
                };
                self.named(name).or_else(by_number).ok_or_else(missing)?
            }
        };
        let name = self.stages.get(self.target).and_then(|stage| stage.name.clone());
        self.global.insert("TARGETSTAGE".to_owned(), name.unwrap_or_else(|| "default".to_owned()));
        Ok(self)
    }

    /// The stages that the target needs, itself included, in the order of the file.
    pub(crate) fn needed(&self) -> BTreeSet<usize> {
        let mut needed = BTreeSet::new();
        let mut pending = vec![self.target];
        while let Some(index) = pending.pop() {
            if needed.insert(index) {
                pending
                    .extend(self.stages.get(index).into_iter().flat_map(|stage| stage.needs.iter().copied()));
            }
        }
        needed
    }

    /// Images that must be here before the build can begin: name, and the platform that was asked for.
    pub(crate) fn images(&self) -> BTreeSet<(String, Option<String>)> {
        let mut images = BTreeSet::new();
        for stage in self.needed().into_iter().filter_map(|index| self.stages.get(index)) {
            if let Base::Image(name) = &stage.base {
                images.insert((name.clone(), stage.platform.clone()));
            }
            images.extend(stage.images.iter().map(|name| (name.clone(), None)));
        }
        images
    }
}

/// Arguments before the first FROM.
pub(crate) fn declare(
    global: &mut BTreeMap<String, String>,
    declared: &[(String, Option<String>)],
    given: &BTreeMap<String, String>,
    escape: char,
) -> Result<()> {
    for (name, default) in declared {
        let value = match (given.get(name), default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(expand(default, escape, &|name: &str| global.get(name).cloned())?),
            (None, None) => None,
        };
        global.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(())
}

/// Every `--from` and `from=` of an instruction.
pub(crate) fn origins_of(instruction: &Instruction) -> Result<Vec<String>> {
    match instruction {
        Instruction::Copy(copy) => Ok(copy.flags.get("from").map(str::to_owned).into_iter().collect()),
        Instruction::Run { flags, .. } => {
            let mounts = flags.all("mount").map(StepMount::origin).collect::<Result<Vec<_>>>()?;
            Ok(mounts.into_iter().flatten().collect())
        }
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, target: Option<&str>) -> std::result::Result<Graph, String> {
        let request = BuildRequest {
            dockerfile: text.to_owned(),
            arguments: BTreeMap::from([("V".to_owned(), "2".to_owned())]),
            contexts: BTreeMap::from([
                ("old".to_owned(), BuildContext::Image("new:1".to_owned())),
                ("files".to_owned(), BuildContext::Directory("/".into())),
            ]),
            ..BuildRequest::default()
        };
        Graph::plan(&request, target, &BTreeMap::new()).map_err(|e| e.to_string())
    }

    #[test]
    fn only_what_the_target_needs() {
        let text = "ARG V=1\nARG W=${V}x\nFROM a:$V AS one\nFROM b:$W AS unused\nFROM one AS two\n\
                    COPY --from=img:3 x y\nRUN --mount=type=bind,from=0,target=/m true\nFROM scratch\nCOPY --from=two a b\n";
        let graph = plan(text, None).unwrap();
        assert_eq!(graph.needed(), BTreeSet::from([0, 2, 3]));
        let names: Vec<String> = graph.images().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a:2", "img:3"]);
        assert_eq!(plan(text, Some("UNUSED")).unwrap().images(), BTreeSet::from([("b:2x".to_owned(), None)]));
        assert_eq!(plan(text, Some("0")).unwrap().target, 0);
    }

    #[test]
    fn triggers_are_foreseen() {
        let text = "FROM a AS first\nFROM b AS made\nONBUILD COPY --from=first x y\nFROM made\nFROM img\n";
        let mut graph = plan(text, Some("2")).unwrap();
        assert_eq!(graph.needed(), BTreeSet::from([0, 1, 2]));
        graph.target = 3;
        assert_eq!(graph.needed(), BTreeSet::from([3]));
        let trigger = "RUN --mount=from=made,target=/m <<E\nx\nE".to_owned();
        graph.inherit("img", &[trigger, "COPY --from=other x y".to_owned()]).unwrap();
        assert_eq!(graph.needed(), BTreeSet::from([1, 3]));
        assert!(graph.images().contains(&("other".to_owned(), None)));
    }

    #[test]
    fn names_that_the_command_line_gives() {
        let graph = plan("FROM old\nCOPY --from=old a b\nCOPY --from=files a b\n", None).unwrap();
        assert_eq!(graph.images(), BTreeSet::from([("new:1".to_owned(), None)]));
        assert_eq!(graph.origin("files", 0).unwrap(), Origin::Context("files".to_owned()));
        let whole = plan("FROM files", None).unwrap();
        assert_eq!((&whole.stages[0].base, whole.stages[0].steps.len()), (&Base::Scratch, 1));
    }

    #[test]
    fn what_cannot_be() {
        for (text, words) in [
            ("", "1: file with no instructions"),
            ("RUN x", "1: no build stage in current context"),
            ("FROM a\n\nCOPY --from=3 a b", "3: invalid stage index 3"),
            ("FROM a AS x\nCOPY --from=x a b", "circular dependency"),
            ("FROM a\nCOPY --from=$x a b", "variable expansion is not supported"),
            ("FROM $nothing", "base name should not be blank"),
            ("ARG a=b", "dockerfile contains no stages to build"),
            (
                "FROM a AS one\nCOPY --from=two a b\nFROM c AS two",
                "2: cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
            ),
            ("FROM a\nRUN --mount=from=$x,target=/y z", "2: 'from' doesn't support variable expansion"),
            ("FROM a\nRUN --mount=type=odd x", "2: "),
        ] {
            let error = plan(text, None).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(plan("FROM a", Some("b")).unwrap_err().contains("target stage \"b\" could not be found"));
    }
}
