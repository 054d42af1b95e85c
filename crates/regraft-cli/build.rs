//! Rebuilds the program when a file of a bundled project appears or goes: embedding alone only
//! notices changed ones.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    writeln!(std::io::stdout(), "cargo::rerun-if-changed=../../projects")
}
