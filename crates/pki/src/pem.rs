//! PEM, the text form of keys and certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One block of a PEM file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Such as `CERTIFICATE`.
    pub label: String,
    /// The DER bytes.
    pub der: Vec<u8>,
}

/// All blocks of a text; anything between them, and blocks that do not decode, are passed over, as Go does.
pub fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = marker(line, "-----BEGIN ") {
            open = Some((label.to_owned(), String::new()));
        } else if let Some(label) = marker(line, "-----END ") {
            if let Some((begun, body)) = open.take()
                && begun == label
                && let Ok(der) = STANDARD.decode(body)
            {
                blocks.push(Block { label: begun, der });
            }
        } else if let Some((_, body)) = open.as_mut()
            && !line.contains(':')
        {
            body.push_str(line);
        }
    }
    blocks
}

fn marker<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

/// Writes one block, 64 characters a line.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// The certificates of a PEM text in DER, in order.
pub fn certificates(text: &str) -> Vec<Vec<u8>> {
    parse(text).into_iter().filter(|b| b.label == "CERTIFICATE").map(|b| b.der).collect()
}
