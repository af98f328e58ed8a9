//! containerd's snapshots.v1 API as a proxy plugin serves it: [`Snapshotter`] has the meaning of
//! the ten calls, [`service`] puts it into gRPC, [`socket`] serves it on a unix socket.

pub mod calls;
pub mod directories;
pub mod error;
pub mod filter;
pub mod metadata;
pub mod mounts;
pub mod provide;
pub mod record;
pub mod remote;
pub mod service;
pub mod snapshotter;
pub mod socket;
pub mod usage;

pub use error::SnapshotError;
pub use snapshotter::Snapshotter;

/// The wire form of the API, generated from `proto/`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod wire {
    /// Types that containerd's services share.
    pub mod types {
        tonic::include_proto!("containerd.types");
    }
    /// containerd's package names, as the generated code refers to them.
    pub mod services {
        /// The snapshots service.
        pub mod snapshots {
            /// Version 1.
            pub mod v1 {
                tonic::include_proto!("containerd.services.snapshots.v1");
            }
        }
    }
}
