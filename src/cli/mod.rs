//! The program: what was typed becomes settings, settings become a running peer, a cluster to play with, or a question to a peer.
//!
//! Exit codes: 0 done or stopped as asked; 2 the command line or a setting is wrong and nothing was touched; 1 anything else.
//! Everything but 0 comes with one sentence on stderr.

mod ask;
mod flags;
mod layers;
mod local;
mod logging;
mod machine;
mod reply;
mod secret;
mod settings;
mod up;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use ask::{Question, ask, ask_with_progress};
use flags::{AskFlags, Command, CommandLine};
use layers::Wrong;
use settings::{Ask, Local, Up, World};

/// Why the program ends with a code other than 0.
#[derive(Debug)]
enum Failure {
    /// The command line or a setting is wrong. Nothing was touched.
    Wrong(String),
    /// It could not be done.
    Failed(String),
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong.to_string())
    }
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    let outcome = match CommandLine::try_parse() {
        Ok(command_line) => execute(command_line),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Whoever closed the pipe has read enough of the help.
            let _ = error.print();
            Ok(())
        }
        Err(error) => Err(Failure::Wrong(one_sentence(&error.render().to_string()))),
    };
    let (sentence, code) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Wrong(sentence)) => (sentence, 2),
        Err(Failure::Failed(sentence)) => (sentence, 1),
    };
    eprintln!("ringtide: {sentence}");
    ExitCode::from(code)
}

fn execute(command_line: CommandLine) -> Result<(), Failure> {
    let world = World::real();
    let put = |flags: AskFlags, question: Question| ask(&Ask::check(flags, &world)?, &question);
    match command_line.command {
        None => up::run(Up::check(command_line.up, &world)?),
        Some(Command::Up(flags)) => up::run(Up::check(*flags, &world)?),
        Some(Command::Local(flags)) => local::run(&Local::check(flags, &world)?),
        Some(Command::Secret) => {
            println!("{}", secret::generate().map_err(Failure::Failed)?);
            Ok(())
        }
        Some(Command::Status(flags)) => put(flags, Question::new("STATUS")),
        Some(Command::Peers(flags)) => put(flags, Question::new("PEERS")),
        Some(Command::Ring(flags)) => put(flags, Question::new("RING")),
        Some(Command::Sync(flags)) => put(flags, Question::new("SYNC")),
        Some(Command::Owners(flags)) => put(flags.ask, Question::new("OWNERS").with(bytes(flags.key))),
        Some(Command::Explain(flags)) => put(flags.ask, Question::new("EXPLAIN").with(bytes(flags.key))),
        Some(Command::Siblings(flags)) => put(flags.ask, Question::new("SIBLINGS").with(bytes(flags.key))),
        Some(Command::Leave(flags)) => {
            let question = Question::new("LEAVE");
            let question = if flags.force { question.with("FORCE") } else { question };
            ask_with_progress(&Ask::check(flags.ask, &world)?, question)
        }
        Some(Command::Forget(flags)) => put(flags.ask, Question::new("FORGET").with(flags.peer).with("REPORT")),
    }
}

/// A key as it was typed: any bytes, not only text.
fn bytes(key: OsString) -> Vec<u8> {
    key.into_encoded_bytes()
}

/// The sentence of an error of the command line, without the usage that follows it.
fn one_sentence(rendered: &str) -> String {
    let is_advice = |line: &&str| ["Usage:", "tip:", "For more information"].iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = rendered.lines().map(str::trim).filter(|line| !line.is_empty()).take_while(|line| !is_advice(line)).collect();
    let sentence = lines.join(" ");
    sentence.strip_prefix("error: ").unwrap_or(&sentence).to_owned()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::flags::CommandLine;
    use super::one_sentence;

    fn refused(arguments: &[&str]) -> String {
        let arguments = ["ringtide"].iter().chain(arguments);
        one_sentence(&CommandLine::try_parse_from(arguments).unwrap_err().render().to_string())
    }

    #[test]
    fn a_wrong_command_line_gets_one_sentence_that_names_the_flag() {
        assert_eq!(refused(&["--replica", "3"]), "unexpected argument '--replica' found");
        assert_eq!(refused(&["up", "--resp"]), "a value is required for '--resp <ADDR:PORT>' but none was supplied");
        assert_eq!(refused(&["--zone", "a", "--zone", "b"]), "the argument '--zone <NAME>' cannot be used multiple times");
        assert_eq!(refused(&["owners"]), "the following required arguments were not provided: <KEY>");
        assert!(refused(&["frobnicate"]).contains("'frobnicate'"));
    }

    #[test]
    fn the_help_tells_every_flag_with_its_default() {
        CommandLine::command().debug_assert();
        for command in [CommandLine::command(), CommandLine::command().find_subcommand("up").unwrap().clone()] {
            for flag in command.get_arguments().filter(|flag| !flag.is_hide_set() && flag.get_action().takes_values()) {
                let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("[default: "), "{flag} tells no default: {help}");
            }
        }
    }
}
