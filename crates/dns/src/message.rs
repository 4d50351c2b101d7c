//! Messages as bytes: the question of a request, answers that fit, and times to live in place.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Record, RecordType};

/// Length of the header.
pub const HEADER: usize = 12;
/// What a client without EDNS takes over UDP.
const PLAIN_LIMIT: usize = 512;
/// More than this is not sent by UDP, whatever the client says: it would be fragmented.
const UDP_LIMIT: usize = 1232;

/// A request that can be answered.
#[derive(Debug)]
pub struct Request {
    /// The decoded header, to answer it.
    pub metadata: Metadata,
    /// The only question.
    pub query: Query,
    /// Whether it had EDNS, and wants signatures.
    pub edns: Option<bool>,
    /// How long an answer may be.
    pub limit: usize,
}

/// Why a request is not looked into.
#[derive(Debug, PartialEq, Eq)]
pub enum Refuse {
    /// Not even a header, or an answer: be silent.
    Drop,
    /// Answer with this code.
    Code(Vec<u8>),
}

impl Request {
    /// Decodes a request; `udp` says whether answers are limited in length.
    pub fn decode(bytes: &[u8], udp: bool) -> Result<Self, Refuse> {
        if bytes.len() < HEADER || bytes[2] & 0x80 != 0 {
            return Err(Refuse::Drop);
        }
        let Ok(message) = Message::from_vec(bytes) else { return Err(refusal(bytes, ResponseCode::FormErr)) };
        if message.metadata.op_code != OpCode::Query {
            return Err(refusal(bytes, ResponseCode::NotImp));
        }
        let [query] = message.queries.as_slice() else { return Err(refusal(bytes, ResponseCode::FormErr)) };
        let wanted =
            message.edns.as_ref().map_or(PLAIN_LIMIT, |e| usize::from(e.max_payload()).clamp(PLAIN_LIMIT, UDP_LIMIT));
        Ok(Self {
            metadata: message.metadata,
            query: query.clone(),
            edns: message.edns.as_ref().map(|e| e.flags().dnssec_ok),
            limit: if udp { wanted } else { usize::from(u16::MAX) },
        })
    }

    /// An answer without records.
    pub fn empty(&self, code: ResponseCode) -> Vec<u8> {
        self.respond(code, false, Vec::new(), Vec::new(), Vec::new())
    }

    /// An answer that fits: what helps goes first, then records from the end, which sets the truncation bit.
    pub fn respond(
        &self,
        code: ResponseCode,
        authoritative: bool,
        answers: Vec<Record>,
        authorities: Vec<Record>,
        additionals: Vec<Record>,
    ) -> Vec<u8> {
        let mut metadata = Metadata::response_from_request(&self.metadata);
        metadata.recursion_available = true;
        metadata.authoritative = authoritative;
        metadata.response_code = code;
        let mut message = Message::new(metadata.id, MessageType::Response, OpCode::Query);
        message.metadata = metadata;
        message.queries = vec![self.query.clone()];
        message.answers = answers;
        message.authorities = authorities;
        message.additionals = additionals;
        message.edns = self.edns.map(|_| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_LIMIT as u16);
            edns
        });
        loop {
            let bytes = message.to_vec().unwrap_or_default();
            if !bytes.is_empty() && bytes.len() <= self.limit {
                return bytes;
            }
            if !message.additionals.is_empty() {
                message.additionals.clear();
            } else if message.answers.len() > 1 {
                let fits = message.answers.len() * self.limit / bytes.len().max(1);
                message.answers.truncate(fits.clamp(1, message.answers.len() - 1));
                message.metadata.truncation = true;
            } else if message.answers.is_empty() && message.authorities.is_empty() {
                return bytes;
            } else {
                message.answers.clear();
                message.authorities.clear();
                message.metadata.truncation = true;
            }
        }
    }
}

/// A request's header turned into an answer with this code, for requests that cannot be decoded.
fn refusal(bytes: &[u8], code: ResponseCode) -> Refuse {
    let mut head = bytes[..HEADER].to_vec();
    head[2] = (head[2] | 0x80) & !0x02;
    head[3] = 0x80 | code.low();
    head[4..].fill(0);
    Refuse::Code(head)
}

/// Turns an answer too long for the client into its header and question with the truncation bit.
pub fn truncated(bytes: &[u8]) -> Vec<u8> {
    let end = question_end(bytes).unwrap_or(HEADER);
    let mut out = bytes[..end].to_vec();
    out[2] |= 0x02;
    out[6..HEADER].fill(0);
    out
}

/// Skips a name; `None` when it is malformed.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let len = *bytes.get(at)?;
        match len {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(len),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn count(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])))
}

/// Where the only question ends.
pub fn question_end(bytes: &[u8]) -> Option<usize> {
    (count(bytes, 4)? == 1).then_some(())?;
    skip_name(bytes, HEADER).map(|at| at + 4).filter(|end| *end <= bytes.len())
}

/// Offsets and values of all times to live but EDNS', and which record is a SOA in the authority section (with its
/// minimum). `None` when the message is malformed.
pub fn ttls(bytes: &[u8]) -> Option<Vec<(usize, u32)>> {
    let mut at = question_end(bytes)?;
    let records = count(bytes, 6)? + count(bytes, 8)? + count(bytes, 10)?;
    let mut out = Vec::with_capacity(records.min(64));
    for _ in 0..records {
        at = skip_name(bytes, at)?;
        let kind = count(bytes, at)?;
        let ttl = bytes.get(at + 4..at + 8)?;
        let mut value = u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]);
        let len = count(bytes, at + 8)?;
        let data = bytes.get(at + 10..at + 10 + len)?;
        if kind == usize::from(u16::from(RecordType::SOA)) && len >= 4 {
            // A negative answer holds no longer than the zone's minimum.
            value = value.min(u32::from_be_bytes([data[len - 4], data[len - 3], data[len - 2], data[len - 1]]));
        }
        if kind != usize::from(u16::from(RecordType::OPT)) {
            out.push((at + 4, value));
        }
        at += 10 + len;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Name, RData};

    fn request(edns: Option<u16>) -> Vec<u8> {
        let mut m = Message::query();
        m.metadata.id = 77;
        m.add_query(Query::query(Name::from_ascii("a.b.").unwrap(), RecordType::A));
        if let Some(size) = edns {
            let mut e = Edns::new();
            e.set_max_payload(size);
            m.set_edns(e);
        }
        m.to_vec().unwrap()
    }

    fn records(n: u8) -> Vec<Record> {
        let name = Name::from_ascii("a.b.").unwrap();
        (0..n)
            .map(|i| Record::from_rdata(name.clone(), 30, RData::from(std::net::IpAddr::from([10, 0, 0, i]))))
            .collect()
    }

    #[test]
    fn answers_fit_and_say_when_they_do_not() {
        let small = Request::decode(&request(None), true).unwrap();
        let bytes = small.respond(ResponseCode::NoError, true, records(100), Vec::new(), records(3));
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= 512 && answer.metadata.truncation && answer.answers.len() > 20 && answer.edns.is_none());
        let large = Request::decode(&request(Some(4096)), true).unwrap();
        let bytes = large.respond(ResponseCode::NoError, true, records(30), Vec::new(), Vec::new());
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(!answer.metadata.truncation && answer.answers.len() == 30 && answer.edns.is_some());
        assert_eq!((answer.metadata.id, answer.metadata.authoritative), (77, true));
        let tcp = Request::decode(&request(None), false).unwrap();
        let answer =
            Message::from_vec(&tcp.respond(ResponseCode::NoError, true, records(200), Vec::new(), Vec::new())).unwrap();
        assert_eq!(answer.answers.len(), 200);
        assert_eq!(ttls(&bytes).unwrap().len(), 30);
        let cut = Message::from_vec(&truncated(&bytes)).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.queries.len() == 1);
    }

    #[test]
    fn nonsense_is_refused_or_dropped() {
        assert!(matches!(Request::decode(&[0; 5], true), Err(Refuse::Drop)));
        let mut answer = request(None);
        answer[2] |= 0x80;
        assert!(matches!(Request::decode(&answer, true), Err(Refuse::Drop)));
        let mut notify = request(None);
        notify[2] |= 4 << 3;
        let Err(Refuse::Code(bytes)) = Request::decode(&notify, true) else { panic!() };
        assert_eq!((bytes[0], bytes[1], bytes[3] & 15), (0, 77, 4));
        for cut in 0..request(Some(512)).len() {
            let _ = Request::decode(&request(Some(512))[..cut], true);
            let _ = ttls(&request(Some(512))[..cut]);
        }
    }
}
