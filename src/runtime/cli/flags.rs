//! Flags, accepted before and after the positional arguments.

use crate::error::{Error, Result};

/// One flag of a verb.
pub struct Flag {
    /// `--long`, without the dashes.
    pub long: &'static str,
    /// `-s`, without the dash.
    pub short: Option<char>,
    /// Whether a value follows.
    pub takes_value: bool,
}

impl Flag {
    /// A flag with a value.
    pub const fn value(long: &'static str, short: Option<char>) -> Self {
        Self {
            long,
            short,
            takes_value: true,
        }
    }

    /// A flag that is there or not.
    pub const fn switch(long: &'static str, short: Option<char>) -> Self {
        Self {
            long,
            short,
            takes_value: false,
        }
    }
}

/// A parsed command line.
#[derive(Debug, Default)]
pub struct Parsed {
    values: Vec<(&'static str, String)>,
    /// What is no flag, in order.
    pub positional: Vec<String>,
}

impl Parsed {
    /// The last value of a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
            .map(|(_, text)| text.as_str())
    }

    /// Every value of a flag, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, text)| text.as_str())
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// The value of a flag as a number.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| Error::Usage(format!("--{name}: {text:?} is no number")))
        };
        self.value(name).map(parse).transpose()
    }

    /// The container's name, of the only positional argument.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn id(&self) -> Result<&str> {
        self.at_most(1)?;
        self.first()
    }

    /// The first positional argument.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn first(&self) -> Result<&str> {
        let first = self.positional.first();
        first
            .map(String::as_str)
            .ok_or_else(|| Error::Usage("a container id is needed".to_owned()))
    }

    /// Refuses more than `count` positional arguments.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn at_most(&self, count: usize) -> Result<()> {
        match self.positional.get(count) {
            Some(extra) => Err(Error::Usage(format!("unexpected argument {extra:?}"))),
            None => Ok(()),
        }
    }
}

/// Sorts `words`. After `verbatim_after` positional arguments the first word that is no flag and
/// all that follow it are positional.
///
/// # Errors
/// [`Error::Usage`] naming the flag.
pub fn parse(flags: &[Flag], words: Vec<String>, verbatim_after: usize) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            parsed.positional.extend(words);
            break;
        }
        if !word.starts_with('-') || word == "-" {
            let rest_is_verbatim = parsed.positional.len() >= verbatim_after;
            parsed.positional.push(word);
            if rest_is_verbatim {
                parsed.positional.extend(words);
                break;
            }
            continue;
        }
        take_flag(flags, &word, &mut words, &mut parsed)?;
    }
    Ok(parsed)
}

/// Takes the flag `word` with its value from `words`.
///
/// # Errors
/// [`Error::Usage`] naming the flag.
pub fn take_flag(
    flags: &[Flag],
    word: &str,
    words: &mut impl Iterator<Item = String>,
    parsed: &mut Parsed,
) -> Result<()> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word, None),
    };
    let bare = name.trim_start_matches('-');
    let mut letters = bare.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    let known = |flag: &&Flag| flag.long == bare || (letter.is_some() && flag.short == letter);
    let flag = flags
        .iter()
        .find(known)
        .ok_or_else(|| Error::Usage(format!("flag provided but not defined: {name}")))?;
    let value = match (flag.takes_value, value) {
        (_, Some(value)) => value,
        (false, None) => "true".to_owned(),
        (true, None) => words
            .next()
            .ok_or_else(|| Error::Usage(format!("flag needs a value: {name}")))?,
    };
    if !flag.takes_value && !matches!(value.as_str(), "true" | "false") {
        return Err(Error::Usage(format!(
            "{name}: {value:?} is neither true nor false"
        )));
    }
    parsed.values.push((flag.long, value));
    Ok(())
}

/// A verb's flags for its user, who called `program`.
pub fn describe(program: &str, verb: &str, flags: &[Flag]) -> String {
    let list = list(flags);
    format!(
        "NAME:\n   {program} {verb}\n\n\
         USAGE:\n   {program} {verb} [command options] [arguments...]\n\nOPTIONS:\n{list}"
    )
}

/// One flag a line.
pub fn list(flags: &[Flag]) -> String {
    let line = |flag: &Flag| {
        let short = flag
            .short
            .map_or(String::new(), |letter| format!(", -{letter}"));
        let value = if flag.takes_value { " value" } else { "" };
        format!("   --{}{short}{value}\n", flag.long)
    };
    flags.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::value("bundle", Some('b')),
        Flag::switch("detach", Some('d')),
    ];

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn flags_before_and_after_the_name_are_the_same() {
        for line in ["--bundle B -d id", "id -b B --detach", "-b=B id -d=true"] {
            let parsed = parse(FLAGS, words(line), usize::MAX).unwrap();
            assert_eq!(parsed.value("bundle"), Some("B"), "{line}");
            assert!(parsed.is_on("detach"), "{line}");
            assert_eq!(parsed.positional, ["id"], "{line}");
        }
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let parsed = parse(FLAGS, words("id -d ls -l --bundle"), 1).unwrap();
        assert!(parsed.is_on("detach"));
        assert_eq!(parsed.positional, ["id", "ls", "-l", "--bundle"]);
    }

    #[test]
    fn what_is_unknown_or_incomplete_is_an_error() {
        for line in ["--nope id", "id --bundle", "-d=maybe id", "-x"] {
            assert!(parse(FLAGS, words(line), usize::MAX).is_err(), "{line}");
        }
    }
}
