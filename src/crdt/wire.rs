//! The replicated state inside messages: each value is one byte string of its canonical form, so that a message can derive serde.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::{DecodeError, Reader, Writer};
use super::delta::{Causal, Delta};
use super::dot::Clock;
use super::encode;
use super::row::{Row, RowAddress};
use super::weight::{self, Scale};
use crate::config::MAX_ROWS;

macro_rules! as_one_byte_string {
    ($type:ty, $to_bytes:path, $from_bytes:path) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&$to_bytes(self))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $from_bytes(&Bytes::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}

as_one_byte_string!(Clock, encode::clock_to_bytes, encode::clock_from_bytes);
as_one_byte_string!(Causal, encode::causal_to_bytes, encode::causal_from_bytes);
as_one_byte_string!(Delta, encode::delta_to_bytes, encode::delta_from_bytes);
as_one_byte_string!(RowAddress, encode::address_to_bytes, encode::address_from_bytes);

/// One row in a message; it may be empty there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WireRow(pub Row);

impl Serialize for WireRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = if self.0.is_empty() { Vec::new() } else { encode::row_to_bytes(&self.0) };
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for WireRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        if bytes.is_empty() { Ok(Self::default()) } else { encode::row_from_bytes(&bytes).map(Self).map_err(D::Error::custom) }
    }
}

/// The bytes of rows with their addresses.
#[must_use]
pub fn rows_to_bytes(rows: &BTreeMap<RowAddress, Row>) -> Vec<u8> {
    let mut writer = Writer::versioned(encode::VERSION);
    writer.count(rows.len());
    let mut before = None;
    for (address, row) in rows {
        encode::write_address(&mut writer, address, &mut before);
        encode::write_row(&mut writer, row);
    }
    writer.into_bytes()
}

/// The rows that these bytes hold; their keys and values are slices of them.
///
/// # Errors
/// Where they are not the one form of rows within the limits, or a row is empty.
pub fn rows_from_bytes(bytes: &Bytes) -> Result<BTreeMap<RowAddress, Row>, DecodeError> {
    let mut reader = Reader::versioned(bytes, "rows", encode::VERSION)?;
    let mut rows: BTreeMap<RowAddress, Row> = BTreeMap::new();
    let (mut before, mut scale) = (None, Scale::default());
    for _ in 0..reader.count("rows", MAX_ROWS)? {
        let address = encode::read_address(&mut reader, &mut before)?;
        if rows.last_key_value().is_some_and(|(before, _)| *before >= address) {
            return Err(DecodeError::Invalid("rows are not in order of their addresses"));
        }
        let row = encode::read_row(&mut reader)?;
        row.values().try_for_each(|entry| encode::check_kind(&address, entry))?;
        scale.put(weight::of_row(&row))?;
        rows.insert(address, row);
    }
    reader.finish()?;
    Ok(rows)
}

/// For `#[serde(with = "crate::crdt::wire::rows")]` on a field of rows: one byte string, and no empty rows among them.
pub mod rows {
    use super::{BTreeMap, Bytes, Deserialize, Deserializer, Row, RowAddress, Serializer, rows_from_bytes, rows_to_bytes};
    use serde::de::Error as _;

    /// Writes the rows.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(rows: &BTreeMap<RowAddress, Row>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&rows_to_bytes(rows))
    }

    /// Reads the rows.
    ///
    /// # Errors
    /// Those of the deserializer, and where the bytes are not the one form of rows.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<RowAddress, Row>, D::Error> {
        rows_from_bytes(&Bytes::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
