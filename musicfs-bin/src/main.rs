//! The `musicfs` binary.
fn main() {}
