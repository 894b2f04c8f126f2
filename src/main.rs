//! The `seer` binary.
fn main() {}
