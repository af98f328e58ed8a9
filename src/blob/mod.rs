//! Bytes of a blob by range, wherever they lie: a registry, a local file, a faulty double.
