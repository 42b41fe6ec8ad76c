//! kombify
fn main() {}
