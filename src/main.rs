//! The program. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    provost::cli::main(std::env::args_os().skip(1))
}
