//! `brisk run` and its companions end to end: real containers by a real OCI runtime, over
//! an image that is a plain directory instead of a lazily mounted one.
//!
//! `BRISK_TEST_RUNTIME` names the OCI runtime (default: runc). Needs root, overlayfs,
//! cgroups, busybox-static and the runtime; without them the tests fail and say so.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod attached;
mod detached;
mod endings;
mod executed;
mod harness;
mod node;
mod options;
mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os(program::IMAGES).is_some() {
        return program::main();
    }
    let mut tests = Vec::new();
    tests.extend(attached::TESTS);
    tests.extend(detached::TESTS);
    tests.extend(endings::TESTS);
    tests.extend(executed::TESTS);
    tests.extend(options::TESTS);
    harness::main(&tests)
}
