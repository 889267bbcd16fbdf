//! The text form of a label selector: a lexer with one token of look-ahead, and one function per grammar rule. The
//! sentences of the errors are those that Kubernetes gives for the same text.

use super::{Operator, Requirement};

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Symbol(symbol) => symbol,
            Token::End => "",
        }
    }
}

/// Longest first, so that `==` is not read as two `=`.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn lex(mut rest: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if rest.is_empty() {
            tokens.push(Token::End);
            return tokens;
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
            continue;
        }
        let end = rest.find([' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<']).unwrap_or(rest.len());
        tokens.push(Token::Word(rest[..end].to_owned()));
        rest = &rest[end..];
    }
}

struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.position).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }
}

/// Reads a whole selector.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parser = Parser { tokens: lex(text), position: 0 };
    let mut requirements = Vec::new();
    while *parser.peek() != Token::End {
        if !matches!(parser.peek(), Token::Word(_)) && !parser.is("!") {
            return Err(format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                parser.peek().text()
            ));
        }
        let requirement =
            requirement(&mut parser).map_err(|error| format!("unable to parse requirement: {error}"))?;
        requirement.check().map_err(|error| format!("unable to parse requirement: {error}"))?;
        requirements.push(requirement);
        match parser.next() {
            Token::End => break,
            Token::Symbol(",") if matches!(parser.peek(), Token::Word(_)) || parser.is("!") => {}
            Token::Symbol(",") => {
                return Err(format!("found '{}', expected: identifier after ','", parser.peek().text()));
            }
            other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
        }
    }
    Ok(requirements)
}

fn requirement(parser: &mut Parser) -> Result<Requirement, String> {
    let absent = parser.is("!");
    if absent {
        parser.next();
    }
    let key = match parser.next() {
        Token::Word(key) => key,
        other => return Err(format!("found '{}', expected: identifier", other.text())),
    };
    if absent {
        return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
    }
    if *parser.peek() == Token::End || parser.is(",") {
        return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
    }
    let operator_token = parser.next();
    let (operator, is_set) = match operator_token.text() {
        "=" | "==" => (Operator::In, false),
        "!=" => (Operator::NotIn, false),
        ">" => (Operator::GreaterThan, false),
        "<" => (Operator::LessThan, false),
        "in" => (Operator::In, true),
        "notin" => (Operator::NotIn, true),
        other => return Err(format!("found '{other}', expected: {OPERATORS}")),
    };
    let values = if is_set { value_set(parser)? } else { vec![single_value(parser)?] };
    Ok(Requirement { key, operator, values })
}

fn single_value(parser: &mut Parser) -> Result<String, String> {
    match parser.peek().clone() {
        Token::Word(value) => {
            parser.next();
            Ok(value)
        }
        // `a=` demands the empty value.
        Token::End | Token::Symbol(",") => Ok(String::new()),
        other => Err(format!("found '{}', expected: identifier", other.text())),
    }
}

fn value_set(parser: &mut Parser) -> Result<Vec<String>, String> {
    match parser.next() {
        Token::Symbol("(") => {}
        other => return Err(format!("found '{}' expected: '('", other.text())),
    }
    let mut values = Vec::new();
    loop {
        match parser.peek().clone() {
            Token::Word(value) => {
                parser.next();
                values.push(value);
            }
            Token::Symbol("," | ")") => values.push(String::new()),
            other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
        }
        match parser.next() {
            Token::Symbol(",") => {}
            Token::Symbol(")") => return Ok(values),
            other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
        }
    }
}
