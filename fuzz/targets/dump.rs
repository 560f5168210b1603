//! Payloads of RESTORE whose checksum is right, whatever they hold: refused, or no greater than may be written at once, and read as the same once they are
//! dumped again.

use bytes::Bytes;
use crc::{CRC_64_REDIS, Crc};
use ringtide::config::MAX_CONTENT;
use ringtide::server::resp::dump::{deserialize, serialize};

/// Read as an object, and as a payload.
pub(crate) fn run(data: &[u8]) {
    let mut payload = [data, &10u16.to_le_bytes()].concat();
    let checksum = Crc::<u64>::new(&CRC_64_REDIS).checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    for payload in [Bytes::from(payload), Bytes::copy_from_slice(data)] {
        let Ok(content) = deserialize(&payload) else { continue };
        assert!(content.size() <= MAX_CONTENT, "more came out than can be written");
        assert_eq!(deserialize(&serialize(&content)), Ok(content), "what was read is dumped as something else");
    }
}
