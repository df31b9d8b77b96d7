//! The program `aiki-server`, built with these tests. Campaigns can make its commits slow.

use std::process::ExitCode;

fn main() -> ExitCode {
    integration_tests::campaign::fail_point::arm();
    aiki_server::program::main()
}
