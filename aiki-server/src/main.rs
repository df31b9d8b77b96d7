//! The program `aiki-server`: serves the orchestrator over HTTP. `docs/operating.md` is its manual.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
