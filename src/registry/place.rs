//! What a transfer reads or writes: an image in a registry, in an image layout directory, or in
//! a tar archive of one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::reference::check_tag;
use crate::reference_error::{ReferenceError, ReferenceProblem};
use crate::source::Source;

const ARCHIVE_PREFIX: &str = "oci-archive:";

/// Where an image is copied from or to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A registry or an image layout directory.
    Source(Source),
    /// A tar archive of an image layout: `oci-archive:FILE[:TAG]`.
    Archive {
        /// The archive.
        file: PathBuf,
        /// The tag in it; none means the only entry.
        tag: Option<String>,
    },
}

impl FromStr for Place {
    type Err = ReferenceError;

    fn from_str(input: &str) -> Result<Self, ReferenceError> {
        let Some(rest) = input.strip_prefix(ARCHIVE_PREFIX) else {
            return Ok(Self::Source(input.parse()?));
        };
        let refused = |problem| ReferenceError {
            input: input.to_owned(),
            problem,
        };
        let (file, tag) = match rest.rsplit_once(':') {
            Some((file, tag)) if !tag.contains('/') => (file, Some(tag)),
            _ => (rest, None),
        };
        if file.is_empty() {
            return Err(refused(ReferenceProblem::NoDirectory));
        }
        if let Some(tag) = tag {
            check_tag(tag).map_err(refused)?;
        }
        Ok(Self::Archive {
            file: file.into(),
            tag: tag.map(str::to_owned),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => source.fmt(f),
            Self::Archive { file, tag } => {
                write!(f, "{ARCHIVE_PREFIX}{}", file.display())?;
                match tag {
                    Some(tag) => write!(f, ":{tag}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_a_file_and_perhaps_a_tag() {
        let place: Place = "oci-archive:/a/b.tar:v1".parse().unwrap();
        let file = PathBuf::from("/a/b.tar");
        let tag = Some("v1".to_owned());
        assert_eq!(place, Place::Archive { file, tag });
        assert_eq!(place.to_string(), "oci-archive:/a/b.tar:v1");
        let untagged: Place = "oci-archive:b.tar".parse().unwrap();
        assert!(matches!(untagged, Place::Archive { tag: None, .. }));
        for wrong in ["oci-archive:", "oci-archive:x:-", "oci:"] {
            let error = wrong.parse::<Place>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(matches!("alpine".parse(), Ok(Place::Source(_))));
    }
}
