//! Every sysctl once: name, range, default, sentence, its place in [`Knobs`].
//!
//! Kept from the kernel: the names, and the ranges beyond which it answers EINVAL (for switches we are
//! stricter: 0 and 1). A knob that has no place in [`Knobs`] yet may be set to its default and to
//! nothing else. A knob of something that does not exist here may be set, and says why it changes
//! nothing.

use crate::world::Knobs;

/// Which sysctl: an index into [`KNOBS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob(pub usize);

/// What there is to know of a sysctl.
#[derive(Debug)]
pub struct KnobInfo {
    /// Its full name with dots.
    pub name: &'static str,
    /// The least legal value.
    pub min: i64,
    /// The greatest legal value.
    pub max: i64,
    /// The value that it has until it is set; `None` where that depends on the machine.
    pub default: Option<i64>,
    /// What it does.
    pub sentence: &'static str,
    /// Its place, where it is honoured.
    pub place: Option<Place>,
    /// Why it may be set and changes nothing, as half a sentence.
    pub moot: Option<&'static str>,
}

/// How a knob is read from and put into [`Knobs`].
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Reads it.
    pub get: fn(&Knobs) -> i64,
    /// Puts a value that is within the range.
    pub set: fn(&mut Knobs, i64),
}

impl Knob {
    /// The knob of that name; separators may be `.` or `/`.
    pub fn named(name: &str) -> Option<Self> {
        let mut name = name.replace('/', ".");
        if name == "net.ipv4.conf.all.forwarding" {
            // The kernel's other name of the same switch.
            name.replace_range(.., "net.ipv4.ip_forward");
        }
        KNOBS.iter().position(|info| info.name == name).map(Self)
    }

    /// Its row; that of the first knob for an index that is none.
    pub fn info(self) -> &'static KnobInfo {
        KNOBS.get(self.0).unwrap_or(&KNOBS[0])
    }
}

/// `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`, the limits of ICMP errors and
/// `net.ipv4.vs.*`.
pub const KNOBS: &[KnobInfo] = &[
    switch("net.ipv4.ip_forward", 1, "route IPv4 packets that are nobody's here")
        .at(|k| k.ip_forward.into(), |k, v| k.ip_forward = v != 0),
    switch("net.ipv6.conf.all.forwarding", 1, "route IPv6 packets that are nobody's here")
        .at(|k| k.ip6_forward.into(), |k, v| k.ip6_forward = v != 0),
    range("net.ipv4.icmp_ratelimit", 0, INT, 1000, "milliseconds between errors to one target")
        .at(|k| k.icmp_ratelimit_ms.into(), |k, v| k.icmp_ratelimit_ms = narrow(v)),
    range("net.ipv6.icmp.ratelimit", 0, INT, 1000, "milliseconds between errors to one target")
        .at(|k| k.icmp6_ratelimit_ms.into(), |k, v| k.icmp6_ratelimit_ms = narrow(v)),
    range(
        "net.ipv4.vs.amemthresh",
        0,
        INT,
        1024,
        "pages of free memory below which defences begin",
    )
    .at(|k| k.amemthresh.into(), |k, v| k.amemthresh = narrow(v)),
    range("net.ipv4.vs.am_droprate", 0, INT, 10, "one packet in so many is dropped in mode 3")
        .at(|k| k.am_droprate.into(), |k, v| k.am_droprate = narrow(v)),
    range("net.ipv4.vs.drop_entry", 0, 3, 0, "drop connections at random when memory is short")
        .at(|k| k.drop_entry.into(), |k, v| k.drop_entry = narrow(v)),
    range("net.ipv4.vs.drop_packet", 0, 3, 0, "drop new connections when memory is short")
        .at(|k| k.drop_packet.into(), |k, v| k.drop_packet = narrow(v)),
    range("net.ipv4.vs.secure_tcp", 0, 3, 0, "stricter TCP states when memory is short")
        .at(|k| k.secure_tcp.into(), |k, v| k.secure_tcp = narrow(v)),
    switch("net.ipv4.vs.cache_bypass", 0, "send what finds no server to its own address")
        .at(|k| k.cache_bypass.into(), |k, v| k.cache_bypass = v != 0),
    switch("net.ipv4.vs.expire_nodest_conn", 0, "end connections whose server was removed")
        .at(|k| k.expire_nodest_conn.into(), |k, v| k.expire_nodest_conn = v != 0),
    switch("net.ipv4.vs.expire_quiescent_template", 0, "forget clients of a server of weight 0")
        .at(|k| k.expire_quiescent_template.into(), |k, v| k.expire_quiescent_template = v != 0),
    range("net.ipv4.vs.conn_reuse_mode", 0, INT, 1, "what a SYN on an old connection does")
        .at(|k| k.conn_reuse_mode.into(), |k, v| k.conn_reuse_mode = u32::try_from(v).unwrap_or(1)),
    switch("net.ipv4.vs.conntrack", 0, "keep netfilter's connections too")
        .at(|k| k.conntrack.into(), |k, v| k.conntrack = v != 0)
        .moot("there is no netfilter here that could keep connections"),
    switch("net.ipv4.vs.snat_reroute", 1, "route NAT replies anew by their new source")
        .at(|k| k.snat_reroute.into(), |k, v| k.snat_reroute = v != 0)
        .moot("routes here depend on the destination alone"),
    switch("net.ipv4.vs.nat_icmp_send", 0, "refuse servers' packets that no connection knows")
        .at(|k| k.nat_icmp_send.into(), |k, v| k.nat_icmp_send = v != 0),
    switch(
        "net.ipv4.vs.pmtu_disc",
        1,
        "refuse packets too long for a tunnel instead of cutting them",
    )
    .at(|k| k.pmtu_disc.into(), |k, v| k.pmtu_disc = v != 0),
    switch("net.ipv4.vs.schedule_icmp", 0, "schedule ICMP errors that no connection knows")
        .at(|k| k.schedule_icmp.into(), |k, v| k.schedule_icmp = v != 0),
    switch("net.ipv4.vs.ignore_tunneled", 0, "leave packets alone that come out of a tunnel")
        .at(|k| k.ignore_tunneled.into(), |k, v| k.ignore_tunneled = v != 0)
        .moot("no tunnel ends at the director"),
    switch("net.ipv4.vs.sloppy_tcp", 0, "a TCP connection may begin in its middle")
        .at(|k| k.sloppy_tcp.into(), |k, v| k.sloppy_tcp = v != 0),
    switch("net.ipv4.vs.sloppy_sctp", 0, "an SCTP association may begin in its middle")
        .at(|k| k.sloppy_sctp.into(), |k, v| k.sloppy_sctp = v != 0),
    switch("net.ipv4.vs.backup_only", 0, "do not balance while the backup daemon runs")
        .at(|k| k.backup_only.into(), |k, v| k.backup_only = v != 0)
        .moot("there is no backup daemon yet"),
    switch("net.ipv4.vs.run_estimation", 1, "sample counters and rates for listings")
        .at(|k| k.run_estimation.into(), |k, v| k.run_estimation = v != 0),
    switch("net.ipv4.vs.sync_version", 1, "version of the sync messages that are sent"),
    range("net.ipv4.vs.sync_threshold", 0, INT, 3, "packets after which a connection is synced"),
    range("net.ipv4.vs.sync_refresh_period", 0, INT, 0, "seconds between syncs of a connection"),
    range("net.ipv4.vs.sync_retries", 0, 3, 0, "how often a sync message is repeated"),
    by_machine("net.ipv4.vs.sync_qlen_max", 0, INT, "sync messages that may wait"),
    range("net.ipv4.vs.sync_sock_size", 0, INT, 0, "bytes of the sync daemons' socket buffers"),
    range("net.ipv4.vs.sync_ports", 1, 64, 1, "threads and ports of the sync daemons"),
    switch("net.ipv4.vs.sync_persist_mode", 0, "sync templates and not their connections"),
    range("net.ipv4.vs.lblc_expiration", 0, INT, 86400, "seconds that lblc remembers a client")
        .at(|k| k.lblc_expiration_s.into(), |k, v| k.lblc_expiration_s = narrow(v)),
    range("net.ipv4.vs.lblcr_expiration", 0, INT, 86400, "seconds that lblcr remembers a client")
        .at(|k| k.lblcr_expiration_s.into(), |k, v| k.lblcr_expiration_s = narrow(v)),
    by_machine("net.ipv4.vs.debug_level", 0, INT, "how much a debugging kernel tells"),
];

/// A value that its range keeps within 32 bits.
fn narrow(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// The greatest value of the kernel's `int`.
const INT: i64 = 2_147_483_647;

impl KnobInfo {
    const fn at(mut self, get: fn(&Knobs) -> i64, set: fn(&mut Knobs, i64)) -> Self {
        self.place = Some(Place { get, set });
        self
    }
}

impl KnobInfo {
    const fn moot(mut self, why: &'static str) -> Self {
        self.moot = Some(why);
        self
    }
}

const fn switch(name: &'static str, default: i64, sentence: &'static str) -> KnobInfo {
    range(name, 0, 1, default, sentence)
}

const fn range(
    name: &'static str,
    min: i64,
    max: i64,
    default: i64,
    sentence: &'static str,
) -> KnobInfo {
    KnobInfo { name, min, max, default: Some(default), sentence, place: None, moot: None }
}

const fn by_machine(name: &'static str, min: i64, max: i64, sentence: &'static str) -> KnobInfo {
    KnobInfo { name, min, max, default: None, sentence, place: None, moot: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_knobs_agree_on_defaults_and_every_place_keeps_its_value() {
        for info in KNOBS {
            assert!(info.min <= info.max && !info.sentence.is_empty(), "{}", info.name);
            let Some(place) = info.place else { continue };
            let mut knobs = Knobs::default();
            assert_eq!(Some((place.get)(&knobs)), info.default, "{}", info.name);
            for value in [info.max, info.min] {
                (place.set)(&mut knobs, value);
                assert_eq!((place.get)(&knobs), value, "{}", info.name);
            }
        }
    }

    #[test]
    fn names_may_be_written_as_paths() {
        assert_eq!(Knob::named("net/ipv4/ip_forward"), Some(Knob(0)));
        assert_eq!(Knob::named("net.ipv4.conf.all.forwarding"), Some(Knob(0)));
        assert_eq!(Knob::named("net.ipv4.vs.nothing"), None);
    }
}
