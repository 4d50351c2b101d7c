//! Statements as the kernel's register expressions.

use super::*;
use crate::netlink::msg::{Msg, ip_bytes};
use ipnet::IpNet;

/// The verdict register and the first data register; further ones count in words of four bytes.
const REG_VERDICT: u32 = 0;
const REG_1: u32 = 1;
const REG32_00: u32 = 8;

/// The register `words` words into the register file.
fn reg(words: u32) -> u32 {
    if words == 0 { REG_1 } else { REG32_00 + words }
}

/// A verdict as data of an element or an immediate.
pub(super) fn verdict_data(m: &mut Msg, verdict: &Verdict) {
    let (code, chain): (i32, Option<&str>) = match verdict {
        Verdict::Accept => (1, None),
        Verdict::Drop => (0, None),
        Verdict::Return => (-5, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    m.nest(2, |m| {
        m.be32(1, code as u32);
        if let Some(chain) = chain {
            m.str(2, chain);
        }
    });
}

fn expr(m: &mut Msg, name: &str, fill: impl FnOnce(&mut Msg)) {
    m.nest(1, |m| {
        m.str(1, name);
        m.nest(2, fill);
    });
}

fn meta_load(m: &mut Msg, key: u32, dreg: u32) {
    expr(m, "meta", |m| {
        m.be32(1, dreg);
        m.be32(2, key);
    });
}

/// `base`: 1 network header, 2 transport header.
fn payload(m: &mut Msg, base: u32, offset: u32, len: u32, dreg: u32) {
    expr(m, "payload", |m| {
        m.be32(1, dreg);
        m.be32(2, base);
        m.be32(3, offset);
        m.be32(4, len);
    });
}

fn cmp(m: &mut Msg, op: Op, sreg: u32, value: &[u8]) {
    expr(m, "cmp", |m| {
        m.be32(1, sreg);
        m.be32(2, if op == Op::Is { 0 } else { 1 });
        m.nest(3, |m| m.attr(1, value));
    });
}

fn bitwise(m: &mut Msg, mask: &[u8], xor: &[u8]) {
    expr(m, "bitwise", |m| {
        m.be32(1, REG_1);
        m.be32(2, REG_1);
        m.be32(3, mask.len() as u32);
        m.nest(4, |m| m.attr(1, mask));
        m.nest(5, |m| m.attr(1, xor));
    });
}

fn lookup(m: &mut Msg, set: &str, id: Option<u32>, dreg: Option<u32>, op: Op) {
    expr(m, "lookup", |m| {
        m.str(1, set);
        m.be32(2, REG_1);
        if let Some(dreg) = dreg {
            m.be32(3, dreg);
        }
        if let Some(id) = id {
            m.be32(4, id);
        }
        if op == Op::IsNot {
            m.be32(5, 1);
        }
    });
}

fn immediate(m: &mut Msg, dreg: u32, value: &[u8]) {
    expr(m, "immediate", |m| {
        m.be32(1, dreg);
        m.nest(2, |m| m.attr(1, value));
    });
}

fn load_addr(m: &mut Msg, direction: Direction, family: Family, dreg: u32) {
    let (offset, len) = match (family, direction) {
        (Family::Ip, Direction::Source) => (12, 4),
        (Family::Ip, Direction::Destination) => (16, 4),
        (Family::Ip6, Direction::Source) => (8, 16),
        (Family::Ip6, Direction::Destination) => (24, 16),
    };
    payload(m, 1, offset, len, dreg);
}

fn load_fields(m: &mut Msg, fields: &[Field], family: Family) {
    let mut words = 0;
    for field in fields {
        let dreg = reg(words);
        match field {
            Field::SourceAddr => load_addr(m, Direction::Source, family, dreg),
            Field::DestinationAddr => load_addr(m, Direction::Destination, family, dreg),
            Field::L4Proto => meta_load(m, META_L4PROTO, dreg),
            Field::DestinationPort => payload(m, 2, 2, 2, dreg),
        }
        words += field.words(family);
    }
}

const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
const IPS_DST_NAT: u32 = 1 << 5;

fn set_mark(m: &mut Msg, mask: u32, xor: u32) {
    meta_load(m, META_MARK, REG_1);
    bitwise(m, &mask.to_ne_bytes(), &xor.to_ne_bytes());
    expr(m, "meta", |m| {
        m.be32(2, META_MARK);
        m.be32(3, REG_1);
    });
}

/// Some of the bits in register 1 are set.
fn any_bit(m: &mut Msg, bits: u32) {
    bitwise(m, &bits.to_ne_bytes(), &[0; 4]);
    cmp(m, Op::IsNot, REG_1, &[0; 4]);
}

fn ct_load(m: &mut Msg, key: u32, direction: Option<u8>) {
    expr(m, "ct", |m| {
        m.be32(1, REG_1);
        m.be32(2, key);
        if let Some(direction) = direction {
            m.u8(3, direction);
        }
    });
}

fn link_name(m: &mut Msg, key: u32, op: Op, name: &str) {
    meta_load(m, key, REG_1);
    let mut value = name.as_bytes().to_vec();
    if value.last() == Some(&b'*') {
        value.pop();
    } else {
        value.resize(16, 0);
    }
    value.truncate(16);
    cmp(m, op, REG_1, &value);
}

fn addr_match(m: &mut Msg, direction: Direction, op: Op, net: &IpNet, family: Family) {
    load_addr(m, direction, family, REG_1);
    if net.prefix_len() < net.max_prefix_len() {
        let mask = ip_bytes(net.netmask());
        let zero = vec![0; mask.len()];
        bitwise(m, &mask, &zero);
    }
    cmp(m, op, REG_1, &ip_bytes(net.network()));
}

fn nat(m: &mut Msg, kind: u32, family: Family, port: Option<u32>) {
    expr(m, "nat", |m| {
        m.be32(1, kind);
        m.be32(2, u32::from(family.number()));
        m.be32(3, REG_1);
        if let Some(port) = port {
            m.be32(5, port);
        }
    });
}

fn random(m: &mut Msg, modulus: usize) {
    expr(m, "numgen", |m| {
        m.be32(1, REG_1);
        m.be32(2, modulus as u32);
        m.be32(3, 1);
        m.be32(4, 0);
    });
}

/// Writes a statement's expressions; `map` is the anonymous map made for it.
pub(super) fn statement(m: &mut Msg, stmt: &Stmt, family: Family, map: Option<u32>) {
    match stmt {
        Stmt::L4Proto(proto) => {
            meta_load(m, META_L4PROTO, REG_1);
            cmp(m, Op::Is, REG_1, &[proto.number()]);
        }
        Stmt::Addr(direction, op, net) => addr_match(m, *direction, *op, net, family),
        Stmt::AddrInSet(direction, op, set) => {
            load_addr(m, *direction, family, REG_1);
            lookup(m, set, None, None, *op);
        }
        Stmt::Port(direction, op, port) => {
            payload(m, 2, if *direction == Direction::Source { 0 } else { 2 }, 2, REG_1);
            cmp(m, *op, REG_1, &port.to_be_bytes());
        }
        Stmt::InSet(fields, op, set) => {
            load_fields(m, fields, family);
            lookup(m, set, None, None, *op);
        }
        Stmt::CtState(bits) => {
            ct_load(m, CT_STATE, None);
            any_bit(m, *bits);
        }
        Stmt::CtDnat => {
            ct_load(m, CT_STATUS, None);
            any_bit(m, IPS_DST_NAT);
        }
        Stmt::CtOriginalPort(port) => {
            ct_load(m, CT_PROTO_DST, Some(0));
            cmp(m, Op::Is, REG_1, &port.to_be_bytes());
        }
        Stmt::FibLocal(direction) => {
            expr(m, "fib", |m| {
                m.be32(1, REG_1);
                m.be32(2, 3);
                m.be32(3, if *direction == Direction::Source { 1 } else { 2 });
            });
            cmp(m, Op::Is, REG_1, &2u32.to_ne_bytes());
        }
        Stmt::Mark(bits) => {
            meta_load(m, META_MARK, REG_1);
            any_bit(m, *bits);
        }
        Stmt::InLink(op, name) => link_name(m, META_IIFNAME, *op, name),
        Stmt::OutLink(op, name) => link_name(m, META_OIFNAME, *op, name),
        action => self::action(m, action, family, map),
    }
}

/// The statements that do something; matches are above and write nothing here.
fn action(m: &mut Msg, stmt: &Stmt, family: Family, map: Option<u32>) {
    let addr_words = if family == Family::Ip { 1 } else { 4 };
    match stmt {
        Stmt::SetMark(bits) => set_mark(m, !bits, *bits),
        Stmt::ClearMark(bits) => set_mark(m, u32::MAX, *bits),
        Stmt::Vmap(fields, map) => {
            load_fields(m, fields, family);
            lookup(m, map, None, Some(REG_VERDICT), Op::Is);
        }
        Stmt::RandomVerdict(all) => {
            random(m, all.len());
            lookup(m, "__map%d", map, Some(REG_VERDICT), Op::Is);
        }
        Stmt::UpdateSet(direction, set) => {
            load_addr(m, *direction, family, REG_1);
            expr(m, "dynset", |m| {
                m.str(1, set);
                m.be32(3, 1);
                m.be32(4, REG_1);
            });
        }
        Stmt::Dnat(addr) => {
            immediate(m, REG_1, &ip_bytes(addr.ip()));
            immediate(m, reg(addr_words), &addr.port().to_be_bytes());
            nat(m, 1, family, Some(reg(addr_words)));
        }
        Stmt::RandomDnat(all) => {
            random(m, all.len());
            lookup(m, "__map%d", map, Some(REG_1), Op::Is);
            nat(m, 1, family, Some(reg(addr_words)));
        }
        Stmt::Masquerade { fully_random } => expr(m, "masq", |m| {
            if *fully_random {
                m.be32(1, 0x10);
            }
        }),
        Stmt::Snat(to) => {
            immediate(m, REG_1, &ip_bytes(*to));
            nat(m, 0, family, None);
        }
        Stmt::Reject => expr(m, "reject", |m| {
            m.be32(1, 0);
            m.u8(2, if family == Family::Ip { 3 } else { 4 });
        }),
        Stmt::RejectTcpReset => expr(m, "reject", |m| {
            m.be32(1, 1);
            m.u8(2, 0);
        }),
        Stmt::Counter => expr(m, "counter", |_| ()),
        Stmt::Verdict(verdict) => expr(m, "immediate", |m| {
            m.be32(1, REG_VERDICT);
            m.nest(2, |m| verdict_data(m, verdict));
        }),
        Stmt::L4Proto(_)
        | Stmt::Addr(..)
        | Stmt::AddrInSet(..)
        | Stmt::Port(..)
        | Stmt::InSet(..)
        | Stmt::CtState(_)
        | Stmt::CtDnat
        | Stmt::CtOriginalPort(_)
        | Stmt::FibLocal(_)
        | Stmt::Mark(_)
        | Stmt::InLink(..)
        | Stmt::OutLink(..) => {}
    }
}
