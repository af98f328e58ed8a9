//! The mounted tree of an image: semantics over a merged index, and a thin fuser adapter.
