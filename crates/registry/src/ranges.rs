//! What of a range is taken, as upstream keeps it: one `RangeAllocation` with a bitmap, changed by comparing and swapping, so that
//! several API servers share it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::{Object, Status};
use store::{Conditional, KeyRange, RangeRequest};

use crate::Registry;

/// A range of numbers under a key of its own.
#[derive(Debug, Clone)]
pub struct NumberRange {
    key: &'static str,
    range: RangeInclusive<u16>,
}

/// What was read of a range.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The key's last change; 0 when there is none yet.
    revision: i64,
    /// The numbers that are taken.
    pub numbers: BTreeSet<u16>,
}

impl Taken {
    /// Whether the range was never written.
    pub fn is_new(&self) -> bool {
        self.revision == 0
    }
}

impl NumberRange {
    /// The range of node ports, under upstream's key.
    pub fn node_ports(range: RangeInclusive<u16>) -> Self {
        Self { key: "/registry/ranges/servicenodeports", range }
    }

    /// Reads what is taken.
    ///
    /// # Errors
    /// The storage failed, or what it holds is damaged.
    pub async fn read(&self, registry: &Registry) -> Result<Taken, Status> {
        let request = RangeRequest::new(KeyRange::key(self.key));
        let found = registry.store().range(request).await.map_err(|e| crate::storage_error(&e))?;
        let Some(kv) = found.kvs.first() else { return Ok(Taken::default()) };
        let object = schema::codec::decode_protobuf(&kv.value).map_err(Status::internal)?;
        let bits = STANDARD.decode(object.get_str(&["data"])).map_err(Status::internal)?;
        // Another range was configured before: its offsets mean other numbers.
        let first = object.get_str(&["range"]).split('-').next().and_then(|n| n.parse().ok());
        Ok(Taken { revision: kv.mod_revision, numbers: numbers(&bits, first.unwrap_or(*self.range.start())) })
    }

    /// Writes what is taken, unless somebody else wrote since it was read; then gives `false`.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn write(&self, registry: &Registry, taken: &Taken) -> Result<bool, Status> {
        let mut object = Object::default();
        object.body.insert("kind".into(), "RangeAllocation".into());
        object.body.insert("apiVersion".into(), "v1".into());
        object.body.insert("range".into(), format!("{}-{}", self.range.start(), self.range.end()).into());
        object.body.insert("data".into(), STANDARD.encode(bits(&taken.numbers, &self.range)).into());
        let value = schema::codec::encode_protobuf(&object).map_err(Status::internal)?;
        let done = registry.store().put_if(self.key.into(), taken.revision, value.into(), 0).await;
        Ok(matches!(done.map_err(|e| crate::storage_error(&e))?, Conditional::Applied { .. }))
    }
}

/// The numbers of a bitmap: a large integer, its highest byte first, whose bit `i` stands for `first + i`.
fn numbers(bits: &[u8], first: u16) -> BTreeSet<u16> {
    let set = bits
        .iter()
        .rev()
        .enumerate()
        .flat_map(|(at, byte)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| at * 8 + bit));
    set.filter_map(|offset| first.checked_add(u16::try_from(offset).ok()?)).collect()
}

fn bits(numbers: &BTreeSet<u16>, range: &RangeInclusive<u16>) -> Vec<u8> {
    let offsets = numbers.iter().filter(|n| range.contains(n)).map(|n| usize::from(n - range.start()));
    let mut bytes: Vec<u8> = Vec::new();
    for offset in offsets {
        let at = offset / 8;
        if bytes.len() <= at {
            bytes.resize(at + 1, 0);
        }
        bytes[at] |= 1 << (offset % 8);
    }
    bytes.reverse();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_are_large_integers() {
        let range = 30000..=32767;
        let taken: BTreeSet<u16> = [30000, 30001, 30009, 32767].into();
        let bytes = bits(&taken, &range);
        assert_eq!((bytes.len(), bytes.last(), bytes[bytes.len() - 2]), (346, Some(&3), 2));
        assert_eq!(numbers(&bytes, 30000), taken);
        assert!(bits(&BTreeSet::new(), &range).is_empty());
    }
}
