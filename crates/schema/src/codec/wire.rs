//! Protobuf's wire format: tags, varints and length-delimited fields.

use super::{Error, Result};

/// The wire types that proto2 messages use.
pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const FIXED32: u8 = 5;

/// One field as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub number: u32,
    pub wire: u8,
    /// The varint or fixed value, for those wire types.
    pub int: u64,
    /// The content, for length-delimited fields.
    pub bytes: &'a [u8],
}

/// Reads the fields of a message in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    pub fn at(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    pub fn pos(&self) -> usize {
        self.pos
    }

    pub fn is_empty(&self) -> bool {
        self.pos >= self.bytes.len()
    }

    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.pos).ok_or(Error::Wire("unexpected EOF"))?;
            self.pos += 1;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::Wire("integer overflow"))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let left = (self.bytes.len() - self.pos) as u64;
        if len > left {
            return Err(Error::Wire("unexpected EOF"));
        }
        let start = self.pos;
        self.pos += len as usize;
        Ok(&self.bytes[start..self.pos])
    }

    /// The next field, or `None` at the end. Groups are refused: upstream's types have none.
    pub fn next(&mut self) -> Result<Option<Raw<'a>>> {
        if self.pos >= self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Error::Wire("illegal tag"))?;
        if number == 0 {
            return Err(Error::Wire("illegal tag 0"));
        }
        let wire = (tag & 7) as u8;
        let mut raw = Raw { number, wire, int: 0, bytes: &[] };
        match wire {
            VARINT => raw.int = self.varint()?,
            FIXED64 => raw.int = little_endian(self.take(8)?),
            FIXED32 => raw.int = little_endian(self.take(4)?),
            BYTES => {
                let len = self.varint()?;
                raw.bytes = self.take(len)?;
            }
            _ => return Err(Error::Wire("illegal wireType")),
        }
        Ok(Some(raw))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | u64::from(BYTES));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes a varint takes.
pub(crate) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Most objects are smaller.
const USUAL_OBJECT: usize = 4096;

/// Writes a message from its end to its start, as gogo does, so that lengths are known when they are written.
#[derive(Debug, Default)]
pub(crate) struct BackWriter {
    reversed: Vec<u8>,
    stored: bool,
}

impl BackWriter {
    /// For an object's stored form, which has no `resourceVersion`.
    pub fn stored() -> Self {
        Self { reversed: Vec::with_capacity(USUAL_OBJECT), stored: true }
    }

    /// Whether [`Self::stored`] made it.
    pub fn is_stored(&self) -> bool {
        self.stored
    }

    pub fn len(&self) -> usize {
        self.reversed.len()
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let start = self.reversed.len();
        self.reversed.extend_from_slice(bytes);
        self.reversed[start..].reverse();
    }

    pub fn varint(&mut self, value: u64) {
        if value < 0x80 {
            self.reversed.push(value as u8);
            return;
        }
        let mut buffer = [0u8; 10];
        let mut len = 0;
        let mut rest = value;
        loop {
            let more = rest >= 0x80;
            buffer[len] = rest as u8 & 0x7f | if more { 0x80 } else { 0 };
            len += 1;
            rest >>= 7;
            if !more {
                break;
            }
        }
        self.bytes(&buffer[..len]);
    }

    pub fn tag(&mut self, number: u32, wire: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire));
    }

    pub fn varint_field(&mut self, number: u32, value: u64) {
        self.varint(value);
        self.tag(number, VARINT);
    }

    pub fn bytes_field(&mut self, number: u32, bytes: &[u8]) {
        self.bytes(bytes);
        self.varint(bytes.len() as u64);
        self.tag(number, BYTES);
    }

    /// Closes a message that was begun when [`Self::len`] was `start`.
    pub fn message_field(&mut self, number: u32, start: usize) {
        self.varint((self.reversed.len() - start) as u64);
        self.tag(number, BYTES);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.reversed.reverse();
        self.reversed
    }
}
