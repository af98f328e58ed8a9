//! Containers of `brisk run`: specification, state on disk, monitor process, log.
