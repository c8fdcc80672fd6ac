//! [`Record`]: a notification as a store keeps it.

use std::fmt;
use std::str;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::sync::Arc;

/// How urgent a notification is: a full queue drops the least urgent notifications first.
///
/// On the wire the field is called `priority`, and its value is `low`, `normal` or `high`; serde uses the same words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// Dropped first.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Dropped last.
    High,
}

impl Urgency {
    /// Returns its word on the wire: `low`, `normal` or `high`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// A notification as a store keeps it, or the idempotency key of an acknowledged one. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub(super) id: u64,
    pub(super) time: u64,
    pub(super) expires: u64,
    pub(super) urgency: Urgency,
    pub(super) key: Option<Arc<str>>,
    /// JSON; `None` when the notification was acknowledged.
    pub(super) payload: Option<Bytes>,
}

/// The approximate size of a record without its key and payload.
const OVERHEAD: usize = 64;
/// The first byte of an encoded record.
const ENCODING: u8 = 1;
/// Bytes before the key.
const HEAD: usize = 28;

impl Record {
    /// Returns its id: unique in the store, and higher than all ids before it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns the time at which it expires, in milliseconds since 1970.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Returns its share of [`StoreState::size`](super::StoreState::size): the bytes of key and payload, plus 64.
    #[must_use]
    pub fn size(&self) -> u64 {
        (OVERHEAD + self.key.as_ref().map_or(0, |key| key.len()) + self.payload_len()) as u64
    }

    pub(super) fn payload_len(&self) -> usize {
        self.payload.as_ref().map_or(0, Bytes::len)
    }

    /// Returns the record as bytes, for a database.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let key = self.key.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEAD + key.len() + self.payload_len());
        bytes.extend_from_slice(&[ENCODING, self.urgency as u8, u8::from(self.payload.is_some())]);
        for number in [self.id, self.time, self.expires] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        // `MAX_KEY_LEN` fits.
        bytes.push(key.len() as u8);
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(self.payload.as_deref().unwrap_or_default());
        bytes
    }

    /// Returns the record that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are not an encoded record.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidRecord> {
        Self::decoded(bytes).ok_or(InvalidRecord)
    }

    fn decoded(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let number = |at: usize| Some(u64::from_le_bytes(head[at..at + 8].try_into().ok()?));
        let (key, payload) = rest.split_at_checked(usize::from(head[HEAD - 1]))?;
        let key = str::from_utf8(key).ok()?;
        let urgency = match head[1] {
            0 => Urgency::Low,
            1 => Urgency::Normal,
            2 => Urgency::High,
            _ => return None,
        };
        let payload = match head[2] {
            0 if payload.is_empty() => None,
            1 => Some(str::from_utf8(payload).ok()?),
            _ => return None,
        };
        (head[0] == ENCODING).then_some(Self {
            id: number(3)?,
            time: number(11)?,
            expires: number(19)?,
            urgency,
            key: (!key.is_empty()).then(|| key.into()),
            payload: payload.map(|payload| Bytes::copy_from_slice(payload.as_bytes())),
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("id", &self.id).field("size", &self.size()).finish_non_exhaustive()
    }
}

/// These bytes are not a [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRecord;

impl fmt::Display for InvalidRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a record of an offline queue")
    }
}

impl std::error::Error for InvalidRecord {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_urgency_is_one_word_everywhere() {
        for urgency in [Urgency::Low, Urgency::Normal, Urgency::High] {
            let json = format!("\"{}\"", urgency.as_str());
            assert_eq!(serde_json::to_string(&urgency).expect("it is a word"), json);
            assert_eq!(serde_json::from_str::<Urgency>(&json).expect("it is one"), urgency);
        }
        assert!(serde_json::from_str::<Urgency>("\"High\"").is_err());
    }

    proptest! {
        #[test]
        fn a_record_is_what_its_bytes_say(
            (id, time, expires) in any::<(u64, u64, u64)>(),
            urgency in prop::sample::select(vec![Urgency::Low, Urgency::Normal, Urgency::High]),
            key in prop::option::of("[a-zä]{1,60}"),
            payload in prop::option::of("[0-9]{0,300}"),
        ) {
            let payload = payload.map(Bytes::from);
            let record = Record { id, time, expires, urgency, key: key.map(Arc::from), payload };
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(bytes in prop::collection::vec(0u8..4, 0..60)) {
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
            }
        }
    }
}
