//! A delta among serialized values: its bytes, checked when they are read.

use crate::{DELTA_MAX, Delta};
use alloc::vec::Vec;
use core::fmt::Formatter;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

impl Serialize for Delta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Delta, D::Error> {
        deserializer.deserialize_bytes(DeltaVisitor)
    }
}

struct DeltaVisitor;

impl<'de> Visitor<'de> for DeltaVisitor {
    type Value = Delta;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("the bytes of a delta")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Delta, E> {
        Delta::from_bytes(bytes).map_err(E::custom)
    }

    /// Formats without bytes, JSON for one, have sequences of numbers instead.
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Delta, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            if bytes.len() >= DELTA_MAX {
                return Err(serde::de::Error::invalid_length(bytes.len() + 1, &self));
            }
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}
