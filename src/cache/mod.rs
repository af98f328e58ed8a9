//! The local copy of layers: verified leaves in sparse files, a bitmap of what is present, a byte budget. Knows no HTTP and no tar.
