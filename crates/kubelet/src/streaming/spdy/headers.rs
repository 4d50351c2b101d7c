//! Header blocks: counted names and values, compressed as one endless zlib stream per direction with a dictionary that
//! both sides know.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Error;

/// The dictionary of the SPDY/3 protocol.
static DICTIONARY: &[u8] = include_bytes!("dictionary.bin");

const MAX_BLOCK: usize = 64 << 10;
const MAX_HEADERS: usize = 256;

/// Names in lower case and their values.
pub type Headers = BTreeMap<String, String>;

/// Our direction.
pub struct Compressor(Compress);

impl Compressor {
    /// At the beginning of a connection.
    #[must_use]
    pub fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // Setting a dictionary before the first byte cannot fail.
        let _ = compress.set_dictionary(DICTIONARY);
        Self(compress)
    }

    /// A block.
    pub fn compress(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = BytesMut::new();
        plain.put_u32(u32::try_from(headers.len()).unwrap_or(0));
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(u32::try_from(text.len()).unwrap_or(0));
                plain.put_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 256);
        // A compressor only fails on misuse of the library.
        let _ = self.0.compress_vec(&plain, &mut out, FlushCompress::Sync);
        out
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

/// The peer's direction.
pub struct Decompressor {
    inflate: Decompress,
    primed: bool,
}

impl Decompressor {
    /// At the beginning of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self { inflate: Decompress::new(true), primed: false }
    }

    /// Reads a block.
    ///
    /// # Errors
    /// It is not zlib, or not a block.
    pub fn decompress(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let bad = Error::Malformed("a header block cannot be read");
        let (mut out, mut rest) = (Vec::with_capacity(1024), block);
        loop {
            if out.len() == out.capacity() {
                if out.len() >= MAX_BLOCK {
                    return Err(bad);
                }
                out.reserve(4096);
            }
            let (before_in, before_out) = (self.inflate.total_in(), out.len());
            let result = self.inflate.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let used = usize::try_from(self.inflate.total_in() - before_in).unwrap_or(rest.len());
            rest = rest.get(used..).unwrap_or_default();
            match result {
                Ok(Status::StreamEnd) => break,
                Ok(_) if used == 0 && out.len() == before_out && out.len() < out.capacity() => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() && !self.primed => {
                    self.primed = true;
                    self.inflate
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| Error::Malformed("another dictionary is needed"))?;
                }
                Err(_) => return Err(bad),
            }
        }
        parse(&out).ok_or(bad)
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

fn parse(block: &[u8]) -> Option<Headers> {
    let mut rest = block;
    let number = |rest: &mut &[u8]| -> Option<usize> {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        usize::try_from(u32::from_be_bytes(*head)).ok()
    };
    let text = |rest: &mut &[u8]| -> Option<String> {
        let length = number(rest)?;
        if length > rest.len() {
            return None;
        }
        let (head, tail) = rest.split_at(length);
        *rest = tail;
        Some(String::from_utf8_lossy(head).into_owned())
    };
    let count = number(&mut rest).filter(|n| *n <= MAX_HEADERS)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest)?.to_lowercase();
        headers.insert(name, text(&mut rest)?);
    }
    Some(headers)
}
