//! What a transaction must satisfy before it is queued.

use std::collections::HashSet;

use crate::{CompareTarget, Error, Key, KeyRange, Op, Result, Txn};

/// Checks a transaction as etcd does: number of operations, bytes, keys given, no key written twice.
///
/// # Errors
/// [`Error::TooManyOps`], [`Error::TooLarge`], [`Error::EmptyKey`], [`Error::DuplicateKey`].
pub(crate) fn check(txn: &Txn, max_ops: usize, max_bytes: usize) -> Result<()> {
    if bytes(txn) > max_bytes {
        return Err(Error::TooLarge { limit: max_bytes });
    }
    shape(txn, max_ops, max_ops)?;
    writes(&txn.success)?;
    writes(&txn.failure)?;
    Ok(())
}

/// Whether either branch may write.
pub(crate) fn may_write(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Put(_) | Op::DeleteRange { .. } => true,
        Op::Range(_) => false,
        Op::Txn(inner) => may_write(inner),
    })
}

/// Bytes of keys and values in a transaction.
pub(crate) fn bytes(txn: &Txn) -> usize {
    let compares = txn.compares.iter().map(|compare| {
        compare.range.start.len() + if let CompareTarget::Value(value) = &compare.target { value.len() } else { 0 }
    });
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        Op::Put(put) => put.key.len() + put.value.len(),
        Op::DeleteRange { range, .. } => range.start.len(),
        Op::Range(request) => request.range.start.len(),
        Op::Txn(inner) => bytes(inner),
    });
    compares.sum::<usize>() + ops.sum::<usize>()
}

/// Inner transactions share the allowance of the outer one.
fn shape(txn: &Txn, left: usize, limit: usize) -> Result<()> {
    let here = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    let left = left.checked_sub(here).ok_or(Error::TooManyOps { limit })?;
    for compare in &txn.compares {
        given(&compare.range)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put(put) if put.key.is_empty() => return Err(Error::EmptyKey),
            Op::Put(_) => {}
            Op::DeleteRange { range, .. } => given(range)?,
            Op::Range(request) => given(&request.range)?,
            Op::Txn(inner) => shape(inner, left, limit)?,
        }
    }
    Ok(())
}

/// One key must have a name; a wider range may begin at the empty key.
pub(crate) fn given(range: &KeyRange) -> Result<()> {
    if range.is_single() && range.start.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// The keys put and the ranges deleted by one list of operations, inner transactions included.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a Key>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a Key) -> Result<()> {
        if self.deletes.iter().any(|range| range.contains(key)) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

fn writes(ops: &[Op]) -> Result<Writes<'_>> {
    let mut all = Writes::default();
    for op in ops {
        if let Op::DeleteRange { range, .. } = op {
            all.deletes.push(range);
        }
    }
    for op in ops {
        let Op::Txn(inner) = op else { continue };
        let (then, other) = (writes(&inner.success)?, writes(&inner.failure)?);
        // Only one branch runs, so both may write one key.
        for key in then.puts.union(&other.puts) {
            all.put(key)?;
        }
        all.deletes.extend(then.deletes);
        all.deletes.extend(other.deletes);
    }
    for op in ops {
        if let Op::Put(put) = op {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(success: Vec<Op>) -> Result<()> {
        check(&Txn { success, ..Txn::default() }, 4, 1000)
    }

    #[test]
    fn a_key_is_written_at_most_once() {
        let inner = |then, other| Op::Txn(Txn { compares: vec![], success: then, failure: other });
        let delete = |prefix: &'static str| Op::DeleteRange { range: KeyRange::prefix(prefix), prev_kv: false };
        assert!(run(vec![Op::put("a", "1"), Op::put("b", "1")]).is_ok());
        assert!(run(vec![delete("a"), delete("a")]).is_ok());
        assert!(run(vec![inner(vec![Op::put("a", "1")], vec![Op::put("a", "2")])]).is_ok());
        let refused = [
            vec![Op::put("a", "1"), Op::put("a", "2")],
            vec![Op::put("ab", "1"), delete("a")],
            vec![inner(vec![Op::put("a", "1")], vec![]), Op::put("a", "2")],
            vec![inner(vec![], vec![delete("a")]), Op::put("a", "2")],
        ];
        for ops in refused {
            assert!(matches!(run(ops.clone()), Err(Error::DuplicateKey)), "{ops:?}");
        }
    }

    #[test]
    fn sizes_and_names_are_checked() {
        assert!(matches!(run(vec![Op::get("a"); 5]), Err(Error::TooManyOps { limit: 4 })));
        assert!(matches!(run(vec![Op::put("", "x")]), Err(Error::EmptyKey)));
        assert!(matches!(run(vec![Op::put("a", vec![0; 1000])]), Err(Error::TooLarge { limit: 1000 })));
    }
}
