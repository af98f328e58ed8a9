//! FUSE sessions, the keeper that holds them, mount records, recovery.
