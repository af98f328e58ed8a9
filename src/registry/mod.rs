//! OCI distribution: references, hosts, authentication, manifests, ranged blobs, referrers, push.
