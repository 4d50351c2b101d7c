//! Transactions as nfnetlink batches: statements become the kernel's register expressions.

use super::expr::{statement, verdict_data};
use super::*;
use crate::netlink::msg::{Msg, ip_bytes};
use std::net::SocketAddr;

const SUBSYS: u16 = 10 << 8;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NEWTABLE: u16 = SUBSYS;
const DELTABLE: u16 = SUBSYS | 2;
const NEWCHAIN: u16 = SUBSYS | 3;
const DELCHAIN: u16 = SUBSYS | 5;
const NEWRULE: u16 = SUBSYS | 6;
const DELRULE: u16 = SUBSYS | 8;
const NEWSET: u16 = SUBSYS | 9;
const DELSET: u16 = SUBSYS | 11;
const NEWSETELEM: u16 = SUBSYS | 12;
const DELSETELEM: u16 = SUBSYS | 14;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_APPEND: u16 = 0x800;
const NLM_F_CREATE: u16 = 0x400;

const SET_ANONYMOUS: u32 = 1;
const SET_CONSTANT: u32 = 2;
const SET_MAP: u32 = 8;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVAL: u32 = 0x20;
const DATA_VERDICT: u32 = 0xffff_ff00;

/// Bytes of elements per message: well below the 64 KiB that one attribute can carry.
const ELEMENT_BYTES: usize = 32 * 1024;

/// A batch under construction. `index` of each message leads back to the command it came from.
pub(super) struct Encoder {
    family: Family,
    table: String,
    bytes: Vec<u8>,
    seq: u32,
    next_set_id: u32,
    /// For every sequence number from 1: the command's index.
    pub origin: Vec<usize>,
}

/// Encodes a transaction: the bytes, and for each sequence number (from 1) the command that it serves.
pub(super) fn encode(transaction: &Transaction) -> (Vec<u8>, Vec<usize>) {
    let mut e = Encoder {
        family: transaction.family,
        table: transaction.table.clone(),
        bytes: Vec::with_capacity(4096),
        seq: 0,
        next_set_id: 0,
        origin: Vec::new(),
    };
    e.bytes.extend(Msg::new(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST).raw(&[0, 0, 0, 10]).finish(0, 0));
    for (index, command) in transaction.commands.iter().enumerate() {
        e.command(index, command);
    }
    e.bytes.extend(Msg::new(NFNL_MSG_BATCH_END, NLM_F_REQUEST).raw(&[0, 0, 0, 10]).finish(0, 0));
    (e.bytes, e.origin)
}

/// A user-data item: type, length, value.
fn user_data(items: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, value) in items {
        let value = &value[..value.len().min(255)];
        out.extend([*kind, value.len() as u8]);
        out.extend(value);
    }
    out
}

fn comment_bytes(comment: &str) -> Vec<u8> {
    let mut cut = comment.len().min(250);
    while !comment.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut bytes = comment.as_bytes()[..cut].to_vec();
    bytes.push(0);
    bytes
}

impl Encoder {
    fn message(&self, kind: u16, flags: u16) -> Msg {
        Msg::new(kind, flags | NLM_F_REQUEST).raw(&[self.family.number(), 0, 0, 0])
    }

    fn send(&mut self, index: usize, msg: Msg) {
        self.seq += 1;
        self.origin.push(index);
        self.bytes.extend(msg.finish(self.seq, 0));
    }

    fn command(&mut self, index: usize, command: &Command) {
        match command {
            Command::AddTable { comment } => {
                let mut m = self.message(NEWTABLE, NLM_F_CREATE);
                m.str(1, &self.table);
                m.be32(2, 0);
                if !comment.is_empty() {
                    m.attr(6, &user_data(&[(0, comment_bytes(comment))]));
                }
                self.send(index, m);
            }
            Command::DeleteTable => {
                let mut m = self.message(DELTABLE, 0);
                m.str(1, &self.table);
                self.send(index, m);
            }
            Command::AddChain(chain) => self.add_chain(index, chain),
            Command::FlushChain(name) => self.two_names(index, DELRULE, name),
            Command::DeleteChain(name) => {
                let mut m = self.message(DELCHAIN, 0);
                m.str(1, &self.table);
                m.str(3, name);
                self.send(index, m);
            }
            Command::AddRule { chain, rule } => self.add_rule(index, chain, rule, NLM_F_APPEND),
            Command::InsertRule { chain, rule } => self.add_rule(index, chain, rule, 0),
            Command::DeleteRule { chain, handle } => {
                let mut m = self.message(DELRULE, 0);
                m.str(1, &self.table);
                m.str(2, chain);
                m.be64(3, *handle);
                self.send(index, m);
            }
            Command::AddSet(set) => self.add_set(index, set),
            Command::DeleteSet(name) => self.two_names(index, DELSET, name),
            Command::FlushSet(name) => self.two_names(index, DELSETELEM, name),
            Command::AddElements { set, elements } => {
                let encoded = elements.iter().map(|e| self.element(e)).collect();
                self.elements(index, NEWSETELEM, set, None, encoded);
            }
            Command::DeleteElements { set, keys } => {
                let encoded =
                    keys.iter().map(|k| RawElement { key: key_bytes(k), data: None, comment: String::new() }).collect();
                self.elements(index, DELSETELEM, set, None, encoded);
            }
        }
    }

    /// Messages that carry a table and one more name as attributes 1 and 2.
    fn two_names(&mut self, index: usize, kind: u16, name: &str) {
        let mut m = self.message(kind, 0);
        m.str(1, &self.table);
        m.str(2, name);
        self.send(index, m);
    }

    fn add_chain(&mut self, index: usize, chain: &Chain) {
        let mut m = self.message(NEWCHAIN, NLM_F_CREATE);
        m.str(1, &self.table);
        m.str(3, &chain.name);
        if let Some((kind, hook, priority)) = chain.base {
            let number = match hook {
                Hook::Prerouting => 0,
                Hook::Input => 1,
                Hook::Forward => 2,
                Hook::Output => 3,
                Hook::Postrouting => 4,
            };
            m.nest(4, |m| {
                m.be32(1, number);
                m.be32(2, priority as u32);
            });
            m.be32(5, 1); // policy accept
            m.str(7, if kind == ChainKind::Nat { "nat" } else { "filter" });
        }
        self.send(index, m);
    }

    fn add_set(&mut self, index: usize, set: &Set) {
        self.next_set_id += 1;
        let mut m = self.message(NEWSET, NLM_F_CREATE);
        m.str(1, &self.table);
        m.str(2, &set.name);
        let mut flags = 0;
        if set.verdicts {
            flags |= SET_MAP;
        }
        if set.timeout_seconds.is_some() {
            flags |= SET_TIMEOUT | SET_EVAL;
        }
        m.be32(3, flags);
        let (id, len) = concat_type(&set.key, self.family);
        m.be32(4, id);
        m.be32(5, len);
        if set.verdicts {
            m.be32(6, DATA_VERDICT);
            m.be32(7, 16);
        }
        m.be32(10, self.next_set_id);
        if let Some(seconds) = set.timeout_seconds {
            m.be64(11, u64::from(seconds) * 1000);
        }
        if !set.comment.is_empty() {
            // Types of user data on sets: 0 is the key's byte order (2: big endian), 7 the comment.
            m.attr(13, &user_data(&[(0, 2u32.to_ne_bytes().to_vec()), (7, comment_bytes(&set.comment))]));
        }
        self.send(index, m);
    }

    fn element(&self, element: &Element) -> RawElement {
        RawElement {
            key: key_bytes(&element.key),
            data: element.verdict.clone().map(RawData::Verdict),
            comment: element.comment.clone(),
        }
    }

    /// Elements in as many messages as they need.
    fn elements(&mut self, index: usize, kind: u16, set: &str, id: Option<u32>, elements: Vec<RawElement>) {
        let (mut chunk, mut size) = (Vec::new(), 0);
        for element in elements {
            if size + element.size() > ELEMENT_BYTES && !chunk.is_empty() {
                self.element_message(index, kind, set, id, std::mem::take(&mut chunk));
                size = 0;
            }
            size += element.size();
            chunk.push(element);
        }
        if !chunk.is_empty() {
            self.element_message(index, kind, set, id, chunk);
        }
    }

    fn element_message(&mut self, index: usize, kind: u16, set: &str, id: Option<u32>, elements: Vec<RawElement>) {
        let flags = if kind == NEWSETELEM { NLM_F_CREATE } else { 0 };
        let mut m = self.message(kind, flags);
        m.str(1, &self.table);
        m.str(2, set);
        if let Some(id) = id {
            m.be32(4, id);
        }
        m.nest(3, |m| {
            for element in &elements {
                m.nest(1, |m| {
                    m.nest(1, |m| m.attr(1, &element.key));
                    match &element.data {
                        Some(RawData::Verdict(verdict)) => m.nest(2, |m| verdict_data(m, verdict)),
                        Some(RawData::Bytes(bytes)) => m.nest(2, |m| m.attr(1, bytes)),
                        None => {}
                    }
                    if !element.comment.is_empty() {
                        m.attr(6, &user_data(&[(0, comment_bytes(&element.comment))]));
                    }
                });
            }
        });
        self.send(index, m);
    }

    /// An anonymous map keyed by 0..n for `numgen`; returns its id within the batch.
    fn anonymous_map(&mut self, index: usize, data: Vec<RawData>, data_type: u32, data_len: u32) -> u32 {
        self.next_set_id += 1;
        let id = self.next_set_id;
        let mut m = self.message(NEWSET, NLM_F_CREATE);
        m.str(1, &self.table);
        m.str(2, "__map%d");
        m.be32(3, SET_ANONYMOUS | SET_CONSTANT | SET_MAP);
        m.be32(4, DataType::Integer.id(self.family));
        m.be32(5, 4);
        m.be32(6, data_type);
        m.be32(7, data_len);
        m.nest(9, |m| m.be32(1, data.len() as u32));
        m.be32(10, id);
        // Without the key's byte order (1: host) `nft list` shows the numbers swapped.
        m.attr(13, &user_data(&[(0, 1u32.to_ne_bytes().to_vec())]));
        self.send(index, m);
        let numbered = (0u32..).zip(data);
        let elements = numbered.map(|(i, data)| RawElement {
            key: i.to_ne_bytes().to_vec(),
            data: Some(data),
            comment: String::new(),
        });
        self.elements(index, NEWSETELEM, "__map%d", Some(id), elements.collect());
        id
    }

    fn add_rule(&mut self, index: usize, chain: &str, rule: &Rule, place: u16) {
        // Anonymous maps come before the rule that binds them.
        let mut maps = Vec::new();
        for stmt in &rule.stmts {
            match stmt {
                Stmt::RandomVerdict(all) => {
                    let data = all.iter().cloned().map(RawData::Verdict).collect();
                    maps.push(self.anonymous_map(index, data, DATA_VERDICT, 16));
                }
                Stmt::RandomDnat(all) => {
                    let (id, len) = concat_type(&[DataType::Addr, DataType::Port], self.family);
                    let data = all.iter().map(|a| RawData::Bytes(socket_bytes(a))).collect();
                    maps.push(self.anonymous_map(index, data, id, len));
                }
                _ => {}
            }
        }
        let mut maps = maps.into_iter();
        let mut m = self.message(NEWRULE, NLM_F_CREATE | place);
        m.str(1, &self.table);
        m.str(2, chain);
        m.nest(4, |m| {
            for stmt in &rule.stmts {
                let map = matches!(stmt, Stmt::RandomVerdict(_) | Stmt::RandomDnat(_)).then(|| maps.next()).flatten();
                statement(m, stmt, self.family, map);
            }
        });
        if !rule.comment.is_empty() {
            m.attr(7, &user_data(&[(0, comment_bytes(&rule.comment))]));
        }
        self.send(index, m);
    }
}

struct RawElement {
    key: Vec<u8>,
    data: Option<RawData>,
    comment: String,
}

impl RawElement {
    /// What it takes in a message, at most.
    fn size(&self) -> usize {
        let data = match &self.data {
            Some(RawData::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain))) => chain.len(),
            Some(RawData::Bytes(bytes)) => bytes.len(),
            _ => 0,
        };
        self.key.len() + data + self.comment.len() + 64
    }
}

enum RawData {
    Verdict(Verdict),
    Bytes(Vec<u8>),
}

/// Type number and length of a key; a concatenation packs six bits per field and pads each to a word.
fn concat_type(fields: &[DataType], family: Family) -> (u32, u32) {
    if let [one] = fields {
        return (one.id(family), one.len(family));
    }
    fields
        .iter()
        .fold((0, 0), |(id, len), field| ((id << 6) | field.id(family), len + field.len(family).next_multiple_of(4)))
}

fn key_bytes(key: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in key {
        match value {
            Value::Addr(ip) => out.extend(ip_bytes(*ip)),
            Value::Proto(proto) => out.push(proto.number()),
            Value::Port(port) => out.extend(port.to_be_bytes()),
        }
        if key.len() > 1 {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    out
}

fn socket_bytes(addr: &SocketAddr) -> Vec<u8> {
    let mut out = ip_bytes(addr.ip());
    out.extend(addr.port().to_be_bytes());
    out.extend([0, 0]);
    out
}
