//! A Dockerfile as logical lines: parser directives read, comments gone, continuations joined, here-documents taken
//! along with the line that asked for them.
//!
//! Nothing here knows what an instruction means, except that only RUN, COPY and ADD (also behind ONBUILD) may have
//! here-documents. Line numbers start at one and are those of the file, because every error names one.

use crate::error::{Error, Result};

/// Dockerfiles are written by hand; what is larger is a mistake or an attack.
const MAX_BYTES: usize = 16 << 20;

/// One instruction with everything that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it starts.
    pub(crate) number: usize,
    /// Where it ends.
    pub(crate) last: usize,
    /// Continuations joined, no line break at the end.
    pub(crate) text: String,
    pub(crate) heredocs: Vec<Heredoc>,
    /// What the comments before it say, from the last one that says nothing.
    pub(crate) comments: Vec<String>,
    /// Where its continuations end, if an empty line stands among them.
    pub(crate) empty_continuation: Option<usize>,
}

/// A document in the Dockerfile itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heredoc {
    pub(crate) name: String,
    pub(crate) content: String,
    /// The name was not quoted: variables in it are replaced.
    pub(crate) expand: bool,
}

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) escape: char,
    /// The directive that says what is to be checked.
    pub(crate) check: Option<String>,
    pub(crate) lines: Vec<Line>,
}

/// Splits a Dockerfile into lines.
pub(crate) fn read(text: &str) -> Result<Source> {
    if text.len() > MAX_BYTES {
        return Err(Error::invalid(format!("larger than {MAX_BYTES} bytes")).at(1));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let directives = Directives::read(&raw)?;
    let mut reader = Reader { raw: &raw, next: directives.count, escape: directives.escape };
    let mut lines = Vec::new();
    while let Some(line) = reader.line()? {
        lines.push(line);
    }
    Ok(Source { escape: directives.escape, check: directives.check, lines })
}

/// Directives stand at the very top, one per line; the first line that is none ends them.
struct Directives {
    escape: char,
    check: Option<String>,
    count: usize,
}

impl Directives {
    fn read(raw: &[&str]) -> Result<Self> {
        let mut seen = Vec::new();
        let mut found = Self { escape: '\\', check: None, count: 0 };
        for (index, line) in raw.iter().enumerate() {
            let Some((key, value)) = directive(line) else { break };
            if seen.contains(&key) {
                let message = format!("only one {key} parser directive can be used");
                return Err(Error::invalid(message).at(index + 1));
            }
            found.take(&key, value).map_err(|error| error.at(index + 1))?;
            seen.push(key);
        }
        found.count = seen.len();
        Ok(found)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<()> {
        match (key, value) {
            ("escape", "\\") => self.escape = '\\',
            ("escape", "`") => self.escape = '`',
            ("escape", _) => {
                return Err(Error::invalid(format!("invalid escape token '{value}' does not match ` or \\")));
            }
            ("check", _) => self.check = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

/// `# key=value` with a key that is known; anything else is a comment.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let key = key.trim().to_ascii_lowercase();
    ["syntax", "escape", "check"].contains(&key.as_str()).then_some((key, value.trim()))
}

struct Reader<'a> {
    raw: &'a [&'a str],
    next: usize,
    escape: char,
}

impl<'a> Reader<'a> {
    /// The next instruction; none at the end.
    fn line(&mut self) -> Result<Option<Line>> {
        let mut comments = Vec::new();
        let Some(first) = self.first(&mut comments) else { return Ok(None) };
        let number = self.next;
        let (mut text, mut open) = self.without_escape(first.trim_start());
        let mut empty = false;
        while open {
            let Some(more) = self.raw.get(self.next) else { break };
            self.next += 1;
            if more.trim().is_empty() || more.trim_start().starts_with('#') {
                // The end of the file is no line.
                empty |= more.trim().is_empty() && self.next < self.raw.len();
                continue;
            }
            let (part, goes_on) = self.without_escape(more);
            text.push_str(&part);
            open = goes_on;
        }
        let empty_continuation = empty.then_some(self.next);
        let heredocs = self.heredocs(&text, number)?;
        let text = text.trim_end().to_owned();
        Ok(Some(Line { number, last: self.next, text, heredocs, comments, empty_continuation }))
    }

    /// The next line that is neither empty nor a comment.
    fn first(&mut self, comments: &mut Vec<String>) -> Option<&'a str> {
        loop {
            let line = *self.raw.get(self.next)?;
            self.next += 1;
            let trimmed = line.trim();
            match trimmed.strip_prefix('#').map(str::trim) {
                Some("") => comments.clear(),
                Some(comment) => comments.push(comment.to_owned()),
                None if trimmed.is_empty() => {}
                None => return Some(line),
            }
        }
    }

    /// Takes the escape off the end, if the line goes on: an escaped escape does not count.
    fn without_escape(&self, line: &str) -> (String, bool) {
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest.to_owned(), true),
            _ => (line.to_owned(), false),
        }
    }

    fn heredocs(&mut self, text: &str, number: usize) -> Result<Vec<Heredoc>> {
        let mut found = Vec::new();
        for mark in marks(text) {
            let mut content = String::new();
            loop {
                let Some(line) = self.raw.get(self.next) else {
                    let message = format!("unterminated heredoc {}", mark.name);
                    return Err(Error::invalid(message).at(number));
                };
                self.next += 1;
                let line = if mark.strip_tabs { line.trim_start_matches('\t') } else { line };
                if line == mark.name {
                    break;
                }
                content.push_str(line);
                content.push('\n');
            }
            found.push(Heredoc { name: mark.name, content, expand: mark.expand });
        }
        Ok(found)
    }
}

/// `<<NAME`, `<<-NAME`, `<<"NAME"`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) expand: bool,
    strip_tabs: bool,
}

/// Marks of here-documents in an instruction that may have them.
fn marks(text: &str) -> Vec<Mark> {
    let mut rest = text;
    loop {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match word.to_ascii_uppercase().as_str() {
            "ONBUILD" => rest = after.trim_start(),
            "RUN" | "COPY" | "ADD" => break,
            _ => return Vec::new(),
        }
    }
    words(rest).iter().filter_map(|word| mark(word)).collect()
}

/// Reads one word as a mark; a file descriptor may stand before it.
pub(crate) fn mark(word: &str) -> Option<Mark> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let quoted = |quote: char| rest.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let (name, expand) = match quoted('"').or_else(|| quoted('\'')) {
        Some(name) => (name, false),
        None => (rest, true),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (!name.is_empty() && name.chars().all(legal)).then(|| Mark { name: name.to_owned(), expand, strip_tabs })
}

/// Splits at spaces outside quotes; quotes stay.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.push(String::new()),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        if let Some(word) = words.last_mut().filter(|_| quote.is_some() || !c.is_whitespace()) {
            word.push(c);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        read(text).unwrap().lines.into_iter().map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn joins_continuations_and_drops_comments() {
        let text = "\u{feff}# a comment\n\nFROM a\r\nRUN one \\\n  # not this\n\n  two \\  \n  three\n  ENV a=b\\\\\n";
        assert_eq!(
            lines(text),
            [(3, "FROM a".into()), (4, "RUN one   two   three".into()), (9, "ENV a=b\\\\".into())]
        );
        assert_eq!(lines("RUN a \\"), [(1, "RUN a".into())]);
    }

    #[test]
    fn directives_only_at_the_top() {
        assert_eq!(read("# syntax=docker/dockerfile:1\n# escape=`\nRUN a `\n b").unwrap().escape, '`');
        assert_eq!(
            lines("# escape=`\nRUN a `\n b\nRUN c\\"),
            [(2, "RUN a  b".into()), (4, "RUN c\\".into())]
        );
        assert_eq!(read("# comment\n# escape=`\n").unwrap().escape, '\\');
        assert!(read("# escape=x\n").is_err());
        assert!(read("# escape=`\n# escape=`\n").is_err());
    }

    #[test]
    fn comments_belong_to_the_next_line() {
        let source =
            read("# check=skip=all;error=true\n# one\n#\n# two\n\n# three\nFROM a\nRUN b \\\n\n  c\n")
                .unwrap();
        assert_eq!(source.check.as_deref(), Some("skip=all;error=true"));
        assert_eq!(source.lines[0].comments, ["two", "three"]);
        assert_eq!(source.lines[1].comments, [""; 0]);
        assert_eq!(
            (source.lines[0].empty_continuation, source.lines[1].empty_continuation),
            (None, Some(10))
        );
        assert_eq!(read("RUN a \\\n").unwrap().lines[0].empty_continuation, None);
    }

    #[test]
    fn here_documents_belong_to_their_line() {
        let source =
            read("RUN <<EOF cat <<-\"B\" 3<<C\na\nEOF\n\tb $x\n\tB\nc\nC\nUSER <<no\nRUN x").unwrap();
        let line = &source.lines[0];
        assert_eq!((line.number, line.last, line.heredocs.len()), (1, 7, 3));
        assert_eq!(line.heredocs[0], Heredoc { name: "EOF".into(), content: "a\n".into(), expand: true });
        assert_eq!(line.heredocs[1], Heredoc { name: "B".into(), content: "b $x\n".into(), expand: false });
        assert_eq!(source.lines[1].text, "USER <<no");
        assert_eq!(source.lines.len(), 3);
        let error = read("FROM a\nCOPY <<E /x\nno end").unwrap_err().to_string();
        assert!(error.contains("2: unterminated heredoc E"), "{error}");
        assert_eq!(read("RUN echo '<<EOF' \"a <<EOF\"").unwrap().lines[0].heredocs, []);
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in "(?s)[A-Z \\\\\n#<EOF'\"`=\t]{0,200}") {
            let _ = read(&text);
        }
    }
}
