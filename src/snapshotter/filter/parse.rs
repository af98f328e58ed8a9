//! Reads one filter: conditions between commas, each a path, an operator and a value.

use std::iter::Peekable;
use std::str::CharIndices;

use regex::Regex;

use super::{Selector, Test};
use crate::error::SnapshotError;

/// Quotes in which an expression may stand, beside `"`.
const PATTERN_QUOTES: [char; 2] = ['/', '|'];

/// The conditions of a filter that is not empty.
pub(super) fn selectors(filter: &str) -> Result<Vec<Selector>, SnapshotError> {
    let mut reader = Reader {
        filter,
        rest: filter.char_indices().peekable(),
    };
    let mut found = vec![reader.selector()?];
    loop {
        match reader.peek() {
            None => return Ok(found),
            Some(',') => {
                reader.rest.next();
                found.push(reader.selector()?);
            }
            Some(_) => return Err(reader.wrong("expected a comma or the end")),
        }
    }
}

struct Reader<'a> {
    filter: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, c)| *c)
    }

    fn next(&mut self) -> Option<char> {
        self.rest.next().map(|(_, c)| c)
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn wrong(&mut self, what: &str) -> SnapshotError {
        let at = self
            .rest
            .peek()
            .map_or(self.filter.len(), |(position, _)| *position);
        SnapshotError::InvalidArgument(format!(
            "filter {:?}, byte {at}: {what} (hint: a filter is like name==a,labels.\"b/c\"~=/^d/)",
            self.filter
        ))
    }

    fn selector(&mut self) -> Result<Selector, SnapshotError> {
        let mut path = vec![self.field()?];
        while self.peek() == Some('.') {
            self.next();
            path.push(self.field()?);
        }
        let test = match self.peek() {
            None | Some(',') => Test::Present,
            Some(_) => self.test()?,
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, SnapshotError> {
        self.skip_space();
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let name = self.run(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            return Err(self.wrong("expected a field"));
        }
        Ok(name)
    }

    fn test(&mut self) -> Result<Test, SnapshotError> {
        self.skip_space();
        let operator = self.run(|c| matches!(c, '=' | '!' | '~'));
        match operator.as_str() {
            "==" => self.value(false).map(Test::Equal),
            "!=" => self.value(false).map(Test::NotEqual),
            "~=" => {
                let pattern = self.value(true)?;
                Ok(Test::Matches(Regex::new(&pattern).ok()))
            }
            _ => Err(self.wrong("expected one of the operators == != ~=")),
        }
    }

    fn value(&mut self, is_pattern: bool) -> Result<String, SnapshotError> {
        self.skip_space();
        match self.peek() {
            Some('"') => self.quoted(),
            Some(quote) if PATTERN_QUOTES.contains(&quote) => {
                if is_pattern {
                    self.quoted()
                } else {
                    Err(self.wrong("a value that begins like this stands in double quotes"))
                }
            }
            None | Some(',' | '.' | '=' | '!' | '~') => {
                Err(self.wrong("expected a value, or one in double quotes"))
            }
            Some(_) => {
                let value = self.run(|c| c != ',' && !c.is_whitespace() && !c.is_control());
                if value.is_empty() {
                    return Err(self.wrong("expected a value"));
                }
                Ok(value)
            }
        }
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|c| belongs(*c)) {
            text.push(c);
            self.next();
        }
        text
    }

    /// A text in the quotes that come next, with the escapes of Go.
    fn quoted(&mut self) -> Result<String, SnapshotError> {
        let quote = self.next();
        let mut bytes = Vec::new();
        loop {
            match self.next() {
                None | Some('\n') => return Err(self.wrong("the quotes are not closed")),
                c if c == quote => break,
                Some('\\') => self.escape(quote, &mut bytes)?,
                Some(c) => push(&mut bytes, c),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.wrong("the quoted text is not UTF-8"))
    }

    fn escape(&mut self, quote: Option<char>, bytes: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let next = self.next();
        match next {
            Some('a') => bytes.push(0x07),
            Some('b') => bytes.push(0x08),
            Some('f') => bytes.push(0x0c),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('v') => bytes.push(0x0b),
            Some('\\') => bytes.push(b'\\'),
            Some(c) if next == quote => push(bytes, c),
            Some(first @ '0'..='7') => {
                let rest = self.digits(2, 8)?;
                let value = first.to_digit(8).unwrap_or_default() * 64 + rest;
                let byte = u8::try_from(value).map_err(|_| self.wrong("no byte is that large"))?;
                bytes.push(byte);
            }
            Some('x') => {
                let value = self.digits(2, 16)?;
                bytes.push(u8::try_from(value).unwrap_or_default());
            }
            Some('u') => self.character(4, bytes)?,
            Some('U') => self.character(8, bytes)?,
            _ => return Err(self.wrong("this escape is not known")),
        }
        Ok(())
    }

    fn character(&mut self, digits: usize, bytes: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let value = self.digits(digits, 16)?;
        let c = char::from_u32(value).ok_or_else(|| self.wrong("this is no character"))?;
        push(bytes, c);
        Ok(())
    }

    fn digits(&mut self, count: usize, radix: u32) -> Result<u32, SnapshotError> {
        let mut value: u32 = 0;
        for _ in 0..count {
            let digit = self.next().and_then(|c| c.to_digit(radix));
            let digit = digit.ok_or_else(|| self.wrong("the escape has too few digits"))?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        Ok(value)
    }
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
