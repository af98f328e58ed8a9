//! From a reference to a readable image: manifest, platform, indexes and their trust, config, merge.
