//! One connection: bytes in, commands, replies, bytes out; all in one task.
//!
//! ```text
//! socket ─► input ─► parser ─► dispatch ─► pipeline ─► output ─► socket
//! ```
//!
//! Every turn of the loop starts what can be started, then waits for whichever comes first: a reply that is due, room to
//! write, bytes to read. Replies that are ready together leave in one write. Everything between the two sockets is
//! bounded, and where a bound is reached the step before it pauses: a client that doesn't read its replies is not read
//! from either.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::clients::Seat;
use super::commands::{Action, Call, Note, dispatch, may_change};
use super::lines::Unblocked;
use super::parser::{Parser, Request};
use super::pipeline::{Finished, Pipeline};
use super::reply::Reply;
use super::session::{Session, Silence};
use super::shared::Shared;
use super::subscriptions::message;
use super::tallies::Outcome;
use crate::config::{MAX_OUTPUT, PRESSED_CLIENT, STALLED_CLIENT};
use crate::held::Share;
use crate::node::OperationError;
use crate::pubsub::Mailbox;

/// Bytes asked of the socket at a time.
const READ: usize = 16 * 1024;
/// Bytes that are read ahead while earlier commands run.
const READ_AHEAD: usize = 64 * 1024;
/// A buffer for replies that grew beyond this is given back once it is empty.
const KEPT_OUTPUT: usize = 256 * 1024;
/// Messages wait in the mailbox, where they are counted, rather than in the output, beyond so many bytes.
const OUTPUT_AHEAD: usize = 64 * 1024;
/// How often a quiet connection is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// What is still read from a client after its error was sent, and for how long, so that the error reaches it.
const LINGER: (usize, Duration) = (1024 * 1024, Duration::from_secs(1));

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The client has nothing more to say, or the peer stops: what was started is finished and told.
    Quiet,
    /// The client sent what is no command: likewise, and what else it sends is thrown away.
    Misspoken,
    /// The client doesn't take replies any more: what was started is finished.
    Deaf,
}

/// A command that was started.
struct Due {
    note: Note,
    started_at: Instant,
    /// Of the memory of all clients, what its arguments take.
    _share: Option<Share>,
}

struct Connection {
    shared: Arc<Shared>,
    session: Session,
    parser: Parser,
    input: BytesMut,
    /// Whether the input holds no further command.
    starved: bool,
    /// Whether the client may send more.
    readable: bool,
    /// Commands of a transaction that are still to be started.
    script: VecDeque<Vec<Bytes>>,
    /// A command that waits for those before it.
    held: Option<(Action, Note, Option<Share>)>,
    /// A command that waits for the end of a pause.
    postponed: Option<Vec<Bytes>>,
    /// The commands that were started and not yet replied to, in order.
    due: VecDeque<Due>,
    pipeline: Pipeline,
    /// Replies that are still to come of an array whose head was given out: no message may come between.
    inside: usize,
    /// Whether a subscription is under way: no message may come before it is confirmed.
    subscribing: bool,
    output: BytesMut,
    /// Of the memory of all clients, what this one's buffers take.
    share: Share,
    ending: Option<End>,
    /// When the client last sent or took something.
    active_at: Instant,
}

/// Serves a client until it leaves, or is sent away, or the peer stops.
pub(crate) async fn serve(mut stream: TcpStream, seat: Seat, shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let mut parser = Parser::default();
    parser.set_stranger(shared.asks_password());
    let mut connection = Connection {
        session: Session::new(seat.client.clone(), !shared.asks_password()),
        share: shared.held.take_anyway(0),
        pipeline: Pipeline::new(shared.held.clone()),
        shared,
        parser,
        input: BytesMut::new(),
        starved: true,
        readable: true,
        script: VecDeque::new(),
        held: None,
        postponed: None,
        due: VecDeque::new(),
        inside: 0,
        subscribing: false,
        output: BytesMut::new(),
        ending: None,
        active_at: Instant::now(),
    };
    connection.run(&mut stream, stopping).await;
    if connection.ending == Some(End::Misspoken) {
        linger(&mut stream).await;
    }
}

impl Connection {
    async fn run(&mut self, stream: &mut TcpStream, mut stopping: watch::Receiver<bool>) {
        let (mut reader, mut writer) = stream.split();
        let mut look = std::pin::pin!(sleep_until(Instant::now() + LOOK));
        loop {
            self.deliver(OUTPUT_AHEAD);
            self.start_commands();
            if self.is_done() {
                return;
            }
            let (may_write, may_read) = (!self.output.is_empty(), self.may_read());
            self.tell_buffers();
            tokio::select! {
                biased;
                () = self.session.client.killed.notified(), if self.ending != Some(End::Deaf) => {
                    self.output.clear();
                    self.end(End::Deaf);
                }
                finished = self.pipeline.next() => self.finish(finished),
                written = write(&mut writer, &mut self.output), if may_write => self.note_written(written),
                read = read(&mut reader, &mut self.input), if may_read => self.note_read(read),
                () = self.session.subscriptions.arrived(), if self.ending.is_none() => {}
                _ = stopping.changed(), if self.ending.is_none() => self.end(End::Quiet),
                () = self.shared.pause.over(), if self.postponed.is_some() => {}
                () = look.as_mut() => {
                    look.as_mut().reset(Instant::now() + LOOK);
                    self.check_idle();
                }
            }
        }
    }

    /// Starts commands as long as there are some and there is room.
    fn start_commands(&mut self) {
        self.starved = false;
        while self.pipeline.has_room() && self.output.len() < self.most_output() {
            let Some((action, note, share)) = self.held.take().or_else(|| self.next_action()) else { return };
            if !self.pipeline.admits(&action) {
                self.held = Some((action, note, share));
                return;
            }
            self.due.push_back(Due { note, started_at: Instant::now(), _share: share });
            self.start(action);
        }
    }

    /// Replies that may wait before no more commands are run. Where memory is short, whoever has not read the last ones gets no more.
    fn most_output(&self) -> usize {
        if self.shared.held.is_full() { OUTPUT_AHEAD } else { MAX_OUTPUT }
    }

    fn next_action(&mut self) -> Option<(Action, Note, Option<Share>)> {
        let in_transaction = !self.script.is_empty();
        let request = match self.script.pop_front() {
            Some(arguments) => Request::Command(arguments),
            None => match self.next_request()? {
                Request::Command(arguments) if self.shared.pause.holds(|| may_change(&arguments, &self.session)) => {
                    self.postponed = Some(arguments);
                    return None;
                }
                request => request,
            },
        };
        self.shared.statistics.commands.add(1);
        self.session.begin_command();
        let weight = weight(&request);
        let mut call = Call { session: &mut self.session, shared: &self.shared, in_transaction, note: Note::default() };
        let action = dispatch(request, &mut call);
        let mut note = call.note;
        note.silent = self.session.silence != Silence::None;
        self.parser.set_stranger(!self.session.authenticated);
        let held = &self.shared.held;
        match held.take(weight) {
            // A transaction that has begun runs to its end.
            None if action.is_on_keys() && !in_transaction => Some((Action::Reply(OperationError::Busy.into()), note, None)),
            None => Some((action, note, Some(held.take_anyway(weight)))),
            share => Some((action, note, share)),
        }
    }

    fn next_request(&mut self) -> Option<Request> {
        if self.ending.is_some() {
            return None;
        }
        if let Some(arguments) = self.postponed.take() {
            return Some(Request::Command(arguments));
        }
        if self.shared.held.is_full() && self.parser.kept() + self.input.len() > READ_AHEAD {
            self.parser.discard();
        }
        match self.parser.feed(&mut self.input) {
            Ok(Some(request)) => Some(request),
            Ok(None) => {
                self.starved = true;
                if !self.readable {
                    self.end(End::Quiet);
                }
                None
            }
            Err(error) => {
                self.shared.statistics.protocol_errors.add(1);
                self.due.push_back(Due { note: Note::default(), started_at: Instant::now(), _share: None });
                self.pipeline.push_reply(Reply::Error(error.to_string()), self.session.protocol);
                self.end(End::Misspoken);
                None
            }
        }
    }

    fn start(&mut self, action: Action) {
        match action {
            Action::Reply(reply) if self.pipeline.is_empty() => self.reply(&reply),
            Action::Reply(reply) => self.pipeline.push_reply(reply, self.session.protocol),
            Action::Key(operation, shape) => self.pipeline.start_key(operation, shape, &self.session, &self.shared.node),
            Action::Keys(operations, gather) => self.pipeline.start_keys(operations, gather, &self.session, &self.shared.node),
            Action::First(operations, next) => self.pipeline.start_first(operations, next, &self.session, &self.shared.node),
            Action::Then(work) => {
                self.pipeline.start_first(Vec::new(), Box::new(|_| Action::Then(work)), &self.session, &self.shared.node);
            }
            // Whoever is about to go waits for nothing.
            Action::Take(take) if self.ending.is_some() => self.pipeline.start_take(take.at_once(), &self.session, &self.shared),
            Action::Take(take) => self.pipeline.start_take(take, &self.session, &self.shared),
            Action::Alone(work) => self.pipeline.start_alone(work, self.session.protocol),
            Action::Wait { replicas, timeout } => self.pipeline.start_wait(replicas, timeout, &self.session, &self.shared),
            Action::Publish(publication) => self.pipeline.start_publish(publication, self.session.protocol, &self.shared.node),
            Action::Subscribe(sort, names) => {
                let (reply, known) = self.session.subscribe(self.shared.node.pubsub(), sort, &names);
                self.subscribing = true;
                let confirming = async move {
                    if let Some(known) = known {
                        known.await;
                    }
                    reply
                };
                self.pipeline.start_alone(confirming.boxed(), self.session.protocol);
            }
            Action::Unsubscribe(sort, names) => {
                let reply = self.session.unsubscribe(sort, &names);
                // What arrived before comes before.
                self.deliver(usize::MAX);
                self.reply(&reply);
            }
            Action::Transaction(commands) => {
                self.pipeline.push_reply(Reply::ArrayHead(commands.len()), self.session.protocol);
                self.script = commands.into();
            }
            Action::Quit(reply) => {
                self.pipeline.push_reply(reply, self.session.protocol);
                self.end(End::Quiet);
            }
            Action::HangUp => {
                self.output.clear();
                self.end(End::Deaf);
            }
        }
    }

    fn finish(&mut self, finished: Finished) {
        let Finished { reply, protocol, receipts, complete, script, .. } = finished;
        // A client that publishes to itself gets the message first.
        self.deliver(OUTPUT_AHEAD);
        self.subscribing = false;
        self.session.receipts.add(&receipts);
        self.session.receipts.prune(&complete);
        self.script.extend(script);
        let spoken = std::mem::replace(&mut self.session.protocol, protocol);
        let before = self.output.len();
        self.reply(&reply);
        self.session.protocol = spoken;
        self.pipeline.note_length(self.output.len() - before);
    }

    /// Gives out the reply to the command that was started first.
    fn reply(&mut self, reply: &Reply) {
        let silent = self.due.pop_front().is_some_and(|due| self.account(due, reply));
        self.inside = match reply {
            Reply::ArrayHead(length) => *length,
            _ => self.inside.saturating_sub(1),
        };
        if self.ending != Some(End::Deaf) && (!silent || reply.is_push()) {
            reply.encode(self.session.protocol, &mut self.output);
        }
    }

    /// Counts a command that is done, and says whether its client wants no reply.
    fn account(&self, due: Due, reply: &Reply) -> bool {
        let Due { note, started_at, .. } = due;
        let (took, shared) = (started_at.elapsed(), &self.shared);
        let failure = reply.error();
        if let Some(text) = failure {
            shared.statistics.errors.add(1);
            shared.tallies.count_error(text);
        }
        let outcome = match failure {
            Some(_) if note.rejected => Outcome::Rejected,
            Some(_) => Outcome::Failed,
            None => Outcome::Done,
        };
        if let Some(row) = note.row {
            shared.tallies.count(row, took, outcome);
        }
        if outcome != Outcome::Rejected && !note.arguments.is_empty() && shared.slow_log.wants(took) {
            let (client, at_s) = (&self.session.client, shared.now_ms() / 1000);
            shared.slow_log.add(&note.arguments, took, at_s, client.address().to_string(), client.profile().name.clone());
        }
        note.silent
    }

    /// Shows others what the buffers hold, and whether the client waits.
    fn tell_buffers(&mut self) {
        // A buffer that is empty is kept only where it is small.
        let output = if self.output.is_empty() { 0 } else { self.output.capacity() };
        self.share.resize(self.input.len() + self.parser.kept() + output);
        let is_blocked = self.pipeline.is_blocked() || self.pipeline.is_waiting();
        self.session.client.is_blocked.store(is_blocked, Ordering::Relaxed);
        let buffers = &self.session.client.buffers;
        let mailbox = self.session.subscriptions.mailbox();
        for (number, shown) in [
            (self.input.len(), &buffers.input),
            (self.input.capacity() - self.input.len(), &buffers.input_free),
            (self.output.len(), &buffers.output),
            (self.output.capacity(), &buffers.output_capacity),
            (mailbox.map_or(0, Mailbox::count), &buffers.messages),
            (mailbox.map_or(0, Mailbox::bytes), &buffers.message_bytes),
        ] {
            shown.store(number, Ordering::Relaxed);
        }
    }

    /// Gives out messages that wait, between replies, up to so many bytes of output. A subscriber that lets too much wait is sent away.
    fn deliver(&mut self, most: usize) {
        let Some(mailbox) = self.session.subscriptions.mailbox() else { return };
        if self.ending != Some(End::Deaf) && mailbox.is_overflown() {
            tracing::warn!(client = %self.session.client.to_string().trim_end(), "subscriber reads too slowly, closing its connection");
            self.shared.statistics.slow_subscribers.add(1);
            self.output.clear();
            return self.end(End::Deaf);
        }
        if self.inside > 0 || self.subscribing || self.ending == Some(End::Deaf) {
            return;
        }
        while self.output.len() < most
            && let Some(delivery) = mailbox.take()
        {
            message(delivery).encode(self.session.protocol, &mut self.output);
        }
    }

    /// Takes no further commands, except those of a transaction that has begun to run.
    fn end(&mut self, end: End) {
        if self.ending != Some(End::Deaf) {
            self.ending = Some(end);
        }
        self.readable = false;
        self.input = BytesMut::new();
        self.shared.lines.unblock(self.session.client.id, Unblocked::TimedOut);
    }

    fn is_done(&self) -> bool {
        let idle = self.script.is_empty() && self.held.is_none() && (self.pipeline.is_empty() || self.pipeline.is_waiting());
        self.ending.is_some() && idle && self.output.is_empty()
    }

    fn may_read(&self) -> bool {
        self.readable && (self.starved || self.input.len() < READ_AHEAD)
    }

    fn note_read(&mut self, read: io::Result<usize>) {
        self.active_at = Instant::now();
        match read {
            // What has arrived is still carried out, as Redis does.
            Ok(0) if self.pipeline.is_waiting() || self.pipeline.is_blocked() => self.end(End::Deaf),
            Ok(0) => self.readable = false,
            Ok(length) => self.shared.statistics.bytes_read.add(length),
            Err(_) => self.end(End::Deaf),
        }
    }

    fn note_written(&mut self, written: io::Result<usize>) {
        self.active_at = Instant::now();
        match written {
            Ok(length) if length > 0 => self.shared.statistics.bytes_written.add(length),
            Ok(_) | Err(_) => {
                self.output.clear();
                self.end(End::Deaf);
            }
        }
        if self.output.is_empty() && self.output.capacity() > KEPT_OUTPUT {
            self.output = BytesMut::new();
        }
    }

    /// Ends a connection whose client takes no replies, or says nothing for longer than it may.
    fn check_idle(&mut self) {
        let quiet = self.active_at.elapsed();
        let limit = self.shared.idle_timeout_s();
        let patience = if self.shared.held.is_full() { PRESSED_CLIENT } else { STALLED_CLIENT };
        if !self.output.is_empty() && quiet >= patience {
            tracing::warn!(client = %self.session.client.to_string().trim_end(), "client takes no replies, closing its connection");
            self.output.clear();
            self.end(End::Deaf);
        } else if limit > 0
            && self.session.subscriptions.is_empty()
            && self.pipeline.is_empty()
            && self.output.is_empty()
            && quiet >= Duration::from_secs(limit)
        {
            self.end(End::Quiet);
        }
    }
}

/// What the arguments of a request take in memory.
fn weight(request: &Request) -> usize {
    match request {
        Request::Command(arguments) => arguments.iter().map(|argument| argument.len() + size_of::<Bytes>()).sum(),
        Request::TooBig | Request::Discarded => 0,
    }
}

/// Reads what has arrived. A connection that waits holds no buffer.
async fn read(reader: &mut ReadHalf<'_>, input: &mut BytesMut) -> io::Result<usize> {
    if input.is_empty() {
        *input = BytesMut::new();
        reader.readable().await?;
    }
    input.reserve(READ);
    reader.read_buf(input).await
}

async fn write(writer: &mut WriteHalf<'_>, output: &mut BytesMut) -> io::Result<usize> {
    writer.write_buf(output).await
}

/// Lets the client read its error: closing while bytes of it are unread would reset the connection, and the error with it.
async fn linger(stream: &mut TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let (mut scrap, mut total) = (vec![0; READ], 0);
        while total < LINGER.0 {
            match stream.read(&mut scrap).await? {
                0 => break,
                length => total += length,
            }
        }
        io::Result::Ok(())
    };
    // Whatever comes of it, the connection is closed next.
    let _ = timeout(LINGER.1, drain).await;
}
