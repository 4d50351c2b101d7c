//! Frames: eight bytes of header, then the payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Error;

const VERSION: u16 = 3;
const FIN: u8 = 1;
/// Frames over this size are refused; clients send chunks of at most some 64 KiB.
const MAX_FRAME: usize = 4 << 20;

/// What arrives.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    SynStream {
        /// Number.
        id: u32,
        /// The client sends nothing.
        fin: bool,
        /// Compressed headers.
        block: Bytes,
    },
    /// More headers, or a reply: only the compression matters.
    Headers {
        /// Compressed headers.
        block: Bytes,
    },
    /// Data.
    Data {
        /// Stream.
        id: u32,
        /// The last of it.
        fin: bool,
        /// Content.
        bytes: Bytes,
    },
    /// A stream was given up.
    Reset {
        /// Stream.
        id: u32,
    },
    /// To be sent back as it is.
    Ping {
        /// The whole frame.
        bytes: Bytes,
    },
    /// No more streams will come.
    GoAway,
    /// Settings, windows.
    Other,
}

/// Takes a whole frame off the buffer; `None` while it is not there.
pub fn parse(buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
    if buffer.len() < 8 {
        return Ok(None);
    }
    let length = usize::from(buffer[5]) << 16 | usize::from(buffer[6]) << 8 | usize::from(buffer[7]);
    if length > MAX_FRAME {
        return Err(Error::Malformed("a frame is too large"));
    }
    if buffer.len() < 8 + length {
        buffer.reserve(8 + length - buffer.len());
        return Ok(None);
    }
    let whole = buffer.split_to(8 + length).freeze();
    let first = u32::from_be_bytes([whole[0], whole[1], whole[2], whole[3]]);
    let (flags, mut payload) = (whole[4], whole.slice(8..));
    let fin = flags & FIN != 0;
    if first >> 31 == 0 {
        return Ok(Some(Frame::Data { id: first, fin, bytes: payload }));
    }
    if (first >> 16) as u16 & 0x7fff != VERSION {
        return Err(Error::Malformed("not version 3"));
    }
    let short = Error::Malformed("a frame is too short");
    Ok(Some(match first & 0xffff {
        1 => {
            if payload.len() < 10 {
                return Err(short);
            }
            let id = payload.get_u32() & 0x7fff_ffff;
            payload.advance(6);
            Frame::SynStream { id, fin, block: payload }
        }
        2 | 8 => {
            if payload.len() < 4 {
                return Err(short);
            }
            payload.advance(4);
            Frame::Headers { block: payload }
        }
        3 => {
            if payload.len() < 8 {
                return Err(short);
            }
            Frame::Reset { id: payload.get_u32() & 0x7fff_ffff }
        }
        6 => Frame::Ping { bytes: whole },
        7 => Frame::GoAway,
        _ => Frame::Other,
    }))
}

fn length(buffer: &mut [u8; 8], length: usize) {
    // Callers send chunks far below the 24 bits.
    let bytes = u32::try_from(length).unwrap_or(0).to_be_bytes();
    buffer[5..8].copy_from_slice(&bytes[1..]);
}

/// The header of a data frame.
pub fn data_header(id: u32, size: usize, fin: bool) -> [u8; 8] {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&(id & 0x7fff_ffff).to_be_bytes());
    header[4] = if fin { FIN } else { 0 };
    length(&mut header, size);
    header
}

fn control(kind: u16, payload: &[u8]) -> Bytes {
    let mut header = [0; 8];
    header[..2].copy_from_slice(&(0x8000 | VERSION).to_be_bytes());
    header[2..4].copy_from_slice(&kind.to_be_bytes());
    length(&mut header, payload.len());
    let mut frame = BytesMut::with_capacity(8 + payload.len());
    frame.put_slice(&header);
    frame.put_slice(payload);
    frame.freeze()
}

/// The answer to a new stream.
pub fn reply(id: u32, block: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(4 + block.len());
    payload.put_u32(id);
    payload.put_slice(block);
    control(2, &payload)
}

/// A new stream, for tests and clients.
#[cfg(test)]
pub fn syn_stream(id: u32, block: &[u8]) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_u32(id);
    payload.put_u32(0);
    payload.put_u16(0);
    payload.put_slice(block);
    control(1, &payload)
}

/// Gives a stream up: CANCEL.
pub fn reset(id: u32) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_u32(id);
    payload.put_u32(5);
    control(3, &payload)
}

/// The end of the session.
pub fn go_away() -> Bytes {
    control(7, &[0; 8])
}
