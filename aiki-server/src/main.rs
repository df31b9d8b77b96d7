//! The program `aiki-server`: serves the orchestrator over HTTP. `docs/operating.md` is its manual.

use std::process::ExitCode;

fn main() -> ExitCode {
    aiki_server::program::main()
}
