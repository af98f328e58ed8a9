//! `checkpoint` and `restore`: known, and refused.

use crate::cli::Call;
use crate::cli::flags::Flag;
use crate::error::{Error, Result};

/// Those that callers give, so that they read the reason and not of a flag.
pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("image-path", None),
    Flag::value("work-path", None),
    Flag::value("parent-path", None),
    Flag::value("bundle", Some('b')),
    Flag::value("console-socket", None),
    Flag::value("pid-file", None),
    Flag::value("status-fd", None),
    Flag::value("page-server", None),
    Flag::value("manage-cgroups-mode", None),
    Flag::value("empty-ns", None),
    Flag::value("lsm-profile", None),
    Flag::value("lsm-mount-context", None),
    Flag::switch("leave-running", None),
    Flag::switch("tcp-established", None),
    Flag::switch("ext-unix-sk", None),
    Flag::switch("shell-job", None),
    Flag::switch("lazy-pages", None),
    Flag::switch("file-locks", None),
    Flag::switch("pre-dump", None),
    Flag::switch("auto-dedup", None),
    Flag::switch("detach", Some('d')),
    Flag::switch("no-subreaper", None),
    Flag::switch("no-pivot", None),
];

const REASON: &str = "this runtime does not save processes to disk";

pub(crate) fn checkpoint(_: &Call) -> Result<u8> {
    Err(Error::unsupported("checkpoint", REASON))
}

pub(crate) fn restore(_: &Call) -> Result<u8> {
    Err(Error::unsupported("restore", REASON))
}
