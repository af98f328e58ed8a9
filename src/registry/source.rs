//! What the user names: an image in a registry, or an image layout directory.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::reference::{Reference, check_tag, parse_digest};
use crate::reference_error::{ReferenceError, ReferenceProblem};
use index_format::Digest;

const LAYOUT_PREFIX: &str = "oci:";

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An image in a registry.
    Registry(Reference),
    /// An OCI image layout directory: `oci:DIR[:TAG][@sha256:DIGEST]`.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The `org.opencontainers.image.ref.name` to look for; none means the only entry.
        tag: Option<String>,
        /// The manifest, when the user gave its digest.
        digest: Option<Digest>,
    },
}

impl Source {
    /// True when the user's own words contain a digest.
    pub fn has_user_digest(&self) -> bool {
        match self {
            Self::Registry(reference) => reference.has_user_digest(),
            Self::Layout { digest, .. } => digest.is_some(),
        }
    }
}

impl FromStr for Source {
    type Err = ReferenceError;

    /// A registry can be called `oci` only with a tag that is no path: `oci:DIR` always
    /// means a layout, as in other tools; write `docker.io/library/oci:TAG` for the image.
    fn from_str(input: &str) -> Result<Self, ReferenceError> {
        let Some(rest) = input.strip_prefix(LAYOUT_PREFIX) else {
            return Ok(Self::Registry(input.parse()?));
        };
        parse_layout(rest).map_err(|problem| ReferenceError {
            input: input.to_owned(),
            problem,
        })
    }
}

fn parse_layout(rest: &str) -> Result<Source, ReferenceProblem> {
    let (rest, digest) = match rest.rsplit_once("@sha256:") {
        Some((dir, hex)) => (dir, Some(parse_digest(&format!("sha256:{hex}"))?)),
        None => (rest, None),
    };
    let (dir, tag) = match rest.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') => (dir, Some(tag)),
        _ => (rest, None),
    };
    if dir.is_empty() {
        return Err(ReferenceProblem::NoDirectory);
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    Ok(Source::Layout {
        dir: PathBuf::from(dir),
        tag: tag.map(str::to_owned),
        digest,
    })
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { dir, tag, digest } => {
                write!(f, "{LAYOUT_PREFIX}{}", dir.display())?;
                if let Some(tag) = tag {
                    write!(f, ":{tag}")?;
                }
                if let Some(digest) = digest {
                    write!(f, "@{digest}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(input: &str) -> (String, Option<String>, bool) {
        match input.parse().unwrap() {
            Source::Layout { dir, tag, digest } => {
                (dir.display().to_string(), tag, digest.is_some())
            }
            Source::Registry(reference) => panic!("{reference} is no layout"),
        }
    }

    #[test]
    fn layouts_have_a_directory_and_perhaps_a_tag() {
        assert_eq!(layout("oci:/a/b"), ("/a/b".to_owned(), None, false));
        assert_eq!(
            layout("oci:b:v1"),
            ("b".to_owned(), Some("v1".to_owned()), false)
        );
        assert_eq!(layout("oci:/a:b/c"), ("/a:b/c".to_owned(), None, false));
        let digest = Digest::of(b"");
        let pinned = format!("oci:/a:v1@{digest}");
        assert_eq!(
            layout(&pinned),
            ("/a".to_owned(), Some("v1".to_owned()), true)
        );
        let source: Source = pinned.parse().unwrap();
        assert_eq!(source.to_string(), pinned);
        assert!(source.has_user_digest());
    }

    #[test]
    fn a_layout_without_directory_is_refused() {
        for input in ["oci:", "oci::tag"] {
            let error = input.parse::<Source>().unwrap_err();
            assert_eq!(error.problem, ReferenceProblem::NoDirectory);
        }
        let error = "oci:dir:-x".parse::<Source>().unwrap_err();
        assert_eq!(error.problem, ReferenceProblem::Tag("-x".to_owned()));
    }

    #[test]
    fn everything_else_is_a_reference() {
        let source: Source = "alpine".parse().unwrap();
        assert_eq!(source.to_string(), "docker.io/library/alpine:latest");
        assert!(!source.has_user_digest());
    }
}
