//! What is known of a snapshot.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::remote::Place;

/// Labels of a snapshot. An empty value is as good as none, and is never kept.
pub type Labels = BTreeMap<String, String>;

/// What may be done with a snapshot.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Mounted read-only, never committed.
    View,
    /// Writable; the only kind that can be committed.
    Active,
    /// Immutable; the only kind that can be a parent.
    Committed,
}

impl Kind {
    /// Its name in filters.
    pub fn name(self) -> &'static str {
        match self {
            Kind::View => "view",
            Kind::Active => "active",
            Kind::Committed => "committed",
        }
    }
}

/// What a snapshot takes on the disk, without its parents.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Usage {
    /// Allocated bytes.
    pub size: u64,
    /// Inodes; a file with several links is one.
    pub inodes: u64,
}

/// A point in time: nanoseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Moment(pub i64);

impl Moment {
    /// The system clock's time, which may jump.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Moment(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// What is stored of a snapshot under its name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// Names its directory; never used twice.
    pub id: u64,
    /// What may be done with it.
    pub kind: Kind,
    /// Name of the snapshot below it; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// When it became what it is.
    pub created: Moment,
    /// When its labels were last changed.
    pub updated: Moment,
    /// What it took when it was committed; zero for other kinds.
    #[serde(default)]
    pub usage: Usage,
    /// Its place in an image, where its content is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Place>,
}

/// A snapshot as clients see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Info {
    /// Name of a committed snapshot, key of another.
    pub name: String,
    /// The rest.
    pub record: Record,
}

/// Labels without those whose value is empty.
pub fn kept(mut labels: Labels) -> Labels {
    labels.retain(|_, value| !value.is_empty());
    labels
}
