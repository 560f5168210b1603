//! The registers of HyperLogLogs: how elements are hashed into them, how many different ones they tell of, and the strings that Redis makes of them.
//!
//! Hash, registers and estimator are those of Redis 7.0, so both count the same.
//!
//! Sources: HyperLogLog (Flajolet et al., 2007); the estimator of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017);
//! MurmurHash64A (Appleby, 2008).

use bytes::Bytes;

use super::row::{Entry, Payload};

/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = 14;
/// How many registers there are.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that make the rank.
const RANK_BITS: u8 = 50;
/// The greatest rank: of fifty zeros.
pub const MAX_RANK: u8 = RANK_BITS + 1;
/// What Redis begins its hash with.
const SEED: u64 = 0xadc8_3b19;
/// The constant of the estimator for infinitely many registers.
const ALPHA: f64 = 0.721_347_520_444_481_7;

/// Bytes before the registers in the string that Redis keeps.
const HEAD: usize = 16;

/// The registers of one or several HyperLogLogs, merged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registers(pub(super) Vec<u8>);

impl Default for Registers {
    /// Those to which nothing was added.
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Registers {
    /// Reads registers, a byte each. Bytes that are missing are zeros, ranks that cannot be are the greatest.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut registers = Self::default();
        for (register, rank) in registers.0.iter_mut().zip(bytes) {
            *register = (*rank).min(MAX_RANK);
        }
        registers
    }

    /// The registers, a byte each.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    /// Takes in other registers.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*other);
        }
    }

    /// About how many different elements were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut histogram = [0.0f64; MAX_RANK as usize + 1];
        for rank in &self.0 {
            histogram[usize::from(*rank)] += 1.0;
        }
        let registers = f64::from(1 << INDEX_BITS);
        let mut sum = registers * tau((registers - histogram[usize::from(MAX_RANK)]) / registers);
        for number in histogram[1..=usize::from(RANK_BITS)].iter().rev() {
            sum = (sum + number) * 0.5;
        }
        sum += registers * sigma(histogram[0] / registers);
        let estimate = (ALPHA * registers * registers / sum).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of at most 64 bits, as the hash has"
        )]
        let count = estimate as u64;
        count
    }

    /// Reads the string that Redis keeps, in its dense or its sparse form; `None` where it is none.
    ///
    /// ```text
    /// dense                  6 bits a register, from the least
    /// sparse   00llllll      l + 1 registers of 0                  01llllll llllllll   likewise
    ///          1rrrrrll      l + 1 registers of r + 1
    /// ```
    #[must_use]
    pub fn of_string(text: &[u8]) -> Option<Self> {
        let (head, body) = text.split_first_chunk::<HEAD>()?;
        let ranks = match head {
            [b'H', b'Y', b'L', b'L', 0, ..] if body.len() == REGISTERS / 4 * 3 => of_dense(body),
            [b'H', b'Y', b'L', b'L', 1, ..] => of_sparse(body)?,
            _ => return None,
        };
        (ranks.len() == REGISTERS && ranks.iter().all(|rank| *rank <= MAX_RANK)).then_some(Self(ranks))
    }

    /// The string that Redis keeps in its dense form: registers of 6 bits behind a head of 16 bytes, which says that the count is not known.
    #[must_use]
    pub fn to_dense(&self) -> Bytes {
        let mut dense = b"HYLL\0\0\0\0\0\0\0\0\0\0\0\x80".to_vec();
        for four in self.0.chunks_exact(4) {
            let packed = four.iter().rev().fold(0u32, |packed, rank| packed << 6 | u32::from(*rank));
            dense.extend_from_slice(&packed.to_le_bytes()[..3]);
        }
        dense.into()
    }
}

/// Four registers in each three bytes.
fn of_dense(packed: &[u8]) -> Vec<u8> {
    let (threes, _) = packed.as_chunks::<3>();
    let four = |[low, middle, high]: &[u8; 3]| [low & 63, low >> 6 | (middle & 15) << 2, middle >> 4 | (high & 3) << 4, high >> 2];
    threes.iter().flat_map(four).collect()
}

/// Runs of registers; `None` where there are more than all.
fn of_sparse(packed: &[u8]) -> Option<Vec<u8>> {
    let (mut ranks, mut rest) = (Vec::new(), packed.iter());
    while let Some(first) = rest.next() {
        let (rank, run) = match first >> 6 {
            0 => (0, usize::from(*first) + 1),
            1 => (0, (usize::from(first & 63) << 8 | usize::from(*rest.next()?)) + 1),
            _ => (((first >> 2) & 31) + 1, usize::from(first & 3) + 1),
        };
        ranks.resize(ranks.len() + run, rank);
        if ranks.len() > REGISTERS {
            return None;
        }
    }
    Some(ranks)
}

/// The share of registers without an element, corrected.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * weight;
        weight += weight;
        if sum == before {
            return sum;
        }
    }
}

/// The share of registers that are full, corrected.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        weight *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * weight;
        if sum == before {
            return sum / 3.0;
        }
    }
}

/// The hash of an element: MurmurHash64A.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let mixed = |word: u64| word ^ word >> 47;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = mixed(u64::from_le_bytes(*word).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    mixed(mixed(hash).wrapping_mul(FACTOR))
}

/// The register of an element, and its rank.
pub(super) fn register(element: &[u8]) -> (u16, u8) {
    let hash = hash(element);
    let index = u16::try_from(hash % (1 << INDEX_BITS)).unwrap_or(0);
    let zeros = (hash >> INDEX_BITS | 1 << RANK_BITS).trailing_zeros();
    (index, u8::try_from(zeros + 1).unwrap_or(MAX_RANK))
}

/// The register that a row is of; `None` where there is none such.
#[must_use]
pub fn index_of(element: &[u8]) -> Option<usize> {
    element.try_into().ok().map(u16::from_be_bytes).map(usize::from).filter(|index| *index < REGISTERS)
}

/// The rank that an entry holds; `None` where it is none.
#[must_use]
pub fn rank_of(entry: &Entry) -> Option<u8> {
    match &entry.payload {
        Payload::Value(value) if value.len() == 1 && value[0] <= MAX_RANK => Some(value[0]),
        _ => None,
    }
}
