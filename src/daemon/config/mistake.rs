//! Where a mistake in a TOML file is: its line, and the key that it belongs to.

/// A mistake in a TOML file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1 on.
    pub line: usize,
    /// The dotted key; empty where the text cannot be read so far.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Mistake {
    /// Finds where in the text an error of it is.
    pub fn of(text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count();
        let words: Vec<&str> = error.message().split_whitespace().collect();
        Mistake {
            line: line + 1,
            key: key(text, line),
            message: words.join(" "),
        }
    }

    /// `, key a.b`, or nothing where there is none.
    pub fn shown_key(&self) -> String {
        match self.key.as_str() {
            "" => String::new(),
            key => format!(", key {key}"),
        }
    }
}

/// The dotted key whose value covers a line, counted from 0.
fn key(text: &str, line: usize) -> String {
    let before: Vec<&str> = text.lines().take(line + 1).map(str::trim).collect();
    let is_table = |line: &str| line.starts_with('[') && line.trim_end().ends_with(']');
    let table = before.iter().rev().find(|line| is_table(line));
    let table = table.map_or("", |line| line.trim_matches(['[', ']']).trim());
    let last = before.last().copied().unwrap_or_default();
    if is_table(last) {
        return table.to_owned();
    }
    // A value may go over several lines: the nearest one above with a key has begun it.
    let own = before
        .iter()
        .rev()
        .take_while(|line| !is_table(line))
        .find_map(|line| key_of(line));
    match (table, own) {
        (_, None) => String::new(),
        ("", Some(own)) => own.to_owned(),
        (table, Some(own)) => format!("{table}.{own}"),
    }
}

/// What stands before the `=` of a line, where it is a key.
fn key_of(line: &str) -> Option<&str> {
    let mut quote = None;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '=') => return Some(line[..at].trim()).filter(|key| !key.is_empty()),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, _) if !(character.is_alphanumeric() || "-_. \t".contains(character)) => {
                return None;
            }
            _ => {}
        }
    }
    None
}
