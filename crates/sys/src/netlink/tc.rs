//! Traffic shaping for the bandwidth plugin: a token bucket on a link, and the redirection of what a link
//! receives to an IFB so that it can be shaped there.

use super::msg::Msg;
use super::{Handle, NLM_F_CREATE, NLM_F_REPLACE, Result};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const ETH_P_ALL: u16 = 3;

/// Kernel clock ticks per microsecond in tc's time unit (one tick is 64 ns on every kernel since 2.6.38).
const TICKS_PER_MICROSECOND: f64 = 15.625;

fn header(link: u32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut raw = [0u8; 20];
    raw[4..8].copy_from_slice(&link.to_ne_bytes());
    raw[8..12].copy_from_slice(&handle.to_ne_bytes());
    raw[12..16].copy_from_slice(&parent.to_ne_bytes());
    raw[16..20].copy_from_slice(&info.to_ne_bytes());
    raw
}

impl Handle {
    /// Limits what `link` sends to `rate` bytes per second with bursts of `burst` bytes, queueing at most
    /// `latency_us` microseconds.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_token_bucket(&mut self, link: u32, rate: u64, burst: u32, latency_us: u32) -> Result<()> {
        let rate = rate.max(1);
        let buffer = (f64::from(burst) * 1e6 / rate as f64 * TICKS_PER_MICROSECOND).min(f64::from(u32::MAX)) as u32;
        let limit = (rate as f64 * f64::from(latency_us) / 1e6 + f64::from(burst)).min(f64::from(u32::MAX)) as u32;
        let mut parms = [0u8; 36];
        parms[1] = 1; // link layer: ethernet
        parms[8..12].copy_from_slice(&(rate.min(u64::from(u32::MAX)) as u32).to_ne_bytes());
        parms[24..28].copy_from_slice(&limit.to_ne_bytes());
        parms[28..32].copy_from_slice(&buffer.to_ne_bytes());
        let mut msg =
            Msg::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE).raw(&header(link, 0x0001_0000, TC_H_ROOT, 0));
        msg.str(TCA_KIND, "tbf");
        msg.nest(TCA_OPTIONS, |m| {
            m.attr(TCA_TBF_PARMS, &parms);
            m.u32(TCA_TBF_BURST, burst);
            if rate > u64::from(u32::MAX) {
                m.attr(TCA_TBF_RATE64, &rate.to_ne_bytes());
            }
        });
        self.socket.request(|| format!("shape link #{link}"), msg)
    }

    /// Removes the token bucket.
    ///
    /// # Errors
    /// What the kernel answers; absence has `is_not_found()`.
    pub fn clear_token_bucket(&mut self, link: u32) -> Result<()> {
        self.socket
            .request(|| format!("unshape link #{link}"), Msg::new(RTM_DELQDISC, 0).raw(&header(link, 0, TC_H_ROOT, 0)))
    }

    /// Sends everything that `link` receives through `target` first.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn redirect_ingress(&mut self, link: u32, target: u32) -> Result<()> {
        let mut qdisc =
            Msg::new(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE).raw(&header(link, INGRESS_HANDLE, TC_H_INGRESS, 0));
        qdisc.str(TCA_KIND, "ingress");
        self.socket.request(|| format!("add ingress to link #{link}"), qdisc)?;

        let info = (1u32 << 16) | u32::from(ETH_P_ALL.to_be());
        let mut filter =
            Msg::new(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE).raw(&header(link, 0, INGRESS_HANDLE, info));
        filter.str(TCA_KIND, "u32");
        filter.nest(TCA_OPTIONS, |m| {
            const TCA_U32_SEL: u16 = 5;
            const TCA_U32_ACT: u16 = 7;
            // One key that matches everything: mask 0, value 0, offset 0.
            let mut sel = [0u8; 32];
            sel[0] = 1; // terminal
            sel[2] = 1; // number of keys
            m.attr(TCA_U32_SEL, &sel);
            m.nest(TCA_U32_ACT, |m| m.nest(1, |m| mirred(m, target)));
        });
        self.socket.request(|| format!("redirect link #{link}"), filter)
    }
}

fn mirred(m: &mut Msg, target: u32) {
    const TCA_ACT_KIND: u16 = 1;
    const TCA_ACT_OPTIONS: u16 = 2;
    const TCA_MIRRED_PARMS: u16 = 2;
    const TC_ACT_STOLEN: u32 = 4;
    const TCA_EGRESS_REDIR: u32 = 1;
    m.str(TCA_ACT_KIND, "mirred");
    m.nest(TCA_ACT_OPTIONS, |m| {
        let mut parms = [0u8; 28];
        parms[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
        parms[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
        parms[24..28].copy_from_slice(&target.to_ne_bytes());
        m.attr(TCA_MIRRED_PARMS, &parms);
    });
}
