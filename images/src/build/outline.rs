//! What a Dockerfile can be asked for without building it: its stages, and what one of them takes from the command line.

use crate::build::Build;
use crate::build::check::noted::Noted;
use crate::build::expand::expand;
use crate::build::instruction::{Instruction, Located, parse};
use crate::build::source::{Line, read};
use crate::build::stages::Stage;
use crate::build::step_mount::{Kind, StepMount};
use std::collections::{BTreeMap, BTreeSet};

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Empty where it has none.
    pub name: String,
    /// What the comment before it says.
    pub description: String,
    /// The image or stage that it begins with, as it is written.
    pub base: String,
    /// `FROM --platform`, as it is written.
    pub platform: String,
    /// It is built where none is asked for.
    pub is_default: bool,
    /// Its first line and its last.
    pub lines: (usize, usize),
}

/// Something that the command line can give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    #[allow(missing_docs)]
    pub name: String,
    /// Of an argument: what it is worth if nobody says.
    pub value: String,
    /// Of an argument: what the comment before it says.
    pub description: String,
    /// Of a secret or an agent: the build fails without.
    pub required: bool,
    /// Where it is asked for.
    pub lines: (usize, usize),
}

/// What a stage takes, and those that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Of the stage.
    pub name: String,
    /// What the comment before it says.
    pub description: String,
    /// `--build-arg`.
    pub arguments: Vec<Taken>,
    /// `--secret`.
    pub secrets: Vec<Taken>,
    /// `--ssh`.
    pub agents: Vec<Taken>,
}

impl Build {
    /// The stages in the order of the file.
    pub fn targets(&self) -> Vec<Target> {
        let lines = self.lines();
        let last = self.graph.stages.len() - 1;
        let target = |(index, stage): (usize, &Stage)| {
            let Instruction::From { image, platform, name } = &stage.from.instruction else { return None };
            let name = name.clone().unwrap_or_default();
            Some(Target {
                description: described(lines.get(&stage.from.first), &name),
                name,
                base: image.clone(),
                platform: platform.clone().unwrap_or_default(),
                is_default: index == last,
                lines: (stage.from.first, stage.from.last),
            })
        };
        self.graph.stages.iter().enumerate().filter_map(target).collect()
    }

    /// What the target takes.
    pub fn outline(&self) -> Outline {
        let mut lister = Lister { build: self, lines: self.lines(), found: Found::default() };
        let before = lister.before_first_stage();
        // What the target says of an argument counts more than what those say that it needs.
        let needed = self.graph.needed();
        let others = needed.iter().rev().filter(|index| **index != self.graph.target);
        for stage in [&self.graph.target].into_iter().chain(others) {
            self.graph.stages.get(*stage).into_iter().for_each(|stage| lister.stage(stage, &before));
        }
        let target = self.targets().into_iter().nth(self.graph.target);
        let sorted = |found: BTreeMap<String, Taken>| {
            let mut found: Vec<Taken> = found.into_values().collect();
            found.sort_by_key(|taken| taken.lines);
            found
        };
        Outline {
            name: target.as_ref().map(|target| target.name.clone()).unwrap_or_default(),
            description: target.map(|target| target.description).unwrap_or_default(),
            arguments: sorted(lister.found.arguments),
            secrets: sorted(lister.found.secrets),
            agents: sorted(lister.found.agents),
        }
    }

    fn lines(&self) -> BTreeMap<usize, Line> {
        let source = read(&self.request.dockerfile).map(|source| source.lines).unwrap_or_default();
        source.into_iter().map(|line| (line.number, line)).collect()
    }
}

/// `# NAME words`.
fn described(line: Option<&Line>, name: &str) -> String {
    let comments = line.into_iter().flat_map(|line| &line.comments);
    let mut said = comments.filter_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '));
    said.next().filter(|_| !name.is_empty()).unwrap_or_default().to_owned()
}

#[derive(Default)]
struct Found {
    arguments: BTreeMap<String, Taken>,
    secrets: BTreeMap<String, Taken>,
    agents: BTreeMap<String, Taken>,
}

/// An argument before the first FROM, and which others its value needs.
struct Global {
    taken: Taken,
    needs: BTreeSet<String>,
}

struct Lister<'a> {
    build: &'a Build,
    lines: BTreeMap<usize, Line>,
    found: Found,
}

impl Lister<'_> {
    fn expanded(&self, text: &str, values: &BTreeMap<String, String>) -> (String, BTreeSet<String>) {
        let noted = Noted::new(values);
        let value = expand(text, self.build.graph.escape, &noted).unwrap_or_default();
        (value, noted.found().into_iter().chain(noted.missing()).collect())
    }

    fn before_first_stage(&self) -> BTreeMap<String, Global> {
        let mut globals = BTreeMap::new();
        let located = self.lines.values().map_while(|line| parse(line, self.build.graph.escape).ok());
        for one in located {
            let Instruction::Arg(declared) = &one.instruction else { break };
            for (name, default) in declared {
                let value = self.build.graph.global.get(name).cloned().unwrap_or_default();
                let (_, needs) =
                    self.expanded(default.as_deref().unwrap_or_default(), &self.build.graph.global);
                globals.insert(name.clone(), Global { taken: self.taken(name, value, &one), needs });
            }
        }
        globals
    }

    fn taken(&self, name: &str, value: String, at: &Located) -> Taken {
        let description = described(self.lines.get(&at.first), name);
        Taken { name: name.to_owned(), value, description, required: false, lines: (at.first, at.last) }
    }

    fn stage(&mut self, stage: &Stage, globals: &BTreeMap<String, Global>) {
        if let Instruction::From { image, platform, .. } = &stage.from.instruction {
            let text = format!("{image} {}", platform.as_deref().unwrap_or_default());
            for name in self.expanded(&text, &self.build.graph.global).1 {
                self.global(&name, globals);
            }
        }
        let mut values = BTreeMap::new();
        for step in &stage.steps {
            match &step.instruction {
                Instruction::Arg(declared) => self.declared(step, declared, &mut values, globals),
                Instruction::Run { flags, .. } => {
                    let mounts: Vec<&str> = flags.all("mount").collect();
                    mounts.into_iter().for_each(|text| self.mount(step, text));
                }
                _ => {}
            }
        }
    }

    fn global(&mut self, name: &str, globals: &BTreeMap<String, Global>) {
        if self.found.arguments.contains_key(name) {
            return;
        }
        let Some(global) = globals.get(name) else { return };
        self.found.arguments.insert(name.to_owned(), global.taken.clone());
        global.needs.iter().for_each(|need| self.global(need, globals));
    }

    fn declared(
        &mut self,
        step: &Located,
        declared: &[(String, Option<String>)],
        values: &mut BTreeMap<String, String>,
        globals: &BTreeMap<String, Global>,
    ) {
        for (name, default) in declared {
            let given = self.build.request.arguments.get(name);
            let inherited = self.build.graph.global.get(name);
            let value = match (given, default, inherited) {
                (Some(given), ..) => given.clone(),
                (None, Some(default), _) => self.expanded(default, values).0,
                (None, None, Some(inherited)) => {
                    values.insert(name.clone(), inherited.clone());
                    self.global(name, globals);
                    continue;
                }
                (None, None, None) => String::new(),
            };
            values.insert(name.clone(), value.clone());
            let taken = self.taken(name, value, step);
            self.found.arguments.entry(name.clone()).or_insert(taken);
        }
    }

    fn mount(&mut self, step: &Located, text: &str) {
        let Ok(mount) = StepMount::parse(text) else { return };
        let required = mount.required;
        let base = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
        let (found, name) = match mount.kind {
            Kind::Secret => {
                let name = mount.id.or_else(|| mount.target.as_ref().map(base));
                (&mut self.found.secrets, name.unwrap_or_default())
            }
            Kind::Ssh => (&mut self.found.agents, mount.id.unwrap_or_else(|| "default".to_owned())),
            _ => return,
        };
        let lines = (step.first, step.last);
        let (value, description) = (String::new(), String::new());
        found.entry(name.clone()).or_insert(Taken { name, value, description, required, lines });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::BuildRequest;

    const TEXT: &str = "# base of all\nARG base=known\nARG tag=1\nARG unused\n# first the first\nFROM $base:$tag AS first\n\
        # a says what\nARG a=x\nARG b=${a}y c\nARG tag\nFROM scratch AS other\nARG d\nFROM --platform=$BUILDPLATFORM first\n\
        RUN --mount=type=secret,id=s,required=true --mount=type=ssh true\nRUN --mount=type=secret,target=/a/t true\n";

    fn plan(target: Option<&str>) -> Build {
        let (dockerfile, file) = (TEXT.to_owned(), "Dockerfile".to_owned());
        let target = target.map(str::to_owned);
        Build::plan(BuildRequest { dockerfile, file, target, ..BuildRequest::default() }).unwrap()
    }

    #[test]
    fn what_the_target_takes() {
        let outline = plan(None).outline();
        let arguments: Vec<(&str, &str, &str)> = outline
            .arguments
            .iter()
            .map(|taken| (taken.name.as_str(), taken.value.as_str(), taken.description.as_str()))
            .collect();
        let expected = [
            ("base", "known", "of all"),
            ("tag", "1", ""),
            ("a", "x", "says what"),
            ("b", "xy", ""),
            ("c", "", ""),
        ];
        assert_eq!(arguments, expected);
        let secrets: Vec<(&str, bool)> =
            outline.secrets.iter().map(|taken| (taken.name.as_str(), taken.required)).collect();
        assert_eq!(secrets, [("s", true), ("t", false)]);
        assert_eq!((outline.agents[0].name.as_str(), outline.agents[0].lines), ("default", (14, 14)));
        assert_eq!(plan(Some("other")).outline().arguments[0].name, "d");
    }

    #[test]
    fn what_can_be_built() {
        let targets = plan(None).targets();
        let told: Vec<(&str, &str, &str, bool)> = targets
            .iter()
            .map(|one| (one.name.as_str(), one.description.as_str(), one.base.as_str(), one.is_default))
            .collect();
        let expected = [
            ("first", "the first", "$base:$tag", false),
            ("other", "", "scratch", false),
            ("", "", "first", true),
        ];
        assert_eq!(told, expected);
    }
}
