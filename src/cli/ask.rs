//! Commands that ask a running peer, over the Redis protocol as any client would.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use redis::{Client, Cmd, Connection, ConnectionLike, RedisError};

use super::Failure;
use super::reply::Reply;
use super::settings::Ask;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a peer that leaves is asked how far it is.
const LOOK: Duration = Duration::from_secs(1);

/// One `RINGTIDE` command.
pub(crate) struct Question {
    arguments: Vec<Vec<u8>>,
}

impl Question {
    /// A command without arguments.
    pub(crate) fn new(name: &str) -> Self {
        Self { arguments: vec![name.as_bytes().to_vec()] }
    }

    /// The command with one argument more.
    pub(crate) fn with(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// Asks and prints the answer on stdout.
pub(crate) fn ask(settings: &Ask, question: &Question) -> Result<(), Failure> {
    let reply = request(&mut connect(settings)?, question)?;
    print(settings, &reply);
    Ok(())
}

/// Asks and prints the answer on stdout; until it comes, tells on stderr how much the peer still has to hand over.
pub(crate) fn ask_with_progress(settings: &Ask, question: Question) -> Result<(), Failure> {
    let (mut connection, mut watching) = (connect(settings)?, connect(settings)?);
    let (done, answer) = mpsc::channel();
    thread::spawn(move || done.send(request(&mut connection, &question)));
    let mut told = None;
    loop {
        match answer.recv_timeout(LOOK) {
            Ok(reply) => {
                print(settings, &reply?);
                return Ok(());
            }
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::Failed("the answer was lost".to_owned())),
            Err(RecvTimeoutError::Timeout) => {
                let status = request(&mut watching, &Question::new("STATUS"))?;
                let left = status.number("handing_over").zip(status.number("hints"));
                if let Some((partitions, hints)) = left.filter(|left| told.replace(*left) != Some(*left)) {
                    eprintln!("{partitions} partitions and {hints} hints are still to be handed over");
                }
            }
        }
    }
}

fn request(connection: &mut Connection, question: &Question) -> Result<Reply, Failure> {
    let mut command = Cmd::new();
    command.arg("RINGTIDE");
    for argument in &question.arguments {
        command.arg(argument);
    }
    let value = connection.req_command(&command).map_err(|error| Failure::Failed(sentence(&error)))?;
    let value = value.extract_error().map_err(|error| Failure::Failed(sentence(&error)))?;
    Ok(Reply::from(value))
}

fn print(settings: &Ask, reply: &Reply) {
    let text = if settings.json { reply.json() } else { reply.table() };
    // Whoever closed the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn connect(settings: &Ask) -> Result<Connection, Failure> {
    let unreachable = |error: RedisError| Failure::Failed(format!("no peer answers at {} (--resp): {}", settings.resp, sentence(&error)));
    let client = Client::open(format!("redis://{}/?protocol=resp3", settings.resp)).map_err(unreachable)?;
    client.get_connection_with_timeout(CONNECT_TIMEOUT).map_err(unreachable)
}

/// The error as the peer worded it; an error on the way as the operating system did.
fn sentence(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, Some(detail)) => detail.to_owned(),
        (None, None) => error.to_string(),
    }
}
