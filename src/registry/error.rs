//! What can go wrong between brisk and a registry.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::layout_error::LayoutError;
use crate::reference_error::ReferenceError;
use index_format::Digest;

/// What was being waited for when a limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// For a response to begin, or for the other side to take the next bytes of a request.
    Response,
    /// For the next bytes of a response.
    Body,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Response => "no response",
            Self::Body => "the response stalled",
        })
    }
}

/// A failed registry operation. `at` is the URL without its query, which may hold a
/// signature, or the path of a file in an image layout.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The reference cannot be used.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The HTTP client could not be set up.
    #[error("cannot set up HTTP: {reason}")]
    Setup {
        /// What is wrong, with the file concerned.
        reason: String,
    },
    /// The connection could not be made or broke.
    #[error("{at}: {}", chain(.source))]
    Connection {
        /// Where.
        at: String,
        /// What the HTTP client says, without the URL.
        source: reqwest::Error,
    },
    /// A wait passed its limit.
    #[error("{at}: {waiting} for {after:?}")]
    Timeout {
        /// Where.
        at: String,
        /// For what.
        waiting: Waiting,
        /// The limit.
        after: Duration,
    },
    /// The server answered with an error.
    #[error("{at}: HTTP {status}{}{detail}", if .detail.is_empty() { "" } else { ": " })]
    Status {
        /// Where.
        at: String,
        /// The HTTP status.
        status: u16,
        /// The registry's code and message, as far as it gave any.
        detail: String,
        /// The wait that the server asked for.
        retry_after: Option<Duration>,
    },
    /// No credential opens this repository.
    #[error(
        "{host}/{repository}: access refused (HTTP {status}); it does not exist or needs a \
         login; tried {tried}"
    )]
    Unauthorized {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// 401 or 403.
        status: u16,
        /// The credential sources tried and what each gave, without secrets.
        tried: String,
    },
    /// The registry asks for credentials in a way that cannot be answered.
    #[error("{host}: cannot answer its authentication challenge: {reason}")]
    Challenge {
        /// The registry.
        host: String,
        /// Why.
        reason: String,
    },
    /// Another request's attempt to obtain a token, which this one waited for, failed.
    #[error("{host}: no token: {reason}")]
    TokenFlight {
        /// The registry.
        host: String,
        /// What that attempt reported.
        reason: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The bytes are not those of the digest.
    #[error("{at}: expected {expected}, the content has {actual}")]
    DigestMismatch {
        /// Where.
        at: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The registry's Docker-Content-Digest is not the digest of the body.
    #[error("{at}: the registry announced {announced}, the content has {actual}")]
    AnnouncedDigest {
        /// Where.
        at: String,
        /// The header's value.
        announced: String,
        /// The digest of what came.
        actual: Digest,
    },
    /// More bytes than the limit or the descriptor allows.
    #[error("{at}: larger than {limit} bytes")]
    TooLarge {
        /// Where.
        at: String,
        /// The limit passed.
        limit: u64,
    },
    /// The body ended early.
    #[error("{at}: the response ended after {got} of {expected} bytes")]
    ShortBody {
        /// Where.
        at: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// The response is not the range asked for.
    #[error("{at}: asked for bytes {}..{} of {size}, the server sent {got}", .wanted.start, .wanted.end)]
    WrongRange {
        /// Where.
        at: String,
        /// The range asked for.
        wanted: Range<u64>,
        /// The blob's size.
        size: u64,
        /// What the response's headers say.
        got: String,
    },
    /// A range outside the blob or above the limit was asked of this client.
    #[error("{at}: bytes {}..{} of {size} cannot be asked for", .wanted.start, .wanted.end)]
    InvalidRange {
        /// Where.
        at: String,
        /// The range asked for.
        wanted: Range<u64>,
        /// The blob's size.
        size: u64,
    },
    /// The server sends whole blobs only, and the range is too far inside to skip to.
    #[error("{at}: the server ignores range requests, and byte {offset} is too far to skip to")]
    RangeUnsupported {
        /// Where.
        at: String,
        /// Where the range starts.
        offset: u64,
    },
    /// The body has a content encoding that was not asked for.
    #[error("{at}: unexpected Content-Encoding {encoding:?}")]
    ContentEncoding {
        /// Where.
        at: String,
        /// The header's value.
        encoding: String,
    },
    /// A redirect that is not followed.
    #[error("{at}: redirect refused: {reason}")]
    Redirect {
        /// Where.
        at: String,
        /// Why.
        reason: String,
    },
    /// A document that is not what the protocol says.
    #[error("{at}: {reason}")]
    Malformed {
        /// Where.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// Other writers kept overwriting the referrers fallback tag.
    #[error(
        "{repository}: tag {tag} did not keep the entry for {digest} over {rounds} rounds; \
         other writers are updating it, try again later"
    )]
    FallbackTag {
        /// Host and repository.
        repository: String,
        /// The fallback tag.
        tag: String,
        /// The manifest to be listed.
        digest: Digest,
        /// How often it was tried.
        rounds: usize,
    },
    /// An image layout directory cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl RegistryError {
    /// A failed connection. The URL is left out of the client's error: its query may hold a
    /// signature.
    pub(super) fn connection(at: &str, error: reqwest::Error) -> Self {
        Self::Connection {
            at: at.to_owned(),
            source: error.without_url(),
        }
    }

    /// True when the manifest, blob or repository does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 404 | 410),
            Self::Layout(error) => error.is_not_found(),
            _ => false,
        }
    }

    /// True when other credentials, or a login, could help.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Self::Unauthorized { .. } | Self::Challenge { .. } => true,
            Self::Status { status, .. } => matches!(status, 401 | 403),
            Self::TokenFlight { retryable, .. } => !retryable,
            _ => false,
        }
    }

    /// True when the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connection { source, .. } => !source.is_builder() && !is_distrust(source),
            Self::Timeout { .. } | Self::ShortBody { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::TokenFlight { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// True when the server cannot serve parts of blobs, only whole ones.
    pub fn is_range_unsupported(&self) -> bool {
        matches!(self, Self::RangeUnsupported { .. })
    }

    /// True when content arrived but is not what was asked for: another source may have it.
    pub fn is_corrupt(&self) -> bool {
        matches!(
            self,
            Self::DigestMismatch { .. }
                | Self::AnnouncedDigest { .. }
                | Self::WrongRange { .. }
                | Self::ContentEncoding { .. }
                | Self::TooLarge { .. }
        )
    }

    /// True when the server could not be talked to at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connection { source, .. } if source.is_connect())
    }

    /// True when the limit of a wait passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// The HTTP status, where the server answered with an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Unauthorized { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// True when nobody whom this machine believes vouches for the server's certificate.
    pub fn is_distrusted(&self) -> bool {
        matches!(self, Self::Connection { source, .. } if is_distrust(source))
    }

    /// The wait the server asked for, where it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// True when the server's certificate is refused for a reason that time does not change. A
/// wrong clock does pass: edge devices boot without one.
fn is_distrust(error: &reqwest::Error) -> bool {
    use rustls::CertificateError as E;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        let tls = inner.downcast_ref::<rustls::Error>();
        if let Some(rustls::Error::InvalidCertificate(reason)) = tls {
            return !matches!(
                reason,
                E::Expired
                    | E::ExpiredContext { .. }
                    | E::NotValidYet
                    | E::NotValidYetContext { .. }
            );
        }
        // An I/O error's own source is that of the error it wraps, which would be skipped.
        cause = match inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    false
}

/// An error and its causes on one line: reqwest's own text names only the outermost.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
