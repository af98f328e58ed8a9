//! What can be wrong with a reference, each with its remedy.

/// A reference that cannot be used, with the input as it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {input:?}: {problem}")]
pub struct ReferenceError {
    /// What the user wrote.
    pub input: String,
    /// What is wrong with it.
    pub problem: ReferenceProblem,
}

/// Why a reference cannot be used, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceProblem {
    /// Nothing, or nothing before the tag.
    #[error("the repository name is empty; write it as [HOST/]NAME[:TAG][@sha256:DIGEST]")]
    Empty,
    /// `https://` or the like in front.
    #[error("leave out {0:?}: a reference has no scheme")]
    Scheme(String),
    /// A host that is none.
    #[error("{0:?} is not a host name; write HOST, HOST:PORT or [IPV6]:PORT")]
    Host(String),
    /// A capital letter in the repository.
    #[error("the repository must be lower case; did you mean {0:?}?")]
    UpperCase(String),
    /// A path component outside the grammar.
    #[error(
        "{0:?} is not a repository path component; use a-z and 0-9, separated by single \
         '.', one or two '_', or any number of '-'"
    )]
    Component(String),
    /// More than 255 bytes of host and repository.
    #[error("host and repository take {0} bytes, the limit is 255")]
    TooLong(usize),
    /// 64 hexadecimal digits are an image ID, not a repository.
    #[error("this is an image ID, not a repository; write NAME@sha256:{0}")]
    ImageId(String),
    /// A tag outside the grammar.
    #[error(
        "{0:?} is not a tag; use up to 128 of A-Z, a-z, 0-9, '_', '.' and '-', \
         not starting with '.' or '-'"
    )]
    Tag(String),
    /// A digest of another algorithm.
    #[error("digest algorithm {0:?} is not supported; use the image's sha256 digest")]
    Algorithm(String),
    /// A sha256 digest of the wrong shape.
    #[error("{0:?} is not a digest; write sha256: and 64 lower-case hexadecimal digits")]
    Digest(String),
    /// `oci:` without a directory.
    #[error("the layout directory is missing; write oci:DIR[:TAG] or oci:DIR@sha256:DIGEST")]
    NoDirectory,
}
