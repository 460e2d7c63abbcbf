//! Which option goes with which command of ipvsadm, and which options go together.
//!
//! Kept from ipvsadm 1.31: its table, the order in which it looks through the columns, and that the
//! first bad column is the one reported.

use super::options::Opt;

/// What a command (or a tunnel type) needs, takes, and takes one of only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) required: &'static [&'static str],
    pub(super) optional: &'static [&'static str],
    /// Among the optional ones: those of which there may be one.
    pub(super) exclusive: &'static [&'static str],
}

/// The first thing that is wrong, by the order of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clash {
    Needed(&'static str),
    Illegal(&'static str),
    Exclusive { option: &'static str, with: &'static str },
}

/// Whether a command needs an option (true) or takes it (false), if it does either.
pub fn goes_with(command: Opt, option: Opt) -> Option<bool> {
    let Table { required, optional, .. } = table(command)?;
    // Two are taken anywhere and have no column: each belongs where another one does.
    let name = match option {
        Opt::Ipv6 => Opt::Fwmark.name(),
        Opt::Sort => Opt::Nosort.name(),
        _ => option.name(),
    };
    match (required.contains(&name), optional.contains(&name)) {
        (true, _) => Some(option != Opt::Ipv6),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// Looks through `columns`; `given` tells which of them were used.
pub(super) fn clash(
    columns: &[&'static str],
    given: impl Fn(&str) -> bool,
    table: &Table,
) -> Option<Clash> {
    let mut chosen = None;
    for &option in columns {
        match (given(option), table.required.contains(&option)) {
            (false, true) => return Some(Clash::Needed(option)),
            (false, false) | (true, true) => {}
            (true, false) if !table.optional.contains(&option) => {
                return Some(Clash::Illegal(option));
            }
            (true, false) if table.exclusive.contains(&option) => {
                if let Some(with) = chosen.replace(option) {
                    return Some(Clash::Exclusive { option, with });
                }
            }
            (true, false) => {}
        }
    }
    None
}

/// The options of a command; `None` for those that take none and are not asked (help, version).
pub(super) const fn table(command: Opt) -> Option<Table> {
    const SERVICE: &[&str] = &["service-address"];
    const SERVER: &[&str] = &["service-address", "real-server"];
    Some(match command {
        Opt::AddService | Opt::EditService => Table {
            required: SERVICE,
            optional: &["scheduler", "persistent", "netmask", "ops", "pe", "sched-flags"],
            exclusive: &[],
        },
        Opt::DeleteService => just(SERVICE, &[]),
        Opt::Clear | Opt::Set | Opt::Restore => just(&[], &[]),
        Opt::AddServer | Opt::EditServer => just(SERVER, FORWARDING),
        Opt::DeleteServer => just(SERVER, &[]),
        Opt::List | Opt::ListToo => LIST,
        Opt::Zero => just(&[], SERVICE),
        Opt::Save => just(&[], &["numeric", "json"]),
        Opt::StartDaemon => just(&[], DAEMON),
        Opt::StopDaemon => just(&[], &["syncid"]),
        _ => return None,
    })
}

const fn just(required: &'static [&'static str], optional: &'static [&'static str]) -> Table {
    Table { required, optional, exclusive: &[] }
}

const FORWARDING: &[&str] = &[
    "forwarding-method",
    "weight",
    "u-threshold",
    "l-threshold",
    "tun-type",
    "tun-port",
    "tun-nocsum",
    "tun-csum",
    "tun-remcsum",
];

const DAEMON: &[&str] =
    &["mcast-interface", "syncid", "mcast-group", "mcast-port", "mcast-ttl", "sync-maxlen"];

const LIST: Table = Table {
    required: &[],
    optional: &[
        "numeric",
        "connection",
        "service-address",
        "timeout",
        "daemon",
        "stats",
        "rate",
        "thresholds",
        "persistent-conn",
        "nosort",
        "syncid",
        "exact",
        "tun-info",
        "json",
    ],
    exclusive: &["connection", "service-address", "timeout", "daemon"],
};

/// Which options a tunnel type has.
pub(super) fn tunnel_table(kind: &str) -> Table {
    const CHECKSUMS: &[&str] = &["tun-nocsum", "tun-csum", "tun-remcsum"];
    match kind {
        "gue" => Table {
            required: &["tun-port"],
            optional: &["tun-type", "tun-nocsum", "tun-csum", "tun-remcsum"],
            exclusive: CHECKSUMS,
        },
        "gre" => Table {
            required: &[],
            optional: &["tun-type", "tun-nocsum", "tun-csum"],
            exclusive: CHECKSUMS,
        },
        _ => just(&[], &["tun-type"]),
    }
}

/// The order in which ipvsadm looks through its table, and ours at the end.
pub(super) const COLUMNS: &[&str] = &[
    "numeric",
    "connection",
    "service-address",
    "scheduler",
    "persistent",
    "netmask",
    "real-server",
    "forwarding-method",
    "weight",
    "u-threshold",
    "l-threshold",
    "mcast-interface",
    "timeout",
    "daemon",
    "stats",
    "rate",
    "thresholds",
    "persistent-conn",
    "nosort",
    "syncid",
    "exact",
    "ops",
    "pe",
    "sched-flags",
    "mcast-group",
    "mcast-port",
    "mcast-ttl",
    "sync-maxlen",
    "tun-info",
    "tun-type",
    "tun-port",
    "tun-nocsum",
    "tun-csum",
    "tun-remcsum",
    "json",
];

/// The columns of a tunnel.
pub(super) const TUNNEL_COLUMNS: &[&str] =
    &["tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum"];

#[cfg(test)]
mod tests {
    use super::super::options::SPELLINGS;
    use super::*;

    #[test]
    fn every_option_of_ipvsadm_has_its_column() {
        for spelling in SPELLINGS.iter().filter(|s| !s.command) {
            let never_checked = matches!(spelling.opt, Opt::Ipv6 | Opt::Sort);
            assert!(never_checked || COLUMNS.contains(&spelling.name), "{}", spelling.long);
        }
    }

    #[test]
    fn the_later_column_is_said_to_conflict_with_the_earlier_whatever_the_order_of_the_line() {
        let given = ["timeout", "connection"];
        assert_eq!(
            clash(COLUMNS, |option| given.contains(&option), &LIST),
            Some(Clash::Exclusive { option: "timeout", with: "connection" })
        );
    }
}
