//! From a layer's stream to its index: hostile-input tar reader and the streaming builder.

pub mod tar;
