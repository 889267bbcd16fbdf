//! Instructions as data: what each line of a Dockerfile says, before variables are replaced (that depends on where in
//! the build it stands).
//!
//! Messages are Docker's own, because people search for them.

use crate::build::expand::words;
use crate::build::flags::Flags;
use crate::build::health::Health;
use crate::build::near::did_you_mean;
use crate::build::source::{Heredoc, Line};
use crate::error::{Error, Result};

/// A command: its words, or a line for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Exec(Vec<String>),
    Shell(String),
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Instruction {
    From { image: String, platform: Option<String>, name: Option<String> },
    Run { flags: Flags, command: Command, heredocs: Vec<Heredoc> },
    Copy(Transfer),
    Env(Vec<(String, String)>),
    Arg(Vec<(String, Option<String>)>),
    Workdir(String),
    User(String),
    Label(Vec<(String, String)>),
    Expose(Vec<String>),
    Volume(Vec<String>),
    Entrypoint(Command),
    Cmd(Command),
    Shell(Vec<String>),
    StopSignal(String),
    Health(Health),
    OnBuild(String),
    Maintainer(String),
}

/// COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// ADD: archives are unpacked.
    pub(crate) add: bool,
    pub(crate) flags: Flags,
    pub(crate) sources: Vec<String>,
    pub(crate) target: String,
    pub(crate) heredocs: Vec<Heredoc>,
}

/// An instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) instruction: Instruction,
    /// As it was written, continuations joined.
    pub(crate) text: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Understands one line.
pub(crate) fn parse(line: &Line, escape: char) -> Result<Located> {
    let instruction = of_text(&line.text, line.heredocs.clone(), escape).map_err(|e| e.at(line.number))?;
    Ok(Located { instruction, text: line.text.clone(), first: line.number, last: line.last })
}

fn of_text(text: &str, heredocs: Vec<Heredoc>, escape: char) -> Result<Instruction> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (name, rest) = (word.to_ascii_uppercase(), rest.trim());
    if !NAMES.contains(&name.as_str()) {
        return Err(Error::invalid(unknown(word, &name)));
    }
    if rest.is_empty() {
        return Err(Error::invalid(missing(&name)));
    }
    let parser = Parser { name: &name, escape };
    match name.as_str() {
        "FROM" => parser.from(rest),
        "RUN" => parser.run(rest, heredocs),
        "COPY" | "ADD" => parser.transfer(rest, heredocs).map(Instruction::Copy),
        "ENV" => parser.pairs(rest).map(Instruction::Env),
        "LABEL" => parser.pairs(rest).map(Instruction::Label),
        "ARG" => parser.arguments(rest),
        "ONBUILD" => parser.on_build(rest, &heredocs),
        "HEALTHCHECK" => Health::parse(rest, escape).map(Instruction::Health),
        "SHELL" => match command(rest) {
            Command::Exec(shell) if !shell.is_empty() => Ok(Instruction::Shell(shell)),
            _ => Err(Error::invalid("SHELL requires the arguments to be in JSON form")),
        },
        _ => Ok(parser.simple(rest)),
    }
}

fn missing(name: &str) -> String {
    match name {
        "FROM" => "FROM requires either one or three arguments".to_owned(),
        "COPY" | "ADD" => format!("{name} requires at least two arguments, but only 0 were provided"),
        "ENV" => "ENV must have two arguments".to_owned(),
        "WORKDIR" | "USER" | "STOPSIGNAL" | "MAINTAINER" => format!("{name} requires exactly one argument"),
        _ => format!("{name} requires at least one argument"),
    }
}

fn unknown(word: &str, name: &str) -> String {
    let hint = did_you_mean(name, NAMES.into_iter());
    let word: String = word.chars().take(40).collect();
    format!("unknown instruction: {word}{hint}")
}

/// The exec form is a JSON array of strings; whatever is none is a line for the shell.
pub(crate) fn command(text: &str) -> Command {
    if text.starts_with('[')
        && let Ok(words) = serde_json::from_str(text)
    {
        return Command::Exec(words);
    }
    Command::Shell(text.to_owned())
}

struct Parser<'a> {
    name: &'a str,
    escape: char,
}

impl Parser<'_> {
    fn from(&self, text: &str) -> Result<Instruction> {
        let (flags, rest) = Flags::take(text, self.escape);
        flags.only(&["platform"])?;
        let platform = flags.get("platform").map(str::to_owned);
        let words = words(rest, self.escape);
        match &words[..] {
            [image] => Ok(Instruction::From { image: image.clone(), platform, name: None }),
            [image, word, name] if word.eq_ignore_ascii_case("AS") => {
                let name = name.to_ascii_lowercase();
                check_stage_name(&name)?;
                Ok(Instruction::From { image: image.clone(), platform, name: Some(name) })
            }
            _ => Err(Error::invalid("FROM requires either one or three arguments")),
        }
    }

    fn run(&self, text: &str, heredocs: Vec<Heredoc>) -> Result<Instruction> {
        let (flags, rest) = Flags::take(text, self.escape);
        flags.only(&["mount", "network", "security"])?;
        if rest.is_empty() {
            return Err(Error::invalid("RUN requires at least one argument"));
        }
        Ok(Instruction::Run { flags, command: command(rest), heredocs })
    }

    fn transfer(&self, text: &str, heredocs: Vec<Heredoc>) -> Result<Transfer> {
        let (flags, rest) = Flags::take(text, self.escape);
        let known: &[&str] = match self.name {
            "ADD" => &["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"],
            _ => &["from", "chown", "chmod", "link", "exclude", "parents"],
        };
        flags.only(known)?;
        let mut sources = match command(rest) {
            Command::Exec(words) => words,
            Command::Shell(text) => words(&text, self.escape),
        };
        let target = sources.pop().filter(|_| !sources.is_empty()).ok_or_else(|| {
            let name = self.name;
            let message = "requires at least two arguments, but only one was provided. \
                           Destination could not be determined";
            Error::invalid(format!("{name} {message}"))
        })?;
        Ok(Transfer { add: self.name == "ADD", flags, sources, target, heredocs })
    }

    /// `NAME=value ...`, or the old form `NAME value with spaces`.
    fn pairs(&self, text: &str) -> Result<Vec<(String, String)>> {
        let found = words(text, self.escape);
        let first = found.first().map(String::as_str).unwrap_or_default();
        if !first.contains('=') {
            let value = text.strip_prefix(first).unwrap_or_default().trim_start();
            if value.is_empty() {
                return Err(Error::invalid(format!("{} must have two arguments", self.name)));
            }
            return Ok(vec![(first.to_owned(), value.to_owned())]);
        }
        found.iter().map(|word| self.pair(word)).collect()
    }

    fn pair(&self, word: &str) -> Result<(String, String)> {
        let syntax = || {
            let message = "can't find = in";
            Error::invalid(format!("Syntax error - {message} {word:?}. Must be of the form: name=value"))
        };
        let (name, value) = word.split_once('=').ok_or_else(syntax)?;
        if name.is_empty() {
            return Err(Error::invalid(format!("{} names can not be blank", self.name)));
        }
        Ok((name.to_owned(), value.to_owned()))
    }

    fn arguments(&self, text: &str) -> Result<Instruction> {
        let mut found = Vec::new();
        for word in words(text, self.escape) {
            found.push(match word.contains('=') {
                true => self.pair(&word).map(|(name, value)| (name, Some(value)))?,
                false => (word, None),
            });
        }
        Ok(Instruction::Arg(found))
    }

    fn on_build(&self, text: &str, heredocs: &[Heredoc]) -> Result<Instruction> {
        let trigger = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match trigger.as_str() {
            "ONBUILD" => Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
            "MAINTAINER" | "FROM" => {
                Err(Error::invalid(format!("{trigger} isn't allowed as an ONBUILD trigger")))
            }
            _ => {
                of_text(text, Vec::new(), self.escape)?;
                let mut whole = text.to_owned();
                for heredoc in heredocs {
                    whole.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
                }
                Ok(Instruction::OnBuild(whole))
            }
        }
    }

    /// Instructions with nothing to get wrong.
    fn simple(&self, text: &str) -> Instruction {
        let list = || match command(text) {
            Command::Exec(words) => words,
            Command::Shell(text) => words(&text, self.escape),
        };
        match self.name {
            "WORKDIR" => Instruction::Workdir(text.to_owned()),
            "USER" => Instruction::User(text.to_owned()),
            "EXPOSE" => Instruction::Expose(words(text, self.escape)),
            "VOLUME" => Instruction::Volume(list()),
            "ENTRYPOINT" => Instruction::Entrypoint(command(text)),
            "CMD" => Instruction::Cmd(command(text)),
            "STOPSIGNAL" => Instruction::StopSignal(text.to_owned()),
            _ => Instruction::Maintainer(text.to_owned()),
        }
    }
}

/// Docker's rule, which keeps a number from being a name.
fn check_stage_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(legal) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::source::read;
    use proptest::prelude::*;

    fn one(text: &str) -> std::result::Result<Instruction, String> {
        let source = read(text).map_err(|e| e.to_string())?;
        parse(&source.lines[0], source.escape).map(|found| found.instruction).map_err(|e| e.to_string())
    }

    #[test]
    fn forms() {
        let exec = |words: &[&str]| Command::Exec(words.iter().map(ToString::to_string).collect());
        assert_eq!(one("cmd [\"a\", \"b c\"]"), Ok(Instruction::Cmd(exec(&["a", "b c"]))));
        assert_eq!(one("CMD [a]"), Ok(Instruction::Cmd(Command::Shell("[a]".into()))));
        assert_eq!(one("ENV a b  c"), Ok(Instruction::Env(vec![("a".into(), "b  c".into())])));
        let env = vec![("a".into(), "\"b c\"".into()), ("d".into(), "e\\ f".into())];
        assert_eq!(one("ENV a=\"b c\" d=e\\ f"), Ok(Instruction::Env(env)));
        assert_eq!(
            one("ARG a b=c"),
            Ok(Instruction::Arg(vec![("a".into(), None), ("b".into(), Some("c".into()))]))
        );
        assert_eq!(one("VOLUME [\"/a\", \"/b\"]"), Ok(Instruction::Volume(vec!["/a".into(), "/b".into()])));
        let from =
            Instruction::From { image: "a:1".into(), platform: Some("$P".into()), name: Some("x".into()) };
        assert_eq!(one("FROM --platform=$P a:1 As X"), Ok(from));
        let Ok(Instruction::Copy(copy)) = one("COPY --from=x [\"a b\", \"c\", \"/d/\"]") else {
            panic!("no copy")
        };
        assert_eq!((copy.sources.len(), copy.target.as_str(), copy.flags.get("from")), (2, "/d/", Some("x")));
    }

    #[test]
    fn complaints_are_dockers() {
        for (text, words) in [
            ("FORM a", "1: unknown instruction: FORM (did you mean FROM?)"),
            ("HELLO a", "unknown instruction: HELLO"),
            ("FROM a b", "FROM requires either one or three arguments"),
            ("FROM a AS 1a", "invalid name for build stage"),
            ("RUN", "RUN requires at least one argument"),
            ("COPY a", "COPY requires at least two arguments"),
            ("COPY --nope a b", "unknown flag: --nope"),
            ("ADD --from=a a b", "unknown flag: --from"),
            ("ENV a=b c", "Syntax error - can't find = in \"c\""),
            ("ENV a", "ENV must have two arguments"),
            ("SHELL sh", "SHELL requires the arguments to be in JSON form"),
            ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD"),
            ("ONBUILD FROM a", "FROM isn't allowed as an ONBUILD trigger"),
            ("ONBUILD COPY a", "COPY requires at least two"),
            ("HEALTHCHECK --interval=x CMD a", "--interval"),
        ] {
            let error = one(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_understood_or_refused(
            name in prop::sample::select(&NAMES[..]), rest in "(?s)[ -~\n]{0,80}"
        ) {
            let _ = one(&format!("{name} {rest}"));
        }
    }
}
