//! The little of DER that certificates, requests and keys need: a writer and a reader.
//!
//! `rcgen` keeps one value per attribute type in a name, so it can neither make a client certificate of two groups nor sign a
//! request while keeping its subject as it stands; writing the dozen structures directly is shorter than working round that.

/// Object identifiers in their encoded form.
pub(crate) mod oid {
    pub const EC_PUBLIC_KEY: &[u64] = &[1, 2, 840, 10045, 2, 1];
    pub const P256: &[u64] = &[1, 2, 840, 10045, 3, 1, 7];
    pub const P384: &[u64] = &[1, 3, 132, 0, 34];
    pub const RSA: &[u64] = &[1, 2, 840, 113_549, 1, 1, 1];
    pub const RSA_SHA256: &[u64] = &[1, 2, 840, 113_549, 1, 1, 11];
    pub const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
    pub const ECDSA_SHA384: &[u64] = &[1, 2, 840, 10045, 4, 3, 3];
    pub const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
    pub const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
    /// Upstream's attribute for a user's uid.
    pub const USER_UID: &[u64] = &[1, 3, 6, 1, 4, 1, 57683, 2];
    pub const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];
    pub const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
    pub const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
    pub const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
    pub const AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
    pub const EXT_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
    pub const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
    pub const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
    pub const EXTENSION_REQUEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 14];
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;

/// Tag, length, value.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 6);
    out.push(tag);
    if value.len() < 0x80 {
        out.push(value.len() as u8);
    } else {
        let bytes = value.len().to_be_bytes();
        let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
        out.push(0x80 | (bytes.len() - first) as u8);
        out.extend_from_slice(&bytes[first..]);
    }
    out.extend_from_slice(value);
    out
}

/// A SEQUENCE of encoded parts.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// A SET of encoded parts, in the order given.
pub(crate) fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SET, &parts.concat())
}

/// An OBJECT IDENTIFIER.
pub(crate) fn object_id(arcs: &[u64]) -> Vec<u8> {
    let mut value = Vec::new();
    let first = arcs.first().copied().unwrap_or(0) * 40 + arcs.get(1).copied().unwrap_or(0);
    for arc in std::iter::once(first).chain(arcs.iter().skip(2).copied()) {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let bits = ((arc >> (group * 7)) & 0x7f) as u8;
            value.push(if group == 0 { bits } else { bits | 0x80 });
        }
    }
    tlv(OID, &value)
}

/// A non-negative INTEGER from big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len().saturating_sub(1));
    let mut value = bytes.get(start..).unwrap_or(&[0]).to_vec();
    if value.first().is_none_or(|b| b & 0x80 != 0) {
        value.insert(0, 0);
    }
    tlv(INTEGER, &value)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], bytes].concat())
}

/// `TRUE`.
pub(crate) fn boolean_true() -> Vec<u8> {
    vec![0x01, 0x01, 0xff]
}

/// `NULL`.
pub(crate) fn null() -> Vec<u8> {
    vec![0x05, 0x00]
}

/// A time as certificates write it: UTCTime before 2050, GeneralizedTime from then on.
pub(crate) fn time(at: jiff::Timestamp) -> Vec<u8> {
    let year = at.to_zoned(jiff::tz::TimeZone::UTC).year();
    if (1950..2050).contains(&year) {
        tlv(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

/// Reads elements one after the other.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element: tag, value, and the whole element. `None` at the end or when it is malformed.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, header) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let length = rest.get(..count)?.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
            (length, 2 + count)
        };
        let whole = self.0.get(..header.checked_add(length)?)?;
        self.0 = &self.0[whole.len()..];
        Some((tag, &whole[header..], whole))
    }

    /// The value of the next element, which must have the tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _, _)| *found == tag).map(|(_, value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads() {
        assert_eq!(object_id(oid::RSA_SHA256), [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]);
        assert_eq!(unsigned(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
        let long = tlv(OCTET_STRING, &[7; 300]);
        assert_eq!(&long[..4], [4, 0x82, 1, 44]);
        let mut reader = Reader::new(&long);
        assert_eq!(reader.expect(OCTET_STRING).map(<[u8]>::len), Some(300));
        assert!(reader.next().is_none());
        assert!(Reader::new(&[0x30, 0x05, 1]).next().is_none(), "a torn element is refused");
    }
}
