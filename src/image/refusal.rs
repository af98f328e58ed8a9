//! Why a layer is not lazy: in words for the user, and by kind for whoever counts.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds of reasons for which a layer has no usable index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Nobody offers one.
    NoIndex,
    /// One is offered, and the policy of the reference refuses it.
    Policy,
    /// What is offered cannot be read or does not fit.
    Unusable,
    /// It was found to contradict its layer before.
    Contradicts,
    /// The layer is longer than the configured limit.
    TooLong,
    /// The layer can only be read from its start.
    StreamOnly,
}

impl RefusalKind {
    /// All kinds.
    pub const ALL: [RefusalKind; 6] = [
        RefusalKind::NoIndex,
        RefusalKind::Policy,
        RefusalKind::Unusable,
        RefusalKind::Contradicts,
        RefusalKind::TooLong,
        RefusalKind::StreamOnly,
    ];

    /// The kind's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            RefusalKind::NoIndex => "no_index",
            RefusalKind::Policy => "policy",
            RefusalKind::Unusable => "unusable_index",
            RefusalKind::Contradicts => "contradicts_layer",
            RefusalKind::TooLong => "too_long",
            RefusalKind::StreamOnly => "stream_only",
        }
    }

    /// A reason of this kind.
    pub fn because(self, words: impl Into<String>) -> Refusal {
        Refusal {
            kind: self,
            words: words.into(),
        }
    }
}

/// Why a layer is not lazy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For whoever counts.
    pub kind: RefusalKind,
    /// For the user.
    pub words: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Layers that were not lazy, since the service started, by kind of reason.
#[derive(Debug, Default)]
pub struct RefusalCounts([AtomicU64; RefusalKind::ALL.len()]);

impl RefusalCounts {
    /// One layer more.
    pub fn add(&self, kind: RefusalKind) {
        // The kind is below the length by construction. Nothing is ordered by a count.
        if let Some(count) = self.0.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Layers so far.
    pub fn of(&self, kind: RefusalKind) -> u64 {
        self.0
            .get(kind as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart() {
        let counts = RefusalCounts::default();
        counts.add(RefusalKind::Policy);
        counts.add(RefusalKind::Policy);
        counts.add(RefusalKind::StreamOnly);
        let all = RefusalKind::ALL.map(|kind| counts.of(kind));
        assert_eq!(all, [0, 2, 0, 0, 0, 1]);
    }
}
