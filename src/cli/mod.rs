//! One file per verb: parses, dispatches, maps errors to exit codes.
