//! The binary `phalanx`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use phalanx_launch::runfile::Registered;

fn main() -> ExitCode {
    phalanx_launch::run(std::env::args_os(), &Registered::default()).into()
}
