//! A page on its way through a proxy: links in attributes are rewritten, every other byte passes as it came, valid
//! HTML or not. Pages are read byte by byte, so that they may come in any pieces; only a start tag is held back until
//! it ends, and a tag that is too long to be one passes unchanged. The states are those of the HTML standard's
//! tokenizer (section 13.2.5), as far as they decide where an attribute's value begins and ends.

use super::links::Links;
use std::ops::Range;

/// A longer tag is not held back, bytes.
const MAX_TAG: usize = 64 << 10;

/// Elements and those of their attributes that are links.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is text up to their end tag, whatever it looks like.
const RAW: [&str; 8] = ["iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// After `<`.
    Open,
    /// After `</`.
    Close,
    /// Within a tag; it is held back.
    Tag(Part),
    /// After `<!`, and after `<!-`.
    Declaration,
    Dash,
    /// Within a comment, after so many dashes (two at most).
    Comment(u8),
    /// After `--!` in a comment.
    Bang,
    /// To the next `>`.
    Bogus,
    /// Within an element of raw text, with so many bytes of its end tag seen.
    Raw(usize),
}

/// Where in a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Name,
    Before,
    Attribute,
    After,
    Value,
    Quoted(u8),
    Unquoted,
}

/// A page, read as far as it came.
pub(super) struct Page {
    links: Links,
    state: State,
    /// What is held back.
    tag: Vec<u8>,
    /// The link attributes of the element whose start tag this is.
    attributes: &'static [&'static str],
    /// The element of raw text that begins with this tag, or is open.
    raw: Option<&'static str>,
    /// In `tag`: the name of the last attribute, and where its value begins.
    name: Range<usize>,
    value: usize,
}

impl Page {
    pub(super) fn new(links: Links) -> Self {
        let (state, tag, name) = (State::Text, Vec::new(), 0..0);
        Self { links, state, tag, attributes: &[], raw: None, name, value: 0 }
    }

    /// Reads more of the page; what is settled goes to `out`.
    pub(super) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while let Some((&byte, rest)) = input.split_first() {
            let text = match self.state {
                State::Text => input.iter().position(|&byte| byte == b'<').unwrap_or(input.len()),
                _ => 0,
            };
            if text > 0 {
                let (text, rest) = input.split_at(text);
                out.extend_from_slice(text);
                input = rest;
            } else {
                self.state = self.step(byte, out);
                input = rest;
            }
        }
    }

    /// The page ended.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.tag);
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        match self.state {
            State::Tag(part) => return self.step_tag(part, byte, out),
            State::Open if byte == b'<' => out.push(b'<'),
            _ => self.tag.push(byte),
        }
        let next = match self.state {
            State::Text => State::Open,
            State::Open => self.opened(byte),
            State::Close if byte.is_ascii_alphabetic() => State::Tag(Part::Name),
            State::Raw(seen) => self.step_raw(seen, byte),
            state => markup(state, byte),
        };
        if !matches!(next, State::Open | State::Close | State::Tag(Part::Name)) {
            out.append(&mut self.tag);
        }
        next
    }

    fn opened(&mut self, byte: u8) -> State {
        self.attributes = &[];
        self.raw = None;
        match byte {
            b'<' => State::Open,
            b'/' => State::Close,
            b'!' => State::Declaration,
            b'?' => State::Bogus,
            byte if byte.is_ascii_alphabetic() => State::Tag(Part::Name),
            _ => State::Text,
        }
    }

    fn step_raw(&mut self, seen: usize, byte: u8) -> State {
        let name = self.raw.unwrap_or_default().as_bytes();
        let expected = match seen {
            0 => Some(b'<'),
            1 => Some(b'/'),
            _ => name.get(seen - 2).copied(),
        };
        match (expected, byte) {
            (Some(expected), byte) if byte.eq_ignore_ascii_case(&expected) => State::Raw(seen + 1),
            (None, b'>') => State::Text,
            (None, b'/' | b' ' | b'\t' | b'\n' | b'\r' | 0x0c) => {
                (self.raw, self.attributes) = (None, &[]);
                State::Tag(Part::Before)
            }
            _ => State::Raw(usize::from(byte == b'<')),
        }
    }

    fn step_tag(&mut self, part: Part, byte: u8, out: &mut Vec<u8>) -> State {
        let at = self.tag.len();
        let space = byte.is_ascii_whitespace();
        let ends = match part {
            Part::Quoted(quote) => byte == quote,
            _ => byte == b'>' || space,
        };
        match part {
            Part::Name if ends || byte == b'/' => self.end_name(),
            Part::Quoted(_) | Part::Unquoted if ends => self.end_value(),
            _ => {}
        }
        let next = match (part, byte) {
            (Part::Quoted(_), _) if !ends => part,
            (Part::Quoted(_), _) => Part::Before,
            (_, b'>') => {
                self.tag.push(byte);
                out.append(&mut self.tag);
                return if self.raw.is_some() { State::Raw(0) } else { State::Text };
            }
            (Part::Name | Part::Unquoted, _) if space => Part::Before,
            (Part::Attribute, _) if space => Part::After,
            (Part::Before | Part::After | Part::Value, _) if space => part,
            (Part::Name | Part::Before | Part::Attribute | Part::After, b'/') => Part::Before,
            (Part::Attribute | Part::After, b'=') => Part::Value,
            (Part::Before | Part::After, _) => {
                self.name = at..at + 1;
                Part::Attribute
            }
            (Part::Attribute, _) => {
                self.name.end = at + 1;
                Part::Attribute
            }
            (Part::Value, b'"' | b'\'') => {
                self.value = at + 1;
                Part::Quoted(byte)
            }
            (Part::Value, _) => {
                self.value = at;
                Part::Unquoted
            }
            (Part::Name | Part::Unquoted, _) => part,
        };
        self.tag.push(byte);
        if self.tag.len() > MAX_TAG {
            // No attribute of it is at a known place any more.
            self.attributes = &[];
            out.append(&mut self.tag);
        }
        State::Tag(next)
    }

    /// The tag's name is complete.
    fn end_name(&mut self) {
        // The name of an end tag begins with its slash, which no element's does.
        let name = self.tag.get(1..).unwrap_or_default();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let links = LINKS.iter().find(|(element, _)| is(element));
        self.attributes = links.map(|(_, attributes)| *attributes).unwrap_or_default();
        self.raw = RAW.into_iter().find(|element| is(element));
    }

    /// The value of the last attribute is complete.
    fn end_value(&mut self) {
        let name = self.tag.get(self.name.clone()).unwrap_or_default();
        if !self.attributes.iter().any(|link| name.eq_ignore_ascii_case(link.as_bytes())) {
            return;
        }
        let value = self.tag.get(self.value..).and_then(|value| std::str::from_utf8(value).ok());
        let rewritten = value.and_then(|value| self.links.rewrite(&with_slashes(value)));
        if let Some(link) = rewritten {
            self.tag.truncate(self.value);
            self.tag.extend_from_slice(link.as_bytes());
        }
    }
}

/// Some template engines write every slash as a character reference; a link needs no other to be recognized.
fn with_slashes(value: &str) -> String {
    ["&#x2F;", "&#x2f;", "&#47;"].into_iter().fold(value.to_owned(), |value, slash| value.replace(slash, "/"))
}

/// Comments, declarations and what is taken for them.
fn markup(state: State, byte: u8) -> State {
    match (state, byte) {
        (State::Comment(2), b'>') => State::Text,
        (State::Comment(2), b'!') => State::Bang,
        (State::Comment(dashes), b'-') => State::Comment(2.min(dashes + 1)),
        (State::Bang, b'-') => State::Comment(1),
        (State::Comment(_), _) => State::Comment(0),
        (_, b'>') => State::Text,
        (State::Bang, _) => State::Comment(0),
        (State::Declaration, b'-') => State::Dash,
        (State::Dash, b'-') => State::Comment(2),
        _ => State::Bogus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page() -> Page {
        Page::new(Links { prefix: "/P".into(), target: "t:80".into(), client: None })
    }

    /// The page, fed in pieces of `size` bytes.
    fn rewritten(input: &[u8], size: usize) -> Vec<u8> {
        let (mut page, mut out) = (page(), Vec::new());
        for piece in input.chunks(size) {
            page.feed(piece, &mut out);
        }
        page.finish(&mut out);
        out
    }

    #[test]
    fn links_are_rewritten_and_nothing_else() {
        for (input, expected) in [
            (r#"<a href="/x">t</a>"#, r#"<a href="/P/x">t</a>"#),
            ("<A class=b HREF = '/x' >", "<A class=b HREF = '/P/x' >"),
            ("<a href=/x>t</a>", "<a href=/P/x>t</a>"),
            ("<a href=/x/>t", "<a href=/P/x/>t"),
            (
                "<img src=/a.png usemap=#m longdesc='//t:80/l'/>",
                "<img src=/P/a.png usemap=#m longdesc='/P/l'/>",
            ),
            ("<link\nhref=\"/c.css\"\trel=x>", "<link\nhref=\"/P/c.css\"\trel=x>"),
            ("<video/poster=/p/src='/v'>", "<video/poster=/P/p/src='/v'>"),
            ("<video poster='/p'src='/v'>", "<video poster='/P/p'src='/P/v'>"),
            ("<form action=\"&#x2F;do\">", "<form action=\"/P/do\">"),
            ("<a href=\"/x?a=1&amp;b=2\">", "<a href=\"/P/x?a=1&amp;b=2\">"),
            ("<a href=\"http://t:80/x\">", "<a href=\"/P/x\">"),
            (
                "<script src=/s.js>'<a href=/x>'</script><a href=/x>",
                "<script src=/P/s.js>'<a href=/x>'</script><a href=/P/x>",
            ),
            (
                "<title><a href=/x></titles></TITLE ><a href=/x>",
                "<title><a href=/x></titles></TITLE ><a href=/P/x>",
            ),
            ("<style><<</style><a href=/x>", "<style><<</style><a href=/P/x>"),
            ("<!-- <a href=/x> --><a href=/x>", "<!-- <a href=/x> --><a href=/P/x>"),
            ("<!--><a href=/x>", "<!--><a href=/P/x>"),
            ("<!-- --!><a href=/x>", "<!-- --!><a href=/P/x>"),
            ("<!-- --- -- ><a href=/x>--->", "<!-- --- -- ><a href=/x>--->"),
            ("<!doctype html><?xml ?></ ><a href=/x>", "<!doctype html><?xml ?></ ><a href=/P/x>"),
            ("1 < 2 <<a href=/x>", "1 < 2 <<a href=/P/x>"),
            ("<a title=it's href=/x>", "<a title=it's href=/P/x>"),
            ("<a title='>' href=/x>", "<a title='>' href=/P/x>"),
            ("<a href href=/x>", "<a href href=/P/x>"),
            ("<a =href=/x>", "<a =href=/x>"),
            ("<a href=>/x", "<a href=>/x"),
            ("<a href=\"/x", "<a href=\"/x"),
            ("<a href=/x", "<a href=/x"),
            ("<", "<"),
            ("</a href=/x>", "</a href=/x>"),
            ("<abbr href=/x><p src=/x><a data-href=/x>", "<abbr href=/x><p src=/x><a data-href=/x>"),
            ("<a href=x><a href=http://other/x>", "<a href=x><a href=http://other/x>"),
            ("/x http://t:80/x", "/x http://t:80/x"),
        ] {
            for size in [1, 2, 3, 7, 4096] {
                let found = rewritten(input.as_bytes(), size);
                assert_eq!(String::from_utf8_lossy(&found), expected, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass() {
        let input = b"\xff\xfe<a href=\"/\xff\"><a href=/x>\0";
        assert_eq!(rewritten(input, 4), b"\xff\xfe<a href=\"/\xff\"><a href=/P/x>\0");
    }

    #[test]
    fn an_endless_tag_is_not_kept() {
        let (mut page, mut out) = (page(), Vec::new());
        let long = format!("<a title='{}' href=/x", "x".repeat(3 * MAX_TAG));
        page.feed(long.as_bytes(), &mut out);
        assert!(page.tag.len() <= MAX_TAG && out.len() + page.tag.len() == long.len());
        page.feed(b"><a href=/x>", &mut out);
        assert!(out.ends_with(b" href=/x><a href=/P/x>"));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(input in "[<>/!= '\"a-]{0,60}", size in 1usize..8) {
            prop_assert_eq!(rewritten(input.as_bytes(), size), rewritten(input.as_bytes(), 4096));
        }

        #[test]
        fn pages_without_links_of_the_target_pass_unchanged(input in "(<a href=x>|[<>!= '\"a-]){0,40}") {
            prop_assert_eq!(rewritten(input.as_bytes(), 5), input.as_bytes());
        }
    }
}
