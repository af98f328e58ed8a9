//! An OCI runtime with the command line of runc.
