//! Every setting of a node and every limit, each with its default and its reason.

use std::time::Duration;

/// Longest key, in bytes.
pub const MAX_KEY: usize = 64 * 1024;
/// Longest value or element, in bytes.
pub const MAX_VALUE: usize = 16 * 1024 * 1024;
/// Longest frame between peers: one delta with the longest key and value, and room for what stands around it.
pub const MAX_FRAME: usize = 32 * 1024 * 1024;
/// Items of CBOR in one frame: as many members as one command can name, and room for what stands around them. An item becomes some
/// hundred bytes of memory at most.
pub const MAX_FRAME_ITEMS: usize = MAX_ARGUMENTS + 1024;
/// About how much memory the rows, clocks and deltas of one frame take once they are decoded, in units of 256 bytes: sixteen times
/// [`MAX_FRAME`]. What peers send each other is far from it, but for commands that name some hundred thousand members.
pub const MAX_WEIGHT: usize = 16 * MAX_FRAME / 256;
/// Frames queued for one peer and lane before [`crate::env::SendError::Full`], in bytes.
pub const MAX_PEER_QUEUE: usize = 64 * 1024 * 1024;
/// What one write to a peer gathers from waiting frames, in bytes: large enough that small frames cost little, small enough that a
/// large body does not hold up what waits behind it for long.
pub const WRITE_GATHER: usize = 64 * 1024;
/// Events that wait for the node before connections are no longer read.
pub const NETWORK_EVENTS: usize = 256;
/// An idle link says that it is alive this often.
pub const KEEPALIVE: Duration = Duration::from_secs(5);
/// A link that says nothing, or takes nothing, for this long is closed: several times [`KEEPALIVE`].
pub const LINK_SILENCE: Duration = Duration::from_secs(20);
/// How long a link that ends may take to pass on what had arrived, and a network that stops to write what was queued.
pub const LINK_DRAIN: Duration = Duration::from_secs(1);
/// How long both peers have to open their lanes on a connection.
pub const LANES_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a second connection to the same peer is left open before it is closed as spare.
pub const SPARE_CONNECTION_GRACE: Duration = Duration::from_secs(5);
/// How long a connection may take from its first byte to admission.
pub const ADMISSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message of the admission exchange, in bytes.
pub const MAX_ADMISSION_MESSAGE: usize = 8 * 1024;
/// Lines about peers that are kept out or cannot be reached, a minute.
pub const REFUSALS_LOGGED: usize = 64;
/// Connections that are being made, each way.
pub const PENDING_CONNECTIONS: usize = 32;
/// Connections that one address of another machine may be making to this peer, so that one stranger cannot hold all of
/// [`PENDING_CONNECTIONS`].
pub const PENDING_PER_ADDRESS: usize = 8;
/// Connections to admitted peers.
pub const PEER_CONNECTIONS: usize = 512;
/// Connections to one peer: two where both dial at once, and room for old ones that are not yet known to be dead.
pub const CONNECTIONS_PER_PEER: usize = 4;
/// Streams on one connection: four for the lanes, the others for Kademlia. Each may hold 256 KiB of unread data.
pub const STREAMS_PER_CONNECTION: usize = 48;
/// Addresses that are kept of one peer.
pub const PEER_ADDRESSES: usize = 16;
/// Waits between dials of a member or bootstrap address: the first, and the longest that doubling leads to.
pub const DIAL_WAIT_FIRST: Duration = Duration::from_secs(1);
/// See [`DIAL_WAIT_FIRST`].
pub const DIAL_WAIT_LONGEST: Duration = Duration::from_secs(30);
/// Peers that mDNS told of and that are remembered. Anybody on the network can make them up.
pub const DISCOVERED_PEERS: usize = 1024;
/// Waits between dials of a discovered peer, which is usually a stranger if the first dial fails.
pub const DISCOVERED_WAIT_FIRST: Duration = Duration::from_secs(10);
/// See [`DISCOVERED_WAIT_FIRST`].
pub const DISCOVERED_WAIT_LONGEST: Duration = Duration::from_secs(300);
/// How often mDNS asks who is there.
pub const MDNS_INTERVAL: Duration = Duration::from_secs(15);
/// How long an mDNS answer counts: several times [`MDNS_INTERVAL`], since single packets get lost.
pub const MDNS_TTL: Duration = Duration::from_secs(60);
/// How often Kademlia looks for peers that are not yet known.
pub const KADEMLIA_INTERVAL: Duration = Duration::from_secs(60);
/// Longest message of Kademlia, in bytes.
pub const KADEMLIA_PACKET: usize = 16 * 1024;
/// Rows that one reply of a read carries, in bytes, before the reader has to ask for the next page.
pub const READ_PAGE: usize = 4 * 1024 * 1024;
/// Rows of one key that one question reads, in bytes: beyond, a client has to ask for parts.
pub const MAX_READ: usize = 256 * 1024 * 1024;
/// Commands and deltas that wait for the writer before a client is told `BUSY`.
pub const WRITER_QUEUE: usize = 16 * 1024;
/// Bytes of deltas of other peers that wait for the writer, before more of them are left to hints.
pub const WRITER_BYTES: usize = 64 * 1024 * 1024;
/// Commands and deltas that the writer puts into one commit at most.
pub const WRITER_BATCH: usize = 1024;
/// Sealed memtables that may wait to be flushed; with the one being filled, what the store keeps of its writes in memory. One
/// less than where fjall's own commit begins to wait without an end.
pub const SEALED_MEMTABLES: usize = 3;
/// How long a commit waits for the flush pool before the storage counts as failed: longer than any pause of a healthy disk.
pub const STORAGE_STALL: Duration = Duration::from_secs(30);
/// Open files that the store keeps at hand. The usual limit is 1,024 a process, and clients and peers need theirs.
pub const STORAGE_FILES: usize = 256;
/// Dots removed by one write that are named one by one; beyond, the replaced key and the writer's clock say it.
pub const NAMED_REMOVES: usize = 128;
/// Bytes of elements in such names.
pub const NAMED_REMOVE_BYTES: usize = 256 * 1024;
/// Expired entries that one delta removes: each is named. Of a larger collection the rest goes with the next.
pub const REMOVED_AT_ONCE: usize = 1024;
/// Floors that one write leaves for the counters it resets, and of those that it keeps, in bytes: they must fit a frame. Some 200,000 fields or members that
/// were counted up, whether they are there or gone; a key with more is emptied in parts.
pub const MAX_FLOOR_BYTES: usize = 16 * 1024 * 1024;
/// Entries that one write leaves standing when it overwrites a key, each named by its dot: about 14 bytes in the same frame.
pub const MAX_KEPT_DOTS: usize = 512 * 1024;
/// Longest token of `RINGTIDE SIBLINGS`, in bytes: it names every entry of a key, with one to ten bytes each.
pub const MAX_TOKEN: usize = 8 * 1024 * 1024;
/// What RENAME, COPY and the commands with STORE in their name write to a key at once, in bytes, bookkeeping included: it must fit a frame. Some
/// hundred thousand short elements.
pub const MAX_CONTENT: usize = 24 * 1024 * 1024;
/// Actors in one clock. An actor is one incarnation of a peer; a cluster that lives for years sees some thousands.
pub const MAX_CLOCK_ACTORS: usize = 64 * 1024;
/// Ranges of one clock. Each is a hole that a crash or a lost delta left, and the next pull closes most; so many never are.
pub const MAX_CLOCK_RANGES: usize = 1024 * 1024;
/// Entries of one row: concurrent values, runs and floors. High, since a row beyond it could not be read back.
pub const MAX_ROW_ENTRIES: usize = 1024 * 1024;
/// Longest position of an item in its list, in bytes: short enough to stand in a storage key as it is. Some dozens of inserts between inserts of
/// others, each into the last; a usual position has 20 to 160 bytes.
pub const MAX_POSITION: usize = 900;
/// Bytes that name the items which one command takes out of a list: they must fit a frame. Some tens of thousands of items; a list that shall lose
/// more is trimmed in parts.
pub const MAX_REMOVED_BYTES: usize = 8 * 1024 * 1024;
/// Rows, removed dots, kept dots or replaced scopes named in one delta or message, each. A frame's length ends most before.
pub const MAX_ROWS: usize = 1024 * 1024;
/// How far ahead of the own clock a remote timestamp may lie before it is refused.
pub const MAX_DRIFT: Duration = Duration::from_secs(60);
/// Timestamps leased at once: how far ahead of wall time a peer starts after a crash, and how seldom a lease is written.
pub const CLOCK_LEASE: Duration = Duration::from_secs(2);
/// Dots leased at once, in every partition: how many a crash skips, and how seldom a lease is written.
pub const DOT_LEASE: u64 = 1024 * 1024;
/// How long past its time an expired key's rows stay: more than twice [`MAX_DRIFT`], so that no two quorums that judge
/// by their own clocks can both be right about opposite things.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(130);
/// How often a peer looks for keys whose grace time is over.
pub const EXPIRY_SWEEP: Duration = Duration::from_secs(10);
/// Expired keys that are asked about together.
pub const EXPIRED_AT_ONCE: usize = 256;
/// How often a peer looks for counter floors that have done their work.
pub const FLOOR_SWEEP: Duration = Duration::from_secs(60);
/// Rows with such floors that a peer remembers in each partition; those of more are noted when they are written next.
pub const FLOORS_REMEMBERED: usize = 4096;
/// How long something stays pending, at least, that nobody has any more.
pub const PENDING_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Arguments of one client command, as in Redis.
pub const MAX_ARGUMENTS: usize = 1024 * 1024;
/// Longest inline command, and longest line that announces a length, in bytes; as in Redis.
pub const MAX_INLINE: usize = 64 * 1024;
/// Longest value that a client may announce before its connection is closed, in bytes; as in Redis. A value between
/// [`MAX_VALUE`] and this is read and thrown away, so that the client learns what was wrong and the connection lives on.
pub const MAX_ANNOUNCED: usize = 512 * 1024 * 1024;
/// All arguments of one client command together, in bytes, bookkeeping included: what one unfinished command may pin.
pub const MAX_REQUEST: usize = 128 * 1024 * 1024;
/// Arguments of a command, and bytes of each, of a client that has not given the password yet; as in Redis.
pub const MAX_STRANGER: (usize, usize) = (10, 16 * 1024);
/// Bytes of one client's replies that may wait for it to read them, before no more of its commands are run.
pub const MAX_OUTPUT: usize = 32 * 1024 * 1024;
/// What all clients together may have in memory, in bytes: commands that are being read or run, and replies that they have not taken. Beyond,
/// commands on keys are refused with `BUSY`. A client holds some 100 KiB more at most.
pub const MAX_HELD: usize = 256 * 1024 * 1024;
/// How long a client may leave its replies unread, not a byte taken, while [`MAX_HELD`] is reached.
pub const PRESSED_CLIENT: Duration = Duration::from_secs(5);
/// Commands of one client that run at the same time, at most. Fewer where its replies are long.
pub const MAX_RUNNING: usize = 128;
/// Bytes of the table with which LCS compares two strings: the square of some 4,000 bytes.
pub const MAX_COMPARED: usize = 64 * 1024 * 1024;
/// Longest reply that is gathered from several keys, in bytes.
pub const MAX_GATHERED: usize = 256 * 1024 * 1024;
/// Commands that a client may queue between MULTI and EXEC, in bytes, bookkeeping included.
pub const MAX_QUEUED: usize = 64 * 1024 * 1024;
/// Keys that one step of a SCAN looks at, whatever COUNT says: each may be 64 KiB long, and a frame takes 32 MiB.
pub const MAX_SCANNED: usize = 400;
/// How long a peer that waits for a key to be pushed to is waited for before it asks again: what a lost answer costs at most.
pub const AWAIT_RENEWED: Duration = Duration::from_secs(5);
/// Keys that other peers' clients wait for at one holder.
pub const MAX_AWAITED: usize = 16 * 1024;
/// Keys that the clients of one peer wait for, each counted for every client.
pub const MAX_WAITED_KEYS: usize = 64 * 1024;
/// Keys that one connection watches for its transaction.
pub const MAX_WATCHED: usize = 1024;
/// Writes of one connection that WAIT asks about: the latest ones.
pub const MAX_RECEIPTS: usize = 1024;
/// Clients connected at the same time, as in Redis.
pub const MAX_CLIENTS: usize = 10_000;
/// How long a client may leave its replies unread, not a byte taken, before it is disconnected.
pub const STALLED_CLIENT: Duration = Duration::from_secs(300);
/// How long commands that run when the peer stops may take to finish.
pub const DRAIN_CLIENTS: Duration = Duration::from_secs(5);
/// Bytes that wait for a subscriber to read them before it is disconnected, as in Redis: at once, ...
pub const MAX_MAILBOX: usize = 32 * 1024 * 1024;
/// ... and where it stays above this for [`MAILBOX_PATIENCE`].
pub const HIGH_MAILBOX: usize = 8 * 1024 * 1024;
/// See [`HIGH_MAILBOX`].
pub const MAILBOX_PATIENCE: Duration = Duration::from_secs(60);
/// What the channels and patterns of one subscriber may cost, in bytes, bookkeeping included.
pub const MAX_SUBSCRIBED: usize = 64 * 1024 * 1024;
/// How long PUBLISH waits for the counts of other peers. The message is on its way meanwhile.
pub const PUBLISH_PATIENCE: Duration = Duration::from_millis(250);
/// How long the first subscription at a peer waits until the others know that somebody listens there.
pub const LISTEN_PATIENCE: Duration = Duration::from_secs(1);
/// Messages that one peer hands to another together: those that one change of a key makes.
pub const MAX_PUBLICATIONS: usize = 16;
/// Channels that one peer tells another about at once, in bytes of their names.
pub const MAX_CHANNELS_TOLD: usize = MAX_FRAME / 4;
/// Most copies of a partition: beyond, every write would wait for more machines than a failure can take.
pub const MAX_REPLICAS: usize = 16;
/// Most partitions of a key space: each has a digest tree of its own in memory.
pub const MAX_PARTITIONS: u16 = 4096;
/// Greatest share of the ring relative to another peer.
pub const MAX_CAPACITY: u32 = 1000;
/// Longest name of a cluster or zone, in bytes: every peer tells both in its first frame.
pub const MAX_NAME: usize = 64;
/// Shortest secret of a cluster, in characters: one that can be tried out is none.
pub const MIN_SECRET_CHARACTERS: usize = 16;
/// Least budget for caches and write buffers: below, the store would flush more often than it writes.
pub const MIN_MEMORY: u64 = 16 * 1024 * 1024;
/// Longest interval between two syncs of the disk, in milliseconds.
pub const MAX_SYNC_INTERVAL_MS: u64 = 60_000;
/// Longest time that a setting of a peer may name.
pub const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long a peer may take to stop cleanly.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Places of a peer of capacity 1 on the ring. With 64 the loads differ by a tenth before they are bounded (measured); more
/// only costs time.
pub const TOKENS_PER_PEER: usize = 64;
/// Tokens on the ring; where capacities ask for more, everybody gets fewer. Bounds what a wrong capacity costs.
pub const MAX_TOKENS: usize = 16 * 1024;
/// How often a peer says that it is there.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after which a peer is suspect: three heartbeats.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// Silence after which a peer is down.
pub const DOWN_AFTER: Duration = Duration::from_secs(10);
/// How long a peer that starts waits for another member's first word before it serves clients.
pub const FIRST_WORD: Duration = Duration::from_secs(3);
/// How often hints are tried again and sealed partitions are offered, beside the moments when a peer comes up.
pub const HANDOFF_INTERVAL: Duration = Duration::from_secs(5);
/// Hints that are stored or delivered together at most.
pub const HINTS_AT_ONCE: usize = 256;
/// Hints that wait to be stored; what exceeds it is left to anti-entropy.
pub const HINT_QUEUE: usize = 64 * 1024;
/// Bytes of hints that wait to be stored, about; likewise.
pub const HINT_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// How long a peer that asked another to pull waits for the result.
pub const PULL_PATIENCE: Duration = Duration::from_secs(120);
/// How often a peer pulls again what it has to sync before it counts.
pub const FIRST_SYNC_RETRY: Duration = Duration::from_secs(5);
/// Partitions that are pulled from one peer at the same time.
pub const PULLS_AT_ONCE: usize = 8;
/// Commands of clients between two heartbeats from which on a peer is busy, and rows move with rests, see [`crate::pace`].
pub const BUSY_COMMANDS: u64 = 10;
/// For how long others take a peer to be busy that said so: several heartbeats.
pub const BUSY_FOR: Duration = Duration::from_secs(3);
/// How many times as long as a piece of a pull took the rest after it is: what moves costs a fifth of everybody's time at most.
pub const RESTS: u32 = 4;
/// Longest such rest: where a peer answers late for other reasons, a pull still comes to its end.
pub const LONGEST_REST: Duration = Duration::from_secs(2);
/// Ranges that a pull asks for at once: every leaf of a partition. The answer ends earlier where it would be too long.
pub const RANGES_AT_ONCE: usize = 1024;
/// Bytes of rows and addresses in one answer to a pull, about; a single row may exceed it alone.
pub const ANSWER_BYTES: usize = MAX_FRAME / 16;
/// The same while clients keep any peer busy: what reads, encodes and decodes it holds up whatever else a core has to do.
pub const BUSY_ANSWER_BYTES: usize = ANSWER_BYTES / 16;
/// Partitions that one message begins to pull: all. Equal ones cost nothing else.
pub const STEP_PARTITIONS: usize = MAX_PARTITIONS as usize;
/// The same while clients keep any peer busy: what was written since a root was asked for last is hashed first, and that holds up clients' writes.
pub const BUSY_STEP_PARTITIONS: usize = 8;
/// What one step of a pull compares, in rows; each KiB of a row counts as one more. A step holds up clients' writes, for some 10 ms.
pub const STEP_ROWS: usize = 1024;
/// The same while clients keep any peer busy: so that hardly one command waits for longer than it takes itself.
pub const BUSY_STEP_ROWS: usize = 128;
/// Leaves that were told in parts and are kept for those who pull them.
pub const LEAVES_KEPT: usize = 1024;
/// For how long: a kept leaf pins old versions of every row.
pub const LEAF_KEPT_FOR: Duration = Duration::from_secs(30);
/// What the search for damage at rest reads at once, in bytes: some milliseconds of one thread's time.
pub const SCRUB_PIECE: usize = 1024 * 1024;
/// And how long it then pauses: it reads some 20 MiB a second at most.
pub const SCRUB_PAUSE: Duration = Duration::from_millis(50);
/// Requests of other peers that are served at the same time; more are refused, and their askers try elsewhere.
pub const REQUESTS_AT_ONCE: usize = 4096;

/// When a write counts as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Synced to the disk before the reply, many writes at once.
    Always,
    /// Synced every so often.
    Every(Duration),
    /// Left to the operating system.
    System,
}

/// The settings of one node, checked.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name of the cluster.
    pub cluster: String,
    /// Copies of each partition (N).
    pub replicas: usize,
    /// Partitions of the key space (Q), fixed for the life of the cluster.
    pub partitions: u16,
    /// Copies of a partition go to different zones where there are enough.
    pub zone: Option<String>,
    /// Share of the ring relative to other peers.
    pub capacity: u32,
    /// When a write counts as stored.
    pub durability: Durability,
    /// How long a coordinator waits for replicas before it gives up on a command.
    pub request_timeout: Duration,
    /// How often a partition is compared with each co-replica when nothing else calls for it.
    pub anti_entropy_interval: Duration,
    /// In which time every stored row is read once and compared with its partition's tree and what is derived of it; `None`: never.
    pub scrub_period: Option<Duration>,
    /// How long a peer may be down before others take its place in the ring; `None`: nobody ever does.
    pub rebuild_after: Option<Duration>,
    /// Whether the peer has no secret and so only takes peers of this machine.
    pub protected: bool,
    /// Seed of the node's one generator of randomness.
    pub seed: u64,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            cluster: "ringtide".to_owned(),
            replicas: 3,
            partitions: 256,
            zone: None,
            capacity: 1,
            durability: Durability::Every(Duration::from_millis(50)),
            request_timeout: Duration::from_secs(5),
            anti_entropy_interval: Duration::from_secs(60),
            scrub_period: Some(Duration::from_secs(24 * 60 * 60)),
            rebuild_after: Some(Duration::from_secs(600)),
            protected: true,
            seed: 0,
        }
    }
}
