//! Which indexes a reference may be started with.
//!
//! An index decides what every file of an image is, so accepting one from the registry means to
//! trust whoever can push there. For a reference by tag that is no new trust: the same people
//! can move the tag. For a reference by digest it would be: the digest says which image, and
//! nobody but its holder may change that.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The policy that a reference's candidates are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// An index found as a referrer in the image's own repository is accepted.
    Registry,
    /// Only what was built here, or follows from the image's digest, or is signed.
    Strict,
}

impl Policy {
    /// The default: strict where the user's own reference contains a digest.
    pub fn default_for(user_gave_digest: bool) -> Self {
        if user_gave_digest {
            Policy::Strict
        } else {
            Policy::Registry
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::Registry => "registry",
            Policy::Strict => "strict",
        })
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "registry" => Ok(Policy::Registry),
            "strict" => Ok(Policy::Strict),
            other => Err(format!(
                "trust policy {other:?} is neither \"registry\" nor \"strict\""
            )),
        }
    }
}

/// Where an index came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Built here, against the verified layer digest.
    Built,
    /// Found in this root, where an earlier image left it.
    Local,
    /// Named by the image manifest itself, so that the image's digest vouches for it.
    Bound,
    /// A referrer of the image manifest in the same repository.
    Referrer,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Built => "built",
            Source::Local => "local",
            Source::Bound => "bound",
            Source::Referrer => "referrer",
        })
    }
}

/// How far an index is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Built against the verified layer, closed against its diff ID, bound by the image's digest,
    /// or signed by a believed key.
    Trusted,
    /// Accepted for one repository by policy, until the layer is closed.
    Unclosed,
    /// The layer's bytes do not agree with it: nothing is served from it any more.
    Poisoned,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trust::Trusted => "trusted",
            Trust::Unclosed => "unclosed",
            Trust::Poisoned => "poisoned",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_in_the_users_reference_makes_it_strict() {
        assert_eq!(Policy::default_for(true), Policy::Strict);
        assert_eq!(Policy::default_for(false), Policy::Registry);
    }

    #[test]
    fn an_unknown_policy_is_named() {
        assert!("lax".parse::<Policy>().unwrap_err().contains("lax"));
    }
}
