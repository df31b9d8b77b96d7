//! The program `aiki-server`, built with these tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    aiki_server::program::main()
}
