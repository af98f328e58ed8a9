//! The filter language of List: `name==a,labels."x/y"~=/^b/`.

mod parse;

use regex::Regex;

use crate::error::SnapshotError;
use crate::record::Info;

/// Filters of one call: a snapshot passes where one of them does, or there is none.
#[derive(Debug, Default)]
pub struct Filters(Vec<Vec<Selector>>);

/// One condition of a filter; all of them must hold.
#[derive(Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

/// What is asked of a field. One that is absent has the empty value.
#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    /// None is an expression that cannot be compiled, which matches nothing.
    Matches(Option<Regex>),
}

impl Filters {
    /// Reads the filters of a call; an empty one lets everything pass.
    ///
    /// # Errors
    /// [`SnapshotError::InvalidArgument`] with the filter and the place in it.
    pub fn parse<S: AsRef<str>>(filters: &[S]) -> Result<Self, SnapshotError> {
        let mut parsed = Vec::new();
        for filter in filters.iter().map(AsRef::as_ref) {
            parsed.push(if filter.is_empty() {
                Vec::new()
            } else {
                parse::selectors(filter)?
            });
        }
        Ok(Filters(parsed))
    }

    /// Whether a snapshot passes.
    pub fn pass(&self, info: &Info) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|all| all.iter().all(|selector| selector.holds(info)))
    }
}

impl Selector {
    fn holds(&self, info: &Info) -> bool {
        let value = field(info, &self.path);
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value == Some(wanted.as_str()),
            Test::NotEqual(unwanted) => value.unwrap_or_default() != unwanted,
            Test::Matches(None) => false,
            Test::Matches(Some(pattern)) => pattern.is_match(value.unwrap_or_default()),
        }
    }
}

/// A field of a snapshot. Parts of a path behind `labels` are one key: its dots need no quotes.
fn field<'a>(info: &'a Info, path: &[String]) -> Option<&'a str> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "name" => Some(&info.name),
        "parent" => Some(&info.record.parent),
        "kind" => Some(info.record.kind.name()),
        "labels" => info.record.labels.get(&rest.join(".")).map(String::as_str),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
