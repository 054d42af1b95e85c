//! The binary `regraft`.
fn main() {}
