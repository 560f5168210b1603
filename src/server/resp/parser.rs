//! Reads commands out of the bytes of a client, as they arrive.
//!
//! A client sends nothing but commands, and a command is one of two things:
//!
//! ```text
//! *2\r\n$3\r\nGET\r\n$1\r\nk\r\n      an array of bulk strings
//! GET k\r\n                            a line, split at spaces ("inline")
//! ```
//!
//! So there is nothing to recurse into, and the parser is a machine of four states that remembers where it stopped: each
//! byte is looked at once, however the network cuts them up. It allocates for what has arrived and never for what was
//! announced. Values above the limit are skipped without being kept, so that the client gets an error instead of a closed
//! connection. The errors and their order are those of Redis (`networking.c`, `processMultibulkBuffer`).

use bytes::{Buf, Bytes, BytesMut};

use super::inline;
use super::integer::parse_integer;
use crate::config::{MAX_ANNOUNCED, MAX_ARGUMENTS, MAX_INLINE, MAX_REQUEST, MAX_STRANGER, MAX_VALUE};

/// Arguments up to this length are copied, so that ten bytes of a key don't pin a whole read buffer.
const COPIED: usize = 16 * 1024;
/// What an argument costs beside its bytes.
const ARGUMENT_COST: usize = 64;

/// What a client asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// The name of a command and its arguments; never empty.
    Command(Vec<Bytes>),
    /// A command with a value above [`MAX_VALUE`], or above [`MAX_REQUEST`] altogether. Its bytes were thrown away.
    TooBig,
    /// A command whose bytes were thrown away since [`Parser::discard`] said so.
    Discarded,
}

/// Bytes that are no command. Nothing after them can be understood either, so the connection has to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The number of arguments is no number, or above [`MAX_ARGUMENTS`].
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidCount,
    /// The line with the number of arguments has no end.
    #[error("ERR Protocol error: too big mbulk count string")]
    EndlessCount,
    /// More arguments than a client may send before it gave the password.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    StrangerCount,
    /// An argument that is not announced by its length.
    #[error("ERR Protocol error: expected '$', got '{}'", char::from(*.0))]
    NotBulk(u8),
    /// The length of an argument is no number, or above [`MAX_ANNOUNCED`].
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidLength,
    /// The line with the length of an argument has no end.
    #[error("ERR Protocol error: too big bulk count string")]
    EndlessLength,
    /// A longer argument than a client may send before it gave the password.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    StrangerLength,
    /// An inline command has no end.
    #[error("ERR Protocol error: too big inline request")]
    EndlessInline,
    /// The quotes of an inline command don't match.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first byte of a command.
    Start,
    /// Before the line with the length of the next argument.
    Length,
    /// Within an argument of this many bytes.
    Argument(usize),
    /// Within an argument that is thrown away, this many bytes and a line end before its end.
    Skip(usize),
}

/// A parser for the bytes of one client.
///
/// ```
/// use ringtide::server::resp::parser::{Parser, Request};
///
/// let mut parser = Parser::default();
/// let mut input = bytes::BytesMut::from("*1\r\n$4\r\nPI");
/// assert_eq!(parser.feed(&mut input), Ok(None));
/// input.extend_from_slice(b"NG\r\n");
/// assert_eq!(parser.feed(&mut input), Ok(Some(Request::Command(vec!["PING".into()]))));
/// ```
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Bytes of the line at hand that are known not to end it.
    searched: usize,
    /// Arguments of the command at hand that are still to come.
    missing: usize,
    arguments: Vec<Bytes>,
    /// What the arguments cost in memory, that of the last one as it was announced.
    cost: usize,
    /// What those that have arrived cost.
    kept: usize,
    /// Whether the command at hand exceeds a limit, so that nothing of it is kept.
    too_big: bool,
    /// Whether it is thrown away for another reason.
    discarded: bool,
    /// Whether the client has yet to give the password.
    stranger: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Start,
            searched: 0,
            missing: 0,
            arguments: Vec::new(),
            cost: 0,
            kept: 0,
            too_big: false,
            discarded: false,
            stranger: false,
        }
    }
}

impl Parser {
    /// Tells whether the client has yet to give the password: the limits are then much lower.
    pub fn set_stranger(&mut self, stranger: bool) {
        self.stranger = stranger;
    }

    /// Bytes that the arguments of an unfinished command take.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Throws away what has arrived of an unfinished command, and what is still to come of it.
    pub fn discard(&mut self) {
        if self.missing > 0 {
            self.discarded = true;
            self.forget_arguments();
            if let State::Argument(length) = self.state {
                self.state = State::Skip(length);
            }
        }
    }

    fn forget_arguments(&mut self) {
        self.arguments = Vec::new();
        (self.cost, self.kept) = (0, 0);
    }

    /// Takes the next command off the front of `input`; `None` where it is not complete yet. What was understood is taken
    /// off in any case, so the rest of a command may be appended to what is left.
    ///
    /// # Errors
    /// Where the bytes are no command. The connection is then beyond repair.
    pub fn feed(&mut self, input: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            let progress = match self.state {
                State::Start => match input.first() {
                    None => false,
                    Some(b'*') => self.read_count(input)?,
                    Some(_) => {
                        let Some(arguments) = self.read_inline(input)? else { return Ok(None) };
                        if arguments.is_empty() {
                            continue;
                        }
                        return Ok(Some(Request::Command(arguments)));
                    }
                },
                State::Length => self.read_length(input)?,
                State::Argument(length) => self.read_argument(input, length),
                State::Skip(left) => self.skip(input, left),
            };
            if !progress {
                return Ok(None);
            }
            if self.missing == 0 && matches!(self.state, State::Length) {
                return Ok(Some(self.finish()));
            }
        }
    }

    /// `*N`. A count of zero or less is a command without a name; Redis ignores it.
    fn read_count(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let Some(line) = self.take_line(input, b'\r', ProtocolError::EndlessCount)? else { return Ok(false) };
        let count = parse_integer(&line[1..]).ok_or(ProtocolError::InvalidCount)?;
        let Ok(count) = usize::try_from(count) else { return Ok(true) };
        if count > MAX_ARGUMENTS {
            return Err(ProtocolError::InvalidCount);
        }
        if self.stranger && count > MAX_STRANGER.0 {
            return Err(ProtocolError::StrangerCount);
        }
        if count > 0 {
            self.missing = count;
            self.state = State::Length;
        }
        Ok(true)
    }

    /// `$length`.
    fn read_length(&mut self, input: &mut BytesMut) -> Result<bool, ProtocolError> {
        let Some(line) = self.take_line(input, b'\r', ProtocolError::EndlessLength)? else { return Ok(false) };
        match line.first() {
            Some(b'$') => {}
            // Within an error a line end would end the reply.
            other => return Err(ProtocolError::NotBulk(other.copied().unwrap_or(b' '))),
        }
        let length = parse_integer(&line[1..]).and_then(|length| usize::try_from(length).ok()).ok_or(ProtocolError::InvalidLength)?;
        if length > MAX_ANNOUNCED {
            return Err(ProtocolError::InvalidLength);
        }
        if self.stranger && length > MAX_STRANGER.1 {
            return Err(ProtocolError::StrangerLength);
        }
        self.cost += length + ARGUMENT_COST;
        if length > MAX_VALUE || self.cost > MAX_REQUEST {
            self.too_big = true;
        }
        let thrown_away = self.too_big || self.discarded;
        if thrown_away {
            self.forget_arguments();
        }
        self.state = if thrown_away { State::Skip(length) } else { State::Argument(length) };
        Ok(true)
    }

    /// The bytes of an argument and a line end, which Redis doesn't look at.
    fn read_argument(&mut self, input: &mut BytesMut, length: usize) -> bool {
        if input.len() < length + 2 {
            return false;
        }
        let argument = if length <= COPIED { Bytes::copy_from_slice(&input[..length]) } else { input.split_to(length).freeze() };
        input.advance(if length <= COPIED { length + 2 } else { 2 });
        self.kept += length + ARGUMENT_COST;
        self.arguments.push(argument);
        self.missing -= 1;
        self.state = State::Length;
        true
    }

    fn skip(&mut self, input: &mut BytesMut, left: usize) -> bool {
        if input.len() < left + 2 {
            // The line end stays, so that it is never cut in two.
            let skipped = input.len().min(left);
            input.advance(skipped);
            self.state = State::Skip(left - skipped);
            return false;
        }
        input.advance(left + 2);
        self.missing -= 1;
        self.state = State::Length;
        true
    }

    fn finish(&mut self) -> Request {
        self.state = State::Start;
        (self.cost, self.kept) = (0, 0);
        match (std::mem::take(&mut self.too_big), std::mem::take(&mut self.discarded)) {
            (true, _) => Request::TooBig,
            (_, true) => Request::Discarded,
            _ => Request::Command(std::mem::take(&mut self.arguments)),
        }
    }

    fn read_inline(&mut self, input: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(line) = self.take_line(input, b'\n', ProtocolError::EndlessInline)? else { return Ok(None) };
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        inline::split(line).map(Some).ok_or(ProtocolError::UnbalancedQuotes)
    }

    /// Takes a line off the input, without its end: `\r` and whatever byte follows it, or `\n`.
    fn take_line(&mut self, input: &mut BytesMut, end: u8, endless: ProtocolError) -> Result<Option<BytesMut>, ProtocolError> {
        let found = input[self.searched..].iter().position(|byte| *byte == end).map(|offset| self.searched + offset);
        let ending = if end == b'\r' { 2 } else { 1 };
        if found.unwrap_or(input.len()) > MAX_INLINE {
            return Err(endless);
        }
        match found {
            Some(at) if at + ending <= input.len() => {
                self.searched = 0;
                let line = input.split_to(at);
                input.advance(ending);
                Ok(Some(line))
            }
            Some(at) => {
                self.searched = at;
                Ok(None)
            }
            None => {
                self.searched = input.len();
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests;
