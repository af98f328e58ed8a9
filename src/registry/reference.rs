//! Image references, read as Docker and containerd read them.
//!
//! Grammar and defaults: the `reference` package of the distribution project. Short names
//! mean Docker Hub, one-component Hub names lie under `library/`, a reference without tag
//! and digest means `latest`, and where both are given the digest decides.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::host::{HUB, HUB_ALIAS};
use crate::manifest::ManifestTarget;
use crate::reference_error::{ReferenceError, ReferenceProblem};
use index_format::Digest;

/// Limit of host and repository together, of the distribution project's grammar.
const MAX_NAME_BYTES: usize = 255;
/// Limit of a tag, of the distribution specification.
const MAX_TAG_BYTES: usize = 128;

/// A repository: the registry's host, with its port, and the path in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    name: String,
}

impl Repository {
    /// The registry as references name it: `docker.io`, `localhost:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository of the same name at another host.
    pub(super) fn at_host(&self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            name: self.name.clone(),
        }
    }

    /// The path in the registry: `library/alpine`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// An image in a registry. Displayed in full: `docker.io/library/alpine:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
    user_digest: bool,
}

impl Reference {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag; `latest` where the user gave neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, given by the user or added by [`Reference::resolved`].
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// True when the digest is part of what the user wrote, so that the content asked for is
    /// exactly that; a digest found by resolving a tag does not count.
    pub fn has_user_digest(&self) -> bool {
        self.user_digest
    }

    /// This reference with the digest its tag resolved to.
    #[must_use]
    pub fn resolved(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// What to ask the registry for: the digest where there is one, else the tag.
    pub fn target(&self) -> ManifestTarget {
        match (self.digest, &self.tag) {
            (Some(digest), _) => ManifestTarget::Digest(digest),
            (None, Some(tag)) => ManifestTarget::Tag(tag.clone()),
            (None, None) => ManifestTarget::Tag("latest".to_owned()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(input: &str) -> Result<Self, ReferenceError> {
        parse(input).map_err(|problem| ReferenceError {
            input: input.to_owned(),
            problem,
        })
    }
}

fn parse(input: &str) -> Result<Reference, ReferenceProblem> {
    if let Some((scheme, _)) = input.split_once("://") {
        return Err(ReferenceProblem::Scheme(format!("{scheme}://")));
    }
    let (rest, digest) = match input.split_once('@') {
        Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
        None => (input, None),
    };
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if digest.is_none() && tag.is_none() && is_image_id(name) {
        return Err(ReferenceProblem::ImageId(name.to_owned()));
    }
    let repository = parse_name(name)?;
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some("latest".to_owned()),
    };
    Ok(Reference {
        repository,
        tag,
        digest,
        user_digest: digest.is_some(),
    })
}

/// Splits a tag off: the part after the last ':' that no '/' follows (a port is followed by
/// one).
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !tag.contains(']') => (name, Some(tag)),
        _ => (text, None),
    }
}

fn parse_name(name: &str) -> Result<Repository, ReferenceProblem> {
    let (host, path) = split_host(name);
    if path.is_empty() {
        return Err(ReferenceProblem::Empty);
    }
    check_host(host)?;
    check_path(path)?;
    let host = if host == HUB_ALIAS { HUB } else { host };
    let path = match host {
        HUB if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    let length = host.len() + 1 + path.len();
    if length > MAX_NAME_BYTES {
        return Err(ReferenceProblem::TooLong(length));
    }
    Ok(Repository {
        host: host.to_owned(),
        name: path,
    })
}

/// The first component is a host when it cannot be a repository's: it has a '.' or ':', is
/// `localhost`, or has capital letters.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (HUB, name),
    }
}

fn check_host(host: &str) -> Result<(), ReferenceProblem> {
    let invalid = || ReferenceProblem::Host(host.to_owned());
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (ip, after) = rest.split_once(']').ok_or_else(invalid)?;
        ip.parse::<Ipv6Addr>().map_err(|_| invalid())?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(invalid()),
        };
        (None, port)
    } else {
        match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        }
    };
    // `parse` alone would take "+80".
    let valid_port =
        |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0);
    if port.is_some_and(|port| !valid_port(port)) || !name.is_none_or(is_domain) {
        return Err(invalid());
    }
    Ok(())
}

fn is_domain(name: &str) -> bool {
    name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn check_path(path: &str) -> Result<(), ReferenceProblem> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceProblem::UpperCase(path.to_ascii_lowercase()));
    }
    match path
        .split('/')
        .find(|component| !is_path_component(component))
    {
        Some(component) => Err(ReferenceProblem::Component(component.to_owned())),
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|b| alphanumeric(*b))
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

/// Checks a tag against the distribution specification: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(super) fn check_tag(tag: &str) -> Result<(), ReferenceProblem> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = tag.len() <= MAX_TAG_BYTES
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if valid {
        Ok(())
    } else {
        Err(ReferenceProblem::Tag(tag.to_owned()))
    }
}

/// Reads a digest as the user wrote it.
pub(super) fn parse_digest(text: &str) -> Result<Digest, ReferenceProblem> {
    match text.split_once(':') {
        Some(("sha256", _)) => text
            .parse()
            .map_err(|_| ReferenceProblem::Digest(text.to_owned())),
        Some((algorithm, _)) => Err(ReferenceProblem::Algorithm(algorithm.to_owned())),
        None => Err(ReferenceProblem::Digest(text.to_owned())),
    }
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests;
