//! The digest tree of one partition: what two replicas compare instead of their rows.
//!
//! A leaf is the sum of the hashes of its rows, so a row's change updates it at once, whatever the order. Inner nodes hash their
//! children, and are computed when they are asked for:
//!
//! ```text
//! root = H(node 0 … node 31)      node n = H(leaf 32n … leaf 32n+31)      leaf = sum of H(row)
//! ```
//!
//! Sources: Merkle trees in Dynamo (2007); Riak's Tictac trees.

use crate::crdt::codec::{DecodeError, Reader, Writer};
use crate::types::{Digest, LEAVES};

/// Inner nodes below the root.
pub const NODES: usize = 32;
/// Leaves below each of them.
pub const LEAVES_PER_NODE: usize = LEAVES / NODES;

/// A digest as it is told in a comparison: 8 bytes in place of 16, and 0 for no rows. The salt is new with every state of a replica and unknown
/// to clients, so nobody can make rows whose short digests are equal.
#[must_use]
pub fn short(digest: Digest, salt: u64) -> u64 {
    if digest == Digest::default() {
        return 0;
    }
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&salt.to_be_bytes());
    bytes[8..].copy_from_slice(&digest.0.to_be_bytes());
    blake3::hash(&bytes).as_bytes().first_chunk().map_or(1, |first| u64::from_be_bytes(*first).max(1))
}

const VERSION: u8 = 1;
const NODE_CONTEXT: &str = "ringtide 2026-11 merkle node";
const ROOT_CONTEXT: &str = "ringtide 2026-11 merkle root";

/// A tree. An empty one takes no memory, and one that became empty equals one that never held anything.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    leaves: Vec<Digest>,
    /// What was computed since the last change below.
    nodes: Vec<Option<Digest>>,
    root: Option<Digest>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        (0..LEAVES).all(|leaf| self.leaf(leaf) == other.leaf(leaf))
    }
}

impl Eq for Tree {}

fn hash(context: &str, children: impl Iterator<Item = Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for child in children {
        hasher.update(&child.0.to_be_bytes());
    }
    Digest(hasher.finalize().as_bytes().first_chunk().map_or(0, |first| u128::from_be_bytes(*first)))
}

impl Tree {
    /// A tree without rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The digest of a leaf.
    #[must_use]
    pub fn leaf(&self, leaf: usize) -> Digest {
        self.leaves.get(leaf).copied().unwrap_or_default()
    }

    /// Takes rows out of a leaf and puts others in, by their digests. There is no leaf at [`LEAVES`] or beyond: nothing changes.
    pub fn change(&mut self, leaf: usize, minus: Digest, plus: Digest) {
        if self.leaves.is_empty() {
            self.leaves = vec![Digest::default(); LEAVES];
            self.nodes = vec![None; NODES];
        }
        if let Some(digest) = self.leaves.get_mut(leaf) {
            *digest = digest.minus(minus).plus(plus);
            self.nodes[leaf / LEAVES_PER_NODE] = None;
            self.root = None;
        }
    }

    /// The digest of an inner node.
    pub fn node(&mut self, node: usize) -> Digest {
        if let Some(Some(known)) = self.nodes.get(node) {
            return *known;
        }
        let first = node * LEAVES_PER_NODE;
        let digest = hash(NODE_CONTEXT, (first..first + LEAVES_PER_NODE).map(|leaf| self.leaf(leaf)));
        if let Some(known) = self.nodes.get_mut(node) {
            *known = Some(digest);
        }
        digest
    }

    /// The digest of everything.
    pub fn root(&mut self) -> Digest {
        if let Some(known) = self.root {
            return known;
        }
        let nodes: Vec<Digest> = (0..NODES).map(|node| self.node(node)).collect();
        let digest = hash(ROOT_CONTEXT, nodes.into_iter());
        self.root = Some(digest);
        digest
    }

    /// The sum over all leaves: the digest of all rows as one set.
    #[must_use]
    pub fn total(&self) -> Digest {
        self.leaves.iter().fold(Digest::default(), |sum, leaf| sum.plus(*leaf))
    }

    /// Canonical bytes: the leaves that are not empty.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let filled: Vec<(usize, Digest)> =
            self.leaves.iter().copied().enumerate().filter(|(_, digest)| *digest != Digest::default()).collect();
        let mut writer = Writer::versioned(VERSION);
        writer.count(filled.len());
        for (leaf, digest) in filled {
            writer.count(leaf);
            writer.raw(&digest.0.to_be_bytes());
        }
        writer.into_bytes()
    }

    /// The tree of canonical bytes.
    ///
    /// # Errors
    /// Where the bytes are not what [`Tree::to_bytes`] makes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let source = bytes::Bytes::copy_from_slice(bytes);
        let mut reader = Reader::versioned(&source, "tree", VERSION)?;
        let mut tree = Self::new();
        let count = reader.count("leaves", LEAVES)?;
        let mut lowest = 0;
        for _ in 0..count {
            let leaf = reader.count("leaf", LEAVES - 1)?;
            let (upper, lower) = (reader.word("digest")?, reader.word("digest")?);
            let digest = Digest(u128::from(upper) << 64 | u128::from(lower));
            if leaf < lowest || digest == Digest::default() {
                return Err(DecodeError::Invalid("the leaves of a tree are not in order, or one of them is empty"));
            }
            lowest = leaf + 1;
            tree.change(leaf, Digest::default(), digest);
        }
        reader.finish()?;
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Everything computed anew from a plain map of leaves.
    fn naive(leaves: &BTreeMap<usize, u128>) -> Digest {
        let leaf = |leaf: usize| Digest(leaves.get(&leaf).copied().unwrap_or(0));
        let node = |node: usize| hash(NODE_CONTEXT, (node * 32..node * 32 + 32).map(leaf));
        hash(ROOT_CONTEXT, (0..32).map(node))
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_tree_after_every_change(changes in proptest::collection::vec((0..LEAVES, any::<u128>(), any::<bool>()), 1..60)) {
            let mut tree = Tree::new();
            let mut leaves = BTreeMap::new();
            for (leaf, digest, add) in changes {
                let entry = leaves.entry(leaf).or_insert(0u128);
                if add {
                    tree.change(leaf, Digest::default(), Digest(digest));
                    *entry = entry.wrapping_add(digest);
                } else {
                    tree.change(leaf, Digest(digest), Digest::default());
                    *entry = entry.wrapping_sub(digest);
                }
                prop_assert_eq!(tree.root(), naive(&leaves));
            }
            prop_assert_eq!(tree.total(), Digest(leaves.values().fold(0, |sum, leaf| sum.wrapping_add(*leaf))));
            let mut copy = Tree::from_bytes(&tree.to_bytes()).unwrap();
            prop_assert_eq!(copy.root(), tree.root());
            prop_assert_eq!(copy.to_bytes(), tree.to_bytes());
        }
    }

    #[test]
    fn a_short_digest_depends_on_the_salt_and_on_all_of_the_digest() {
        let digest = Digest(5 << 100);
        assert_eq!(short(digest, 7), short(digest, 7));
        assert_ne!(short(digest, 7), short(digest, 8));
        assert_ne!(short(digest, 7), short(Digest((5 << 100) + 1), 7));
        assert_eq!((short(Digest::default(), 7), short(Digest::default(), 8)), (0, 0));
    }

    #[test]
    fn an_emptied_tree_equals_a_new_one() {
        let mut tree = Tree::new();
        tree.change(7, Digest::default(), Digest(5));
        assert_ne!(tree.root(), Tree::new().root());
        tree.change(7, Digest(5), Digest::default());
        assert_eq!((tree.root(), tree.to_bytes()), (Tree::new().root(), Tree::new().to_bytes()));
        assert_eq!(tree, Tree::new());
    }

    #[test]
    fn bytes_that_are_no_tree_are_refused() {
        assert!(Tree::from_bytes(&[]).is_err());
        assert!(Tree::from_bytes(&[2, 0]).is_err());
        let mut long = Tree::new().to_bytes();
        long.push(0);
        assert!(Tree::from_bytes(&long).is_err());
        let tree = |leaves: &[(usize, u128)]| {
            let mut writer = Writer::versioned(VERSION);
            writer.count(leaves.len());
            for (leaf, digest) in leaves {
                writer.count(*leaf);
                writer.raw(&digest.to_be_bytes());
            }
            Tree::from_bytes(&writer.into_bytes())
        };
        assert!(tree(&[(3, 1), (LEAVES - 1, 2)]).is_ok());
        for refused in [&[(3, 1), (3, 2)][..], &[(4, 1), (3, 2)], &[(3, 0)], &[(LEAVES, 1)]] {
            assert!(tree(refused).is_err());
        }
    }
}
