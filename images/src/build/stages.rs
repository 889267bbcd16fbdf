//! The stages of a Dockerfile, what each one takes from the others, and which of them the result needs.

use crate::build::expand::{Variables, expand};
use crate::build::instruction::{Instruction, Located, parse};
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

    fn fill(mut self, lines: Vec<Located>, arguments: &BTreeMap<String, String>) -> Result<Self> {
        for line in lines {
            let number = line.first;
            match (&line.instruction, self.stages.is_empty()) {
                (Instruction::From { .. }, _) => self.open(line).map_err(|e| e.at(number))?,
                (Instruction::Arg(declared), true) => {
                    self.declare(declared, arguments).map_err(|e| e.at(number))?;
                }
                (_, true) => return Err(Error::invalid("no build stage in current context").at(number)),
                (_, false) => self.add(line).map_err(|e| e.at(number))?,
            }
        }
        if self.stages.is_empty() {
            return Err(Error::invalid("file with no instructions").at(1));
        }
        Ok(self)
    }

    fn declare(
        &mut self,
        declared: &[(String, Option<String>)],
        arguments: &BTreeMap<String, String>,
    ) -> Result<()> {
        for (name, default) in declared {
            let value = match (arguments.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(expand(default, self.escape, &self.globals())?),
                (None, None) => None,
            };
            self.global.extend(value.map(|value| (name.clone(), value)));
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
        let base = match (self.contexts.get(&image), self.named(&image)) {
            (Some(BuildContext::Image(other)), _) => Base::Image(other.clone()),
            (Some(BuildContext::Directory(_)), _) => {
                return Err(Error::invalid(format!(
                    "{image}: a directory is no base image; it is for --from"
                )));
            }
            (None, Some(stage)) => Base::Stage(stage),
            (None, None) if image == "scratch" => Base::Scratch,
            (None, None) => Base::Image(image),
        };
        let needs = if let Base::Stage(stage) = base { BTreeSet::from([stage]) } else { BTreeSet::new() };
        let (name, platform) = (name.clone(), platform.filter(|text| !text.is_empty()));
        self.stages.push(Stage {
            name,
            base,
            platform,
            from,
            steps: Vec::new(),
            needs,
            images: BTreeSet::new(),
        });
        Ok(())
    }

    /// A stage by its name. The last of several wins, as in Docker.
    fn named(&self, name: &str) -> Option<usize> {
        let wanted = name.to_ascii_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&wanted))
    }

    fn add(&mut self, line: Located) -> Result<()> {
        let current = self.stages.len() - 1;
        let mut origins = Vec::new();
        for from in origins_of(&line.instruction)? {
            origins.push(self.origin(&from, current)?);
        }
        let Some(stage) = self.stages.last_mut() else { return Ok(()) };
        for origin in origins {
            match origin {
                Origin::Stage(index) => drop(stage.needs.insert(index)),
                Origin::Context(_) => {}
                Origin::Image(name) => drop(stage.images.insert(name)),
            }
        }
        stage.steps.push(line);
        Ok(())
    }

    /// What `--from` means in the stage `current`: an earlier stage by name or number, else an image.
    pub(crate) fn origin(&self, from: &str, current: usize) -> Result<Origin> {
        if from.contains('$') {
            return Err(Error::invalid(format!(
                "variable expansion is not supported for --from={from}, define a new stage with FROM using ARG from global scope as a workaround"
            )));
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
                let missing = || Error::invalid(format!("target stage {name:?} could not be found")).at(1);
                self.named(name).or_else(by_number).ok_or_else(missing)?
            }
        };
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

/// Every `--from` and `from=` of an instruction.
pub(crate) fn origins_of(instruction: &Instruction) -> Result<Vec<String>> {
    match instruction {
        Instruction::Copy(copy) => Ok(copy.flags.get("from").map(str::to_owned).into_iter().collect()),
        Instruction::Run { flags, .. } => {
            let mounts = flags.all("mount").map(StepMount::parse).collect::<Result<Vec<_>>>()?;
            Ok(mounts.into_iter().filter_map(|mount| mount.from).collect())
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
    fn names_that_the_command_line_gives() {
        let graph = plan("FROM old\nCOPY --from=old a b\nCOPY --from=files a b\n", None).unwrap();
        assert_eq!(graph.images(), BTreeSet::from([("new:1".to_owned(), None)]));
        assert_eq!(graph.origin("files", 0).unwrap(), Origin::Context("files".to_owned()));
        assert!(plan("FROM files", None).unwrap_err().contains("a directory is no base image"));
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
            ("FROM a\nRUN --mount=type=odd x", "2: "),
        ] {
            let error = plan(text, None).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(plan("FROM a", Some("b")).unwrap_err().contains("target stage \"b\" could not be found"));
    }
}
