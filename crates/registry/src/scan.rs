//! Looks at single fields of a stored protobuf object without decoding the rest: labels for selectors, scalars for field
//! selectors. The numbers come from the schema table; only the outer shape of protobuf is known here.

use schema::{Card, Elem, TypeRef};

/// `ObjectMeta`'s numbers for what is looked at on every event.
const META: u32 = 1;
const META_LABELS: u32 = 11;

/// One field of a message.
struct Field<'a> {
    number: u32,
    int: u64,
    bytes: &'a [u8],
}

/// Reads fields; stops at the first malformed one (the store holds what the codec wrote, and a full decode reports damage).
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let number = (tag >> 3) as u32;
        let mut field = Field { number, int: 0, bytes: &[] };
        match tag & 7 {
            0 => field.int = self.varint()?,
            1 => field.bytes = self.take(8)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                field.bytes = self.take(length)?;
            }
            5 => field.bytes = self.take(4)?,
            _ => return None,
        }
        Some(field)
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("")
}

fn metadata(raw: &[u8]) -> &[u8] {
    Fields(raw).find(|f| f.number == META).map_or(&[], |f| f.bytes)
}

/// The labels of a bare message, in stored order.
pub(crate) fn labels(raw: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    Fields(metadata(raw)).filter(|f| f.number == META_LABELS).map(|entry| {
        let (mut key, mut value) = ("", "");
        for field in Fields(entry.bytes) {
            match field.number {
                1 => key = text(field.bytes),
                2 => value = text(field.bytes),
                _ => {}
            }
        }
        (key, value)
    })
}

/// The texts that the messages of a list have in a field, joined by commas; empty ones are left out.
pub(crate) fn joined(of: TypeRef, raw: &[u8], path: &[&str], item_field: &str) -> Option<String> {
    let (step, rest) = path.split_first()?;
    let field = of.field(step)?;
    let inner = field.struct_type()?;
    let mut found = Fields(raw).filter(|f| f.number == field.number());
    if !rest.is_empty() {
        return joined(inner, found.last()?.bytes, rest, item_field);
    }
    let wanted = inner.field(item_field).filter(|f| f.elem() == Elem::String)?;
    let mut all = String::new();
    found.try_for_each(|item| {
        let value = Fields(item.bytes).filter(|f| f.number == wanted.number()).last();
        let value = value.map_or("", |f| text(f.bytes));
        if !all.is_empty() && !value.is_empty() {
            all.push(',');
        }
        all.push_str(value);
        Some(())
    })?;
    Some(all)
}

/// The scalar at a path of a bare message of the given type, printed; `None` when absent, empty, or no scalar.
pub(crate) fn scalar(of: TypeRef, raw: &[u8], path: &[&str]) -> Option<String> {
    let (step, rest) = path.split_first()?;
    let field = of.field(step)?;
    if field.card() != Card::One {
        return None;
    }
    // Of a repeated scalar the last one counts.
    let found = Fields(raw).filter(|f| f.number == field.number()).last()?;
    if !rest.is_empty() {
        return scalar(field.struct_type()?, found.bytes, rest);
    }
    match field.elem() {
        Elem::String => Some(text(found.bytes).to_owned()).filter(|t| !t.is_empty()),
        Elem::Bool => Some((found.int != 0).to_string()),
        Elem::I32 | Elem::I64 => Some((found.int as i64).to_string()),
        _ => None,
    }
}
