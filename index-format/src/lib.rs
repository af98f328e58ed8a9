//! The per-layer file index: bytes to structures and back.
