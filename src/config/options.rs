//! How the options of ipvsadm 1.31 are spelled: its names, letters and values, all of them; and
//! `--json`, which is ours.
//!
//! Left out on purpose: what they mean, and which goes with which command.

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// No.
    Nothing,
    /// Yes.
    Value,
    /// If the next word does not begin with a minus.
    Perhaps,
}

/// How an option of ipvsadm is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelling {
    /// Which.
    pub opt: Opt,
    /// Without its two minus.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// Whether it takes a value.
    pub takes: Takes,
    /// Its name in error texts; options of one name exclude each other.
    pub name: &'static str,
    /// Whether it is a command.
    pub command: bool,
}

macro_rules! spellings {
    ($($kind:ident $opt:ident $long:literal $short:expr, $takes:ident, $name:literal;)+) => {
        /// The commands and options of ipvsadm 1.31.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Opt {
            $(
                #[doc = concat!("`--", $long, "`")]
                $opt,
            )+
        }

        /// Every option of ipvsadm 1.31.
        pub const SPELLINGS: &[Spelling] = &[$(Spelling {
            opt: Opt::$opt,
            long: $long,
            short: $short,
            takes: Takes::$takes,
            name: $name,
            command: is_command(stringify!($kind)),
        },)+];
    };
}

spellings! {
    command AddService "add-service" Some('A'), Nothing, "add-service";
    command EditService "edit-service" Some('E'), Nothing, "edit-service";
    command DeleteService "delete-service" Some('D'), Nothing, "delete-service";
    command Clear "clear" Some('C'), Nothing, "flush";
    command Restore "restore" Some('R'), Nothing, "restore";
    command Save "save" Some('S'), Nothing, "save";
    command AddServer "add-server" Some('a'), Nothing, "add-server";
    command EditServer "edit-server" Some('e'), Nothing, "edit-server";
    command DeleteServer "delete-server" Some('d'), Nothing, "delete-server";
    command List "list" Some('L'), Nothing, "list";
    command ListToo "list" Some('l'), Nothing, "list";
    command Zero "zero" Some('Z'), Nothing, "zero";
    command Set "set" None, Nothing, "set";
    command StartDaemon "start-daemon" None, Value, "start-daemon";
    command StopDaemon "stop-daemon" None, Value, "stop-daemon";
    command Help "help" Some('h'), Nothing, "help";
    command Version "version" Some('v'), Nothing, "version";
    option Tcp "tcp-service" Some('t'), Value, "service-address";
    option Udp "udp-service" Some('u'), Value, "service-address";
    option Sctp "sctp-service" None, Value, "service-address";
    option Fwmark "fwmark-service" Some('f'), Value, "service-address";
    option Ipv6 "ipv6" Some('6'), Nothing, "ipv6";
    option Scheduler "scheduler" Some('s'), Value, "scheduler";
    option Persistent "persistent" Some('p'), Perhaps, "persistent";
    option Netmask "netmask" Some('M'), Value, "netmask";
    option Pe "pe" None, Value, "pe";
    option SchedFlags "sched-flags" Some('b'), Value, "sched-flags";
    option Ops "ops" Some('o'), Nothing, "ops";
    option RealServer "real-server" Some('r'), Value, "real-server";
    option Gatewaying "gatewaying" Some('g'), Nothing, "forwarding-method";
    option Ipip "ipip" Some('i'), Nothing, "forwarding-method";
    option Masquerading "masquerading" Some('m'), Nothing, "forwarding-method";
    option Weight "weight" Some('w'), Value, "weight";
    option UThreshold "u-threshold" Some('x'), Value, "u-threshold";
    option LThreshold "l-threshold" Some('y'), Value, "l-threshold";
    option TunType "tun-type" None, Value, "tun-type";
    option TunPort "tun-port" None, Value, "tun-port";
    option TunNocsum "tun-nocsum" None, Nothing, "tun-nocsum";
    option TunCsum "tun-csum" None, Nothing, "tun-csum";
    option TunRemcsum "tun-remcsum" None, Nothing, "tun-remcsum";
    option Numeric "numeric" Some('n'), Nothing, "numeric";
    option Connection "connection" Some('c'), Nothing, "connection";
    option Timeout "timeout" None, Nothing, "timeout";
    option Daemon "daemon" None, Nothing, "daemon";
    option Stats "stats" None, Nothing, "stats";
    option Rate "rate" None, Nothing, "rate";
    option Thresholds "thresholds" None, Nothing, "thresholds";
    option PersistentConn "persistent-conn" None, Nothing, "persistent-conn";
    option TunInfo "tun-info" None, Nothing, "tun-info";
    option Exact "exact" Some('X'), Nothing, "exact";
    option Nosort "nosort" None, Nothing, "nosort";
    option Sort "sort" None, Nothing, "sort";
    option McastInterface "mcast-interface" None, Value, "mcast-interface";
    option Syncid "syncid" None, Value, "syncid";
    option McastGroup "mcast-group" None, Value, "mcast-group";
    option McastPort "mcast-port" None, Value, "mcast-port";
    option McastTtl "mcast-ttl" None, Value, "mcast-ttl";
    option SyncMaxlen "sync-maxlen" None, Value, "sync-maxlen";
    option Json "json" None, Nothing, "json";
}

const fn is_command(kind: &str) -> bool {
    kind.as_bytes()[0] == b'c'
}

impl Opt {
    /// How it is written.
    pub const fn spelling(self) -> &'static Spelling {
        &SPELLINGS[self as usize]
    }

    /// Its name in error texts.
    pub const fn name(self) -> &'static str {
        self.spelling().name
    }
}

/// The option as ipvsadm names it: its letter if it has one.
pub fn written(opt: Opt) -> String {
    let spelling = opt.spelling();
    spelling.short.map_or_else(|| format!("--{}", spelling.long), |letter| format!("-{letter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_knows_its_own_row() {
        for (i, spelling) in SPELLINGS.iter().enumerate() {
            assert_eq!(spelling.opt as usize, i);
        }
    }
}
