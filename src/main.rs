//! `brisk`: parses the command line and dispatches to one verb.
fn main() {}
