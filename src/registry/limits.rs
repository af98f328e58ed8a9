//! Every limit of this floor, with its reason.

use std::time::Duration;

/// Largest manifest or image index accepted: the distribution specification asks registries
/// to take at least 4 MiB, and registries refuse more.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Largest referrers list, over all its pages: it is an image index, so a manifest's limit.
pub const MAX_REFERRERS_BYTES: u64 = 4 << 20;

/// Most pages of a referrers list that are followed: 4 MiB at 64 KiB a page; a registry that
/// links pages in a circle ends here.
pub const MAX_REFERRERS_PAGES: usize = 64;

/// Largest token response: real ones are a few KiB, cloud registries' tokens up to some 100.
pub const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// How much of an error response is read for its code and message.
pub const MAX_ERROR_BYTES: u64 = 64 << 10;

/// Largest blob read whole into memory (configs, indexes); anything larger is streamed.
pub const MAX_WHOLE_BLOB_BYTES: u64 = 64 << 20;

/// Longest range read into memory in one call; anything longer is streamed.
pub const MAX_RANGE_BYTES: u64 = 256 << 20;

/// How many bytes before a wanted range are read and dropped when a server answers a range
/// request with the whole blob. More would cost more than it brings.
pub const MAX_SKIPPED_BYTES: u64 = 1 << 20;

/// Redirects followed for one request: a registry, its object store and the store's region
/// make two; five leaves room and ends a circle.
pub const MAX_REDIRECTS: usize = 5;

/// Redirect targets remembered per client, one for each blob in use: 1000 images of 8 layers.
pub const MAX_REMEMBERED_REDIRECTS: usize = 8192;

/// Repositories whose tokens are remembered per client.
pub const MAX_REMEMBERED_SCOPES: usize = 1024;

/// Registries whose challenge is remembered per client.
pub const MAX_REMEMBERED_HOSTS: usize = 256;

/// Longest wait that a Retry-After header can ask for; a longer one ends the attempts, and
/// the error carries it for the caller to decide.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Bytes after which a resumed stream counts as making progress, and its attempts start
/// anew. It bounds the requests that a server can cause by closing early: one per 64 KiB.
pub const RESUME_PROGRESS_BYTES: u64 = 64 << 10;

/// Limit for establishing a connection, name lookup and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit between two bytes in either direction, and for a response to begin. A whole
/// transfer has none: a slow link is not an error.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit for one credential helper to answer: they ask keychains and cloud services.
pub const CREDENTIAL_HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest docker config.json or auth.json read.
pub const MAX_AUTH_FILE_BYTES: u64 = 4 << 20;

/// Largest hosts.toml read: real ones name a handful of servers.
pub const MAX_HOSTS_FILE_BYTES: u64 = 1 << 20;

/// Sets of certificates whose connections are kept: one for each mirror that has its own.
pub const MAX_TLS_CLIENTS: usize = 64;

/// Lifetime of a token whose response names none (distribution specification, token).
pub const DEFAULT_TOKEN_LIFETIME: Duration = Duration::from_secs(60);

/// Longest token lifetime believed; a longer one is renewed early, which costs one request.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A token is renewed this long before it expires, or after three quarters of its life when
/// that is later, so that no request is sent with a token that dies on the way.
pub const TOKEN_RENEWAL_MARGIN: Duration = Duration::from_secs(30);

/// Bytes of a blob sent in one request, and held in memory for it: at 100 Mbit/s and 30 ms a
/// request of this size keeps the link for twenty round trips.
pub const UPLOAD_PIECE_BYTES: u64 = 8 << 20;

/// Most bytes of a piece, where a registry wants larger ones than ours.
pub const MAX_UPLOAD_PIECE_BYTES: u64 = 64 << 20;

/// Tags asked for in one page: what the registries that have a limit allow.
pub const TAGS_PER_PAGE: usize = 1000;

/// Largest page of tags: a thousand of the longest tags, and room.
pub const MAX_TAGS_PAGE_BYTES: u64 = 1 << 20;

/// Most tags listed: the largest known repositories have some 100,000.
pub const MAX_TAGS: usize = 1_000_000;

/// Rounds of reading, merging and writing a referrers fallback tag before giving up.
pub const MAX_FALLBACK_ROUNDS: usize = 10;

/// Shortest wait before a written fallback tag is read again. Another writer that had read
/// the tag before our write has written by then.
pub const MIN_FALLBACK_SETTLE: Duration = Duration::from_millis(200);

/// Most members of an archive with an image layout: an image of many platforms has hundreds.
pub const MAX_ARCHIVE_MEMBERS: usize = 65_536;

/// Most manifests opened when an image layout is searched for referrers.
pub const MAX_LAYOUT_MANIFESTS: usize = 4096;
