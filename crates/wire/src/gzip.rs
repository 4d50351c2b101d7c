//! Compression of large answers.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Compresses at the lowest level, as upstream does: answers are large and short-lived.
pub fn compress(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 6 + 64), Compression::new(1));
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// Compresses piece by piece.
pub struct Gzip(GzEncoder<Vec<u8>>);

impl Default for Gzip {
    fn default() -> Self {
        Self::new()
    }
}

impl Gzip {
    /// An empty stream.
    pub fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::new(1)))
    }

    /// What is compressed so far and was not taken yet.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }

    /// Ends the stream and gives the rest.
    pub fn finish(&mut self) -> Vec<u8> {
        // Writing to a Vec cannot fail.
        let _ = self.0.try_finish();
        self.take()
    }
}

impl Write for Gzip {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
