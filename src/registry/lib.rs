//! OCI distribution: references, authentication, manifests, ranged blobs, referrers, push.
//!
//! A [`Source`] is what the user named: an image in a registry or an image layout directory.
//! [`ImageSource`] reads either through the same operations. [`Client`] is the registry
//! client beneath it, which also has the push side; [`LayoutWriter`] and [`ArchiveWriter`]
//! write layouts. Everything that arrives is checked
//! before it is handed on: manifests and whole blobs against their digest, ranges against
//! the position and length that were asked for.
//!
//! One floor, many small files: `transport` makes one HTTP exchange and holds its limits,
//! `auth` with `challenge`, `token` and `credentials` answers a registry's refusals,
//! `client` follows redirects by hand so that no header reaches a host it is not meant for,
//! and `retry` decides what is worth another attempt.

mod archive;
mod archive_writer;
mod auth;
mod auth_slot;
mod blob;
mod challenge;
mod client;
mod content_range;
mod credentials;
mod delete;
mod dns;
#[cfg(test)]
mod docker_registry_tests;
mod error;
mod fallback;
mod host;
mod hosts;
mod image_source;
mod layout;
mod layout_directory;
mod layout_error;
mod layout_writer;
pub mod limits;
mod manifest;
pub mod media;
mod paging;
mod place;
mod push;
mod redirects;
mod reference;
mod reference_error;
mod referrers;
mod response;
mod retry;
mod source;
mod tags;
#[cfg(test)]
mod testing;
mod timestamp;
mod tls;
mod token;
mod transport;
mod trips;
mod upload;

pub use archive_writer::ArchiveWriter;
pub use blob::{BlobRef, BlobStream};
pub use client::{Client, ClientConfig};
pub use credentials::{Credential, CredentialSource};
pub use error::{RegistryError, Waiting};
pub use image_source::ImageSource;
pub use index_format::Digest;
pub use layout::Layout;
pub use layout_error::LayoutError;
pub use layout_writer::LayoutWriter;
pub use manifest::{Manifest, ManifestTarget};
pub use oci_spec::image::Descriptor;
pub use place::Place;
pub use push::referrer_entry;
pub use reference::{Reference, Repository};
pub use reference_error::{ReferenceError, ReferenceProblem};
pub use retry::RetryPolicy;
pub use source::Source;
pub use transport::Timeouts;
pub use trips::TripCounts;
pub use upload::{ContentRange, Uploaded, in_memory};
