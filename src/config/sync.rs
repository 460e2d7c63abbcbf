//! The two synchronisation daemons as the operator asked for them.
//!
//! Kept from the kernel: at most one master and one backup; a daemon's interface must be a port; how
//! the length of a message is filled in and limited; that a daemon and servers of the other family
//! exclude each other. Left out on purpose: synchronisation itself, which is still to come.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::packet::Family;

use super::print::Quoted;
use super::{Config, Refusal};

/// Which of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncRole {
    /// Tells others of our connections.
    Master,
    /// Learns the connections of others.
    Backup,
}

impl SyncRole {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Backup => "backup",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Master, Self::Backup].into_iter().find(|role| role.name() == name)
    }
}

/// A daemon and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncDaemon {
    /// Which.
    pub role: SyncRole,
    /// `--mcast-interface`: a port of ours.
    pub interface: String,
    /// `--syncid`.
    pub syncid: u8,
    /// `--sync-maxlen`: bytes of a message; 0 as long as nothing was said.
    pub maxlen: u16,
    /// `--mcast-group`.
    pub group: IpAddr,
    /// `--mcast-port`.
    pub port: u16,
    /// `--mcast-ttl`.
    pub ttl: u8,
}

impl SyncDaemon {
    /// What `--start-daemon ROLE` starts without options.
    pub fn new(role: SyncRole) -> Self {
        Self {
            role,
            interface: "eth0".to_owned(),
            syncid: 0,
            maxlen: 0,
            group: IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81)),
            port: 8848,
            ttl: 1,
        }
    }

    /// Fills in the length of a message or brings it within its limits; `mtu` is the interface's.
    fn settle_length(&mut self, mtu: u16) {
        let headers = match Family::of(self.group) {
            Family::V4 => 28,
            Family::V6 => 48,
        };
        let (least, default) = match self.role {
            SyncRole::Master => (1, 1500),
            SyncRole::Backup => (1024, mtu.max(1500)),
        };
        self.maxlen = match self.maxlen {
            0 => default - headers,
            wanted => wanted.clamp(least, u16::MAX - headers),
        };
    }
}

impl fmt::Display for SyncDaemon {
    /// The command that starts it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, interface, syncid, maxlen, group, port, ttl } = self;
        write!(f, "--start-daemon {} --mcast-interface {}", role.name(), Quoted(interface))?;
        write!(
            f,
            " --syncid {syncid} --mcast-group {group} --mcast-port {port} --mcast-ttl {ttl}"
        )?;
        match maxlen {
            0 => Ok(()),
            _ => write!(f, " --sync-maxlen {maxlen}"),
        }
    }
}

impl Config {
    /// `--start-daemon`.
    pub(super) fn start_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), Refusal> {
        if self.has_mixed_families() {
            return Err(Refusal::NotUnicast);
        }
        let port = self.ports.iter().find(|port| port.name == daemon.interface);
        let mtu = port.ok_or(Refusal::NoDevice)?.settings.mtu.unwrap_or(1500);
        if self.sync.contains_key(&daemon.role) {
            return Err(Refusal::DaemonRuns);
        }
        let mut daemon = daemon.clone();
        daemon.settle_length(mtu);
        self.sync.insert(daemon.role, daemon);
        Ok(())
    }

    /// `--stop-daemon`.
    pub(super) fn stop_daemon(&mut self, role: SyncRole) -> Result<(), Refusal> {
        self.sync.remove(&role).map(|_| ()).ok_or(Refusal::NoDaemon)
    }

    fn has_mixed_families(&self) -> bool {
        let mixed = |(key, (_, dests)): (&super::ServiceKey, &(_, Vec<super::DestSpec>))| {
            dests.iter().any(|dest| Family::of(dest.dest.addr) != key.family())
        };
        self.services.iter().any(mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::load;
    use super::*;

    const PORT: &str = "ip tuntap add dev tap0 mode tap\n";

    fn config(text: &str) -> Config {
        load("r", &format!("{PORT}{text}")).unwrap_or_else(|all| panic!("{}", all[0]))
    }

    fn length(role: SyncRole, wanted: u16, group: &str, mtu: u16) -> u16 {
        let mut daemon = SyncDaemon::new(role);
        daemon.maxlen = wanted;
        daemon.group = group.parse().expect("an address");
        daemon.settle_length(mtu);
        daemon.maxlen
    }

    #[test]
    fn the_length_of_a_message_is_filled_in_and_limited_as_the_kernel_does() {
        use SyncRole::{Backup, Master};
        assert_eq!(length(Master, 0, "224.0.0.81", 9000), 1472);
        assert_eq!(length(Master, 0, "ff02::81", 1500), 1452);
        assert_eq!(length(Backup, 0, "224.0.0.81", 9000), 8972);
        assert_eq!(length(Backup, 0, "224.0.0.81", 576), 1472);
        assert_eq!(length(Backup, 100, "224.0.0.81", 1500), 1024);
        assert_eq!(length(Master, 100, "224.0.0.81", 1500), 100);
    }

    #[test]
    fn one_master_and_one_backup_may_run_on_a_port_of_ours() {
        let mut config = config("--start-daemon master --mcast-interface tap0 --syncid 7\n");
        let again =
            SyncDaemon { interface: "tap0".to_owned(), ..SyncDaemon::new(SyncRole::Master) };
        assert_eq!(config.start_daemon(&again), Err(Refusal::DaemonRuns));
        let elsewhere = SyncDaemon::new(SyncRole::Backup);
        assert_eq!(config.start_daemon(&elsewhere), Err(Refusal::NoDevice));
        assert_eq!(config.stop_daemon(SyncRole::Backup), Err(Refusal::NoDaemon));
        assert_eq!(load("r", &config.to_string()), Ok(config.clone()));
        assert_eq!(config.stop_daemon(SyncRole::Master), Ok(()));
        assert_eq!(config.stop_daemon(SyncRole::Master), Err(Refusal::NoDaemon));
    }

    #[test]
    fn a_daemon_and_a_server_of_the_other_family_exclude_each_other() {
        let mixed = "-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r [fd00::1]:80 -i\n";
        let daemon = "--start-daemon master --mcast-interface tap0\n";
        for text in [format!("{mixed}{daemon}"), format!("{daemon}{mixed}")] {
            let all = load("r", &format!("{PORT}{text}")).expect_err("they exclude each other");
            assert!(all[0].to_string().contains("Invalid operation"), "{}", all[0]);
        }
    }
}
