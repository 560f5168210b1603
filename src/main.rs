//! The program `ringtide`; all of it stands in [`ringtide::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ringtide::cli::run()
}
