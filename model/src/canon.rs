//! Bytes that stand for a value up to the names of segments: what states are told apart by.
//!
//! Any value that serde can serialise is written as bytes, with each [`MemberId`](auriga_protocol::MemberId) replaced
//! by a *label*. With the identity as labels the bytes tell values apart as `==` does; with labels chosen by
//! `symmetry.rs`, two states that differ only in which segment is called what give the same bytes.
//!
//! What is left out, by field name, and why it can't matter:
//! - `config`, `membership`, `quorum`: the same in every state of a model;
//! - `is_hint`: whether `membership` may be replaced by what a segment says, which is the same;
//! - `gossip_next`: the model asks every peer in turn by itself (see `world.rs`);
//! - `next_token`: only ever compared with itself, and never given twice;
//! - `boot` and `questions` of a segment, for the same reason (a `Question` that was asked keeps both);
//! - `weight`, `by_page`: derived from the records beside them;
//! - `hedged`, `healed`: counters for people.
//!
//! Append numbers are counted from the last durable one, so that a long life and a short one look the same.

use serde::Serialize;
use serde::ser;
use std::fmt;

const LEFT_OUT: [&str; 12] = [
    "config",
    "membership",
    "is_hint",
    "quorum",
    "gossip_next",
    "next_token",
    "boot",
    "questions",
    "weight",
    "by_page",
    "hedged",
    "healed",
];

/// What a member is called in the bytes.
pub trait Labels {
    /// The label of member number `member`.
    fn label(&mut self, member: u8) -> u64;

    /// Receives what is said of `member`, so that an implementation can tell members apart by it: the bytes of an entry
    /// of which the member is the key, in the map that begins at `place`.
    fn entry_of(&mut self, _member: u8, _place: usize, _entry: &[u8]) {}
}

impl<F: FnMut(u8) -> u64> Labels for F {
    fn label(&mut self, member: u8) -> u64 {
        self(member)
    }
}

/// Appends the bytes of `value` to `out`. Append numbers at or below `durable` become zero.
pub fn write(out: &mut Vec<u8>, value: &impl Serialize, durable: u64, labels: &mut dyn Labels) {
    let mut canon = Canon { out, labels, durable, capture: None, maps: 0, named: None };
    // The sink is memory and every type of the protocol is supported: there is no error to meet.
    value.serialize(&mut canon).expect("a protocol value has a canonical form");
}

/// 128 bits that stand for `bytes`.
pub fn digest(bytes: &[u8]) -> u128 {
    let (mut a, mut b) = (0x9e37_79b9_7f4a_7c15_u64 ^ bytes.len() as u64, 0xc2b2_ae3d_27d4_eb4f_u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        a = folded(a ^ word, 0xd6e8_feb8_6659_fd93);
        b = folded(b.rotate_left(29) ^ word, 0xa076_1d64_78bd_642f) ^ a;
    }
    u128::from(folded(a, 0xe703_7ed1_a0b4_28db)) << 64 | u128::from(folded(b ^ a, 0x8ebc_6af0_9c88_c6e3))
}

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64 ^ a.rotate_left(17)
}

struct Canon<'a> {
    out: &'a mut Vec<u8>,
    labels: &'a mut dyn Labels,
    durable: u64,
    /// Set while the number inside a newtype is wanted instead of its bytes.
    capture: Option<u64>,
    /// How many maps this value is in.
    maps: u32,
    /// The member that the key being written names.
    named: Option<u8>,
}

impl Canon<'_> {
    /// LEB128, so that small numbers stay small.
    fn number(&mut self, mut value: u64) {
        if let Some(captured) = &mut self.capture {
            *captured = value;
            return;
        }
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn captured<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<u64, Unsupported> {
        self.capture = Some(0);
        value.serialize(&mut *self)?;
        Ok(self.capture.take().unwrap_or_default())
    }
}

impl<'a, 'b> ser::Serializer for &'b mut Canon<'a> {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Entries<'a, 'b>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Unsupported> {
        match name {
            "MemberId" => {
                let member = self.captured(value)? as u8;
                self.named = Some(member);
                let label = self.labels.label(member);
                self.number(label);
            }
            "MemberSet" => {
                let set = self.captured(value)?;
                let members = (0..64).filter(|member| set >> member & 1 == 1);
                let mut labels: Vec<u64> = members.map(|member| self.labels.label(member)).collect();
                labels.sort_unstable();
                self.number(labels.len() as u64);
                labels.into_iter().for_each(|label| self.number(label));
            }
            "AppendId" => {
                let append = self.captured(value)?.saturating_sub(self.durable);
                self.number(append);
            }
            _ => value.serialize(self)?,
        }
        Ok(())
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unsupported> {
        self.number(value.into());
        Ok(())
    }
    fn serialize_u8(self, value: u8) -> Result<(), Unsupported> {
        self.number(value.into());
        Ok(())
    }
    fn serialize_u16(self, value: u16) -> Result<(), Unsupported> {
        self.number(value.into());
        Ok(())
    }
    fn serialize_u32(self, value: u32) -> Result<(), Unsupported> {
        self.number(value.into());
        Ok(())
    }
    fn serialize_u64(self, value: u64) -> Result<(), Unsupported> {
        self.number(value);
        Ok(())
    }
    fn serialize_i8(self, value: i8) -> Result<(), Unsupported> {
        self.serialize_i64(value.into())
    }
    fn serialize_i16(self, value: i16) -> Result<(), Unsupported> {
        self.serialize_i64(value.into())
    }
    fn serialize_i32(self, value: i32) -> Result<(), Unsupported> {
        self.serialize_i64(value.into())
    }
    fn serialize_i64(self, value: i64) -> Result<(), Unsupported> {
        self.number(value as u64);
        Ok(())
    }
    fn serialize_f32(self, _: f32) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
    fn serialize_f64(self, _: f64) -> Result<(), Unsupported> {
        Err(Unsupported)
    }
    fn serialize_char(self, value: char) -> Result<(), Unsupported> {
        self.serialize_u32(value.into())
    }
    fn serialize_str(self, value: &str) -> Result<(), Unsupported> {
        self.serialize_bytes(value.as_bytes())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unsupported> {
        self.number(value.len() as u64);
        self.out.extend_from_slice(value);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Unsupported> {
        self.number(0);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unsupported> {
        self.number(1);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Unsupported> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unsupported> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Unsupported> {
        self.serialize_u32(index)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unsupported> {
        self.number(index.into());
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Unsupported> {
        self.number(len.ok_or(Unsupported)? as u64);
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Unsupported> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Unsupported> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Unsupported> {
        self.number(index.into());
        Ok(self)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'a, 'b>, Unsupported> {
        self.number(len.ok_or(Unsupported)? as u64);
        self.maps += 1;
        Ok(Entries { start: self.out.len(), starts: Vec::new(), members: Vec::new(), canon: self })
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unsupported> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Unsupported> {
        self.number(index.into());
        Ok(self)
    }
}

/// A map: its entries are put in the order of their bytes, since labels need not keep the keys' order.
struct Entries<'a, 'b> {
    canon: &'b mut Canon<'a>,
    start: usize,
    /// Where each entry begins, and whom its key names.
    starts: Vec<usize>,
    members: Vec<Option<u8>>,
}

impl ser::SerializeMap for Entries<'_, '_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unsupported> {
        self.starts.push(self.canon.out.len());
        self.canon.named = None;
        key.serialize(&mut *self.canon)?;
        self.members.push(self.canon.named);
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
        value.serialize(&mut *self.canon)
    }
    fn end(self) -> Result<(), Unsupported> {
        self.canon.maps -= 1;
        let out = &mut *self.canon.out;
        let end = out.len();
        let span = |n: usize| self.starts[n]..self.starts.get(n + 1).copied().unwrap_or(end);
        if self.canon.maps == 0 {
            for (n, member) in self.members.iter().enumerate() {
                member.iter().for_each(|member| self.canon.labels.entry_of(*member, self.start, &out[span(n)]));
            }
        }
        let in_order = (1..self.starts.len()).all(|n| out[span(n - 1)] <= out[span(n)]);
        if !in_order {
            let bytes = out[self.start..].to_vec();
            let mut entries: Vec<&[u8]> =
                (0..self.starts.len()).map(|n| &bytes[span(n).start - self.start..span(n).end - self.start]).collect();
            entries.sort_unstable();
            out.truncate(self.start);
            entries.into_iter().for_each(|entry| out.extend_from_slice(entry));
        }
        Ok(())
    }
}

macro_rules! elements {
    ($($kind:ident $method:ident),*) => {$(
        impl ser::$kind for &mut Canon<'_> {
            type Ok = ();
            type Error = Unsupported;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unsupported> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), Unsupported> {
                Ok(())
            }
        }
    )*};
}
elements!(SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field);

macro_rules! fields {
    ($($kind:ident),*) => {$(
        impl ser::$kind for &mut Canon<'_> {
            type Ok = ();
            type Error = Unsupported;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unsupported> {
                if LEFT_OUT.contains(&name) { Ok(()) } else { value.serialize(&mut **self) }
            }
            fn end(self) -> Result<(), Unsupported> {
                Ok(())
            }
        }
    )*};
}
fields!(SerializeStruct, SerializeStructVariant);

/// A value that no type of the protocol has.
#[derive(Debug)]
struct Unsupported;

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no canonical form")
    }
}

impl std::error::Error for Unsupported {}

impl ser::Error for Unsupported {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Unsupported
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_protocol::{AppendId, MemberId, MemberSet};
    use std::collections::BTreeMap;

    fn bytes(value: &impl Serialize, mut label: impl FnMut(u8) -> u64) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, value, 5, &mut label);
        out
    }

    #[test]
    fn a_renamed_map_gives_the_bytes_of_the_map_with_renamed_keys() {
        let one: BTreeMap<MemberId, u64> = [(MemberId(0), 7), (MemberId(1), 300)].into();
        let other: BTreeMap<MemberId, u64> = [(MemberId(0), 300), (MemberId(1), 7)].into();
        let swap = |member: u8| u64::from(1 - member);
        assert_ne!(bytes(&one, u64::from), bytes(&other, u64::from));
        assert_eq!(bytes(&one, swap), bytes(&other, u64::from));
    }

    #[test]
    fn sets_of_members_are_renamed_too() {
        let swap = |member: u8| u64::from(1 - member);
        assert_eq!(bytes(&MemberSet(0b01), swap), bytes(&MemberSet(0b10), u64::from));
    }

    #[test]
    fn append_numbers_count_from_the_durable_one() {
        assert_eq!(bytes(&AppendId(3), u64::from), bytes(&AppendId(5), u64::from));
        assert_ne!(bytes(&AppendId(5), u64::from), bytes(&AppendId(6), u64::from));
    }

    #[test]
    fn digests_differ() {
        let digests: std::collections::BTreeSet<u128> = (0..10_000u32).map(|n| digest(&n.to_le_bytes())).collect();
        assert_eq!(digests.len(), 10_000);
    }
}
