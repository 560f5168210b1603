//! Who gets in: what two peers tell and prove to each other before anything else is spoken between them.
//!
//! The exchange runs inside the encrypted channel, before streams, so a peer that fails it has spoken to nothing else of
//! this program. The dialler goes first in each of three rounds:
//!
//! ```text
//! dialler                                   listener
//!   Hello  version, cluster, nonce    →       judges
//!                                     ←     Hello, or why not
//!   Proof  keyed hash of both nonces  →       judges
//!                                     ←     Proof, or why not
//!   Details  partitions, addresses    →       judges
//!                                     ←     Details, or why not
//! ```
//!
//! A proof is BLAKE3 keyed with the secret over everything that makes this exchange unlike any other: who dialled, who
//! listened, both nonces, and which of the two proves. So it cannot be replayed, reflected, or carried to a third peer; the
//! identities themselves are proven by the channel underneath. A hello also names the process that says it, so that two with one
//! identity are noticed ([`super::twins`]). A secret must be long and random all the same: whoever gets a
//! peer to talk to them may try secrets against its proof at leisure.
//!
//! This file decides and does no I/O: [`Admission::say`] gives the message of a round, [`Admission::hear`] judges one.

use std::fmt;

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use crate::types::Process;

/// The version of everything that peers say to each other. Peers of different versions refuse each other.
pub const WIRE_VERSION: u16 = 1;
/// The longest name of a cluster that is repeated in a refusal, in characters.
const SHOWN_NAME: usize = 64;

/// What all peers of a cluster know and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes of a secret. Whether they are enough is for the configuration to judge.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What this peer asks of every other.
#[derive(Clone)]
pub struct Terms {
    version: u16,
    cluster: String,
    key: Option<blake3::Hash>,
    partitions: u16,
    protected: bool,
    process: Process,
}

impl Terms {
    /// The terms of a peer with this configuration.
    #[must_use]
    pub fn new(cluster: &str, secret: Option<&Secret>, partitions: u16, protected: bool) -> Self {
        let key = secret.map(|secret| {
            let mut hasher = blake3::Hasher::new_derive_key("ringtide admission: key from cluster secret and name, version 1");
            write_field(&mut hasher, &secret.0);
            write_field(&mut hasher, cluster.as_bytes());
            hasher.finalize()
        });
        Self { version: WIRE_VERSION, cluster: cluster.to_owned(), key, partitions, protected, process: Process::default() }
    }

    /// The same terms, told by this process.
    #[must_use]
    pub fn with_process(self, process: Process) -> Self {
        Self { process, ..self }
    }

    /// The same terms, told as if this program spoke another wire version. For tests.
    #[must_use]
    pub fn with_version(self, version: u16) -> Self {
        Self { version, ..self }
    }
}

/// Hashes a field with its length, so that two different lists of fields never hash alike.
fn write_field(hasher: &mut blake3::Hasher, field: &[u8]) {
    hasher.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(field);
}

/// Which side of the exchange somebody is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Opened the connection, and speaks first in each round.
    Dialler,
    /// Was dialled.
    Listener,
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// The three rounds of the exchange, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// Versions and names are compared.
    Hello,
    /// The secret is proven.
    Proof,
    /// What only peers of the same cluster learn.
    Details,
}

/// The rounds of the exchange, in their order.
pub const ROUNDS: [Round; 3] = [Round::Hello, Round::Proof, Round::Details];

/// What a peer says in a round, or why it says no more.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The first round.
    Hello {
        /// See [`WIRE_VERSION`].
        version: u16,
        /// Name of the cluster.
        cluster: String,
        /// Whether this peer has a secret, and so asks for a proof.
        secret: bool,
        /// Drawn at random for this exchange.
        nonce: [u8; 32],
        /// Which process says this. Other versions need not.
        #[serde(default)]
        process: Process,
    },
    /// The second round; nothing where there is no secret.
    Proof(Option<[u8; 32]>),
    /// The third round.
    Details(Details),
    /// The end: this peer does not let the other in.
    Refusal(Refusal),
}

impl Message {
    /// The bytes of a message: CBOR.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory cannot fail, and messages hold nothing that CBOR lacks.
        let _ = ciborium::into_writer(self, &mut bytes);
        bytes
    }

    /// The message that fills these bytes; `None` where they are something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let message = ciborium::from_reader(&mut rest).ok()?;
        rest.is_empty().then_some(message)
    }
}

/// What only admitted peers learn of each other.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Details {
    /// Partitions of the key space.
    pub partitions: u16,
    /// The multiaddresses at which the peer listens.
    pub addresses: Vec<String>,
    /// The eldest other process with the identity of whoever is told this, if one was alive after it was let in here.
    #[serde(default)]
    pub rival: Option<Process>,
}

/// Why a peer is not let in. The sentences read the same on both sides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The two programs don't understand each other.
    #[error("other wire version: the refusing peer speaks version {refusing}, the refused one {refused}")]
    Version {
        /// What the refusing peer speaks.
        refusing: u16,
        /// What the refused peer speaks.
        refused: u16,
    },
    /// The refused peer asked for a cluster that the refusing one is not part of.
    #[error("other cluster: the refusing peer is not part of a cluster named {0:?}")]
    Cluster(String),
    /// The refused peer has no secret.
    #[error("no secret: the refusing peer's cluster has a secret, the refused peer has none")]
    SecretMissing,
    /// The refusing peer has no secret.
    #[error("unexpected secret: the refused peer has a cluster secret, the refusing one has none")]
    SecretUnexpected,
    /// The refused peer did not prove the secret.
    #[error("other secret: the refused peer did not prove that it knows the cluster's secret")]
    SecretDiffers,
    /// The key space is cut differently.
    #[error("other number of partitions: the refusing peer has {refusing}, the refused one {refused}")]
    Partitions {
        /// At the refusing peer.
        refusing: u16,
        /// At the refused peer.
        refused: u16,
    },
    /// The peer met its own identity.
    #[error("same identity: a peer dialled itself, or its data folder was copied and both run")]
    SameIdentity,
    /// Without a secret only peers of the same machine are taken.
    #[error("protected mode: the refusing peer has no secret and so takes peers of its own machine only")]
    Protected,
}

/// How an exchange ends where nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// This peer refuses the other, and tells it so.
    #[error("refused it: {0}")]
    Refused(Refusal),
    /// The other refuses this peer.
    #[error("was refused by it: {0}")]
    RefusedByRemote(Refusal),
    /// The other said something that no peer says here.
    #[error("broke off: it does not follow the protocol of admission")]
    Malformed,
}

impl Rejection {
    /// Whether either side found that both have one identity.
    #[must_use]
    pub fn is_same_identity(&self) -> bool {
        matches!(self, Self::Refused(Refusal::SameIdentity) | Self::RefusedByRemote(Refusal::SameIdentity))
    }
}

/// One exchange, seen from one side.
pub struct Admission<'a> {
    terms: &'a Terms,
    role: Role,
    local: PeerId,
    remote: PeerId,
    same_machine: bool,
    nonce: [u8; 32],
    remote_nonce: Option<[u8; 32]>,
    remote_process: Process,
}

impl<'a> Admission<'a> {
    /// Begins an exchange with a peer whose identity the channel has proven. `nonce` is random and never used twice.
    #[must_use]
    pub fn new(terms: &'a Terms, role: Role, local: PeerId, remote: PeerId, same_machine: bool, nonce: [u8; 32]) -> Self {
        Self { terms, role, local, remote, same_machine, nonce, remote_nonce: None, remote_process: Process::default() }
    }

    /// The peer at the other end.
    #[must_use]
    pub fn remote(&self) -> PeerId {
        self.remote
    }

    /// The process at the other end, once its hello was heard.
    #[must_use]
    pub fn remote_process(&self) -> Process {
        self.remote_process
    }

    /// What this side says in a round. The last one tells `addresses` and the other's `rival`.
    #[must_use]
    pub fn say(&self, round: Round, addresses: &[String], rival: Option<Process>) -> Message {
        match round {
            Round::Hello => Message::Hello {
                version: self.terms.version,
                cluster: self.terms.cluster.clone(),
                secret: self.terms.key.is_some(),
                nonce: self.nonce,
                process: self.terms.process,
            },
            Round::Proof => Message::Proof(self.proof(self.role).map(Into::into)),
            Round::Details => Message::Details(Details { partitions: self.terms.partitions, addresses: addresses.to_vec(), rival }),
        }
    }

    /// Judges what the other side said in a round. The last round yields its details.
    ///
    /// # Errors
    /// Where the exchange ends here. A [`Rejection::Refused`] is to be told to the other side.
    pub fn hear(&mut self, round: Round, message: Message) -> Result<Option<Details>, Rejection> {
        match (round, message) {
            (_, Message::Refusal(refusal)) => return Err(Rejection::RefusedByRemote(refusal)),
            (Round::Hello, Message::Hello { version, cluster, secret, nonce, process }) => {
                self.judge_hello(version, &cluster, secret).map_err(Rejection::Refused)?;
                (self.remote_nonce, self.remote_process) = (Some(nonce), process);
            }
            (Round::Proof, Message::Proof(proof)) => {
                // Comparing two `blake3::Hash` takes the same time wherever they differ.
                if self.proof(self.role.other()) != proof.map(blake3::Hash::from_bytes) {
                    return Err(Rejection::Refused(Refusal::SecretDiffers));
                }
            }
            // Only now: the two must know for sure that they are of one cluster before one of them gives way.
            (Round::Details, Message::Details(_)) if self.remote == self.local => return Err(Rejection::Refused(Refusal::SameIdentity)),
            (Round::Details, Message::Details(details)) => {
                if details.partitions != self.terms.partitions {
                    let refusal = Refusal::Partitions { refusing: self.terms.partitions, refused: details.partitions };
                    return Err(Rejection::Refused(refusal));
                }
                return Ok(Some(details));
            }
            _ => return Err(Rejection::Malformed),
        }
        Ok(None)
    }

    fn judge_hello(&self, version: u16, cluster: &str, secret: bool) -> Result<(), Refusal> {
        if self.terms.protected && !self.same_machine {
            return Err(Refusal::Protected);
        }
        if version != self.terms.version {
            return Err(Refusal::Version { refusing: self.terms.version, refused: version });
        }
        if cluster != self.terms.cluster {
            return Err(Refusal::Cluster(cluster.chars().take(SHOWN_NAME).collect()));
        }
        match (self.terms.key.is_some(), secret) {
            (true, false) => Err(Refusal::SecretMissing),
            (false, true) => Err(Refusal::SecretUnexpected),
            _ => Ok(()),
        }
    }

    /// The proof that the side in this role owes; nothing where there is no secret.
    fn proof(&self, prover: Role) -> Option<blake3::Hash> {
        let key = self.terms.key?;
        // Before the remote's nonce is known no proof is due; zeros would be as good as any nonce nobody drew.
        let remote_nonce = self.remote_nonce.unwrap_or_default();
        let (ours, theirs) = ((self.local, self.nonce), (self.remote, remote_nonce));
        let (dialler, listener) = match self.role {
            Role::Dialler => (ours, theirs),
            Role::Listener => (theirs, ours),
        };
        let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
        write_field(&mut hasher, b"ringtide admission proof 1");
        write_field(&mut hasher, if prover == Role::Dialler { b"dialler" } else { b"listener" });
        for (peer, nonce) in [dialler, listener] {
            write_field(&mut hasher, &peer.to_bytes());
            write_field(&mut hasher, &nonce);
        }
        Some(hasher.finalize())
    }
}

#[cfg(test)]
mod tests;
