//! Oddities of a layer, kept up to a number.

use crate::tar::Warning;

/// Warnings kept for one layer. People read a few; a hostile layer could give one per entry.
pub const MAX_WARNINGS: usize = 100;

/// The first warnings, and how many more there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    /// The first [`MAX_WARNINGS`].
    pub first: Vec<Warning>,
    /// How many more.
    pub more: u64,
}

impl Warnings {
    /// Keeps or counts a warning.
    pub fn push(&mut self, warning: Warning) {
        if self.first.len() < MAX_WARNINGS {
            self.first.push(warning);
        } else {
            self.more += 1;
        }
    }
}
