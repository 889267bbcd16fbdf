//! A template as a tree: blocks, pipelines, commands.

use super::functions::FUNCTIONS;
use super::words::{Piece, Word, pieces};
use anyhow::{Context, bail};
use serde_json::Value;
use std::iter::Peekable;
use std::vec::IntoIter;

/// How deep blocks and parentheses may be in each other: nobody writes more, and the parser recurses.
const DEPTH: usize = 32;

/// One part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    /// A pipeline that is printed, unless it sets a variable.
    Print(Pipeline),
    Block(Kind, Pipeline, Vec<Part>, Vec<Part>),
    Break,
    Continue,
}

/// What a block does with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    If,
    With,
    Range,
}

/// Commands of which each gets the value of the one before as its last argument.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pipeline {
    /// The variables that take the value; two in a range: key and value.
    pub(super) set: Vec<String>,
    /// They are new ones.
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// What a command is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Literal(Value),
    /// A pipeline in parentheses, and fields of its value.
    Group(Box<Pipeline>, Vec<String>),
}

/// How a block ends.
enum End {
    Text,
    Whole,
    /// With the words behind it: `else if ...`.
    Else(Vec<Word>),
}

/// The whole template.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Part>> {
    let mut parser = Parser { pieces: pieces(text)?.into_iter(), variables: vec![String::new()] };
    match parser.block(0)? {
        (parts, End::Text) => Ok(parts),
        (_, End::Whole) => bail!("template parsing error: unexpected {{{{end}}}}"),
        (_, End::Else(_)) => bail!("template parsing error: unexpected {{{{else}}}}"),
    }
}

struct Parser {
    pieces: IntoIter<Piece>,
    /// Those that are known here.
    variables: Vec<String>,
}

impl Parser {
    fn block(&mut self, depth: usize) -> anyhow::Result<(Vec<Part>, End)> {
        if depth > DEPTH {
            bail!("template parsing error: more than {DEPTH} blocks in each other");
        }
        let known = self.variables.len();
        let mut parts = Vec::new();
        while let Some(piece) = self.pieces.next() {
            match piece {
                Piece::Text(text) => parts.push(Part::Text(text)),
                Piece::Action(words) => match self.action(words, depth)? {
                    Ok(part) => parts.push(part),
                    Err(end) => {
                        self.variables.truncate(known);
                        return Ok((parts, end));
                    }
                },
            }
        }
        Ok((parts, End::Text))
    }

    /// A part, or the end of the block around it.
    fn action(&mut self, words: Vec<Word>, depth: usize) -> anyhow::Result<Result<Part, End>> {
        let mut rest = words.clone();
        let word = match rest.first() {
            Some(Word::Name(_)) => rest.remove(0),
            _ => Word::Pipe,
        };
        let Word::Name(word) = word else { return Ok(Ok(Part::Print(self.pipeline(words)?))) };
        Ok(match word.as_str() {
            "end" => Err(End::Whole),
            "else" => Err(End::Else(rest)),
            "break" => Ok(Part::Break),
            "continue" => Ok(Part::Continue),
            "if" => Ok(self.branches(Kind::If, rest, depth)?),
            "with" => Ok(self.branches(Kind::With, rest, depth)?),
            "range" => Ok(self.branches(Kind::Range, rest, depth)?),
            _ => Ok(Part::Print(self.pipeline(words)?)),
        })
    }

    fn branches(&mut self, kind: Kind, head: Vec<Word>, depth: usize) -> anyhow::Result<Part> {
        let known = self.variables.len();
        let head = self.pipeline(head)?;
        let (inner, end) = self.block(depth + 1)?;
        let otherwise = match end {
            End::Whole => Vec::new(),
            End::Text => bail!("template parsing error: {kind:?} without {{{{end}}}}"),
            End::Else(words) => self.otherwise(words, depth)?,
        };
        self.variables.truncate(known);
        Ok(Part::Block(kind, head, inner, otherwise))
    }

    /// What follows an `else`; behind `else if` stands one `end` for both.
    fn otherwise(&mut self, mut words: Vec<Word>, depth: usize) -> anyhow::Result<Vec<Part>> {
        if words.is_empty() {
            return match self.block(depth + 1)? {
                (parts, End::Whole) => Ok(parts),
                _ => bail!("template parsing error: {{{{else}}}} without {{{{end}}}}"),
            };
        }
        let kind = match words.remove(0) {
            Word::Name(name) if name == "if" => Kind::If,
            Word::Name(name) if name == "with" => Kind::With,
            _ => bail!("template parsing error: unexpected words after {{{{else}}}}"),
        };
        if depth > DEPTH {
            bail!("template parsing error: more than {DEPTH} blocks in each other");
        }
        Ok(vec![self.branches(kind, words, depth + 1)?])
    }

    fn pipeline(&mut self, mut words: Vec<Word>) -> anyhow::Result<Pipeline> {
        let set = words.iter().position(|word| matches!(word, Word::Set(_)));
        let mut rest = words.split_off(set.map_or(0, |at| at + 1)).into_iter().peekable();
        let commands = self.commands(&mut rest, 0)?;
        if rest.next().is_some() {
            bail!("template parsing error: unexpected right paren");
        }
        let declares = words.last() == Some(&Word::Set(true));
        let set = self.targets(&words, declares)?;
        Ok(Pipeline { set, declares, commands })
    }

    fn targets(&mut self, words: &[Word], declares: bool) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for word in words {
            match word {
                Word::Variable(name, fields) if fields.is_empty() => names.push(name.clone()),
                Word::Comma | Word::Set(_) => {}
                _ => bail!("template parsing error: only variables can be set"),
            }
        }
        match names.iter().find(|name| !declares && !self.variables.contains(name)) {
            Some(name) => bail!("template parsing error: undefined variable \"${name}\""),
            None if declares => self.variables.extend(names.iter().cloned()),
            None => {}
        }
        Ok(names)
    }

    /// Up to the end, or to a parenthesis that closes.
    fn commands(
        &self,
        words: &mut Peekable<IntoIter<Word>>,
        depth: usize,
    ) -> anyhow::Result<Vec<Vec<Operand>>> {
        let mut commands = vec![Vec::new()];
        while let Some(word) = words.next_if(|word| *word != Word::Close) {
            match (word, commands.last_mut()) {
                (Word::Pipe, _) => commands.push(Vec::new()),
                (word, Some(command)) => command.push(self.operand(word, words, depth)?),
                (_, None) => {}
            }
        }
        if commands.iter().any(Vec::is_empty) {
            bail!("template parsing error: missing value for command");
        }
        Ok(commands)
    }

    fn operand(
        &self,
        word: Word,
        words: &mut Peekable<IntoIter<Word>>,
        depth: usize,
    ) -> anyhow::Result<Operand> {
        Ok(match word {
            Word::Field(names) => Operand::Field(names),
            Word::Literal(value) => Operand::Literal(value),
            Word::Name(name) if FUNCTIONS.contains(&name.as_str()) => Operand::Function(name),
            Word::Name(name) => bail!("template parsing error: function {name:?} not defined"),
            Word::Variable(name, _) if !self.variables.contains(&name) => {
                bail!("template parsing error: undefined variable \"${name}\"")
            }
            Word::Variable(name, fields) => Operand::Variable(name, fields),
            Word::Open if depth < DEPTH => {
                let commands = self.commands(words, depth + 1)?;
                words.next().context("template parsing error: unclosed left paren")?;
                let fields = words.next_if(|word| matches!(word, Word::Of(_)));
                let fields = if let Some(Word::Of(fields)) = fields { fields } else { Vec::new() };
                Operand::Group(Box::new(Pipeline { commands, ..Pipeline::default() }), fields)
            }
            Word::Open => bail!("template parsing error: more than {DEPTH} parentheses in each other"),
            _ => bail!("template parsing error: unexpected operand"),
        })
    }
}
