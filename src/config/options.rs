//! How the options of ipvsadm 1.31 are spelled: its names, letters and values, all of them; and
//! `--json`, which is ours; with a sentence each for people.
//!
//! Left out on purpose: which goes with which command.

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
    ($(
        $kind:ident $opt:ident $long:literal $short:expr, $takes:ident $($value:literal)?, $name:literal,
            $sentence:literal;
    )+) => {
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

        /// What each option's value is called (nothing, where it takes none), and what the option
        /// does, in the order of [`SPELLINGS`]. Help, manuals and completions are made of this.
        pub const SENTENCES: &[(&str, &str)] = &[$((concat!($($value)?), $sentence),)+];
    };
}

spellings! {
    command AddService "add-service" Some('A'), Nothing, "add-service",
        "add a virtual service";
    command EditService "edit-service" Some('E'), Nothing, "edit-service",
        "give a service other options; what is not given becomes the default";
    command DeleteService "delete-service" Some('D'), Nothing, "delete-service",
        "delete a service and its servers";
    command Clear "clear" Some('C'), Nothing, "flush",
        "delete every service";
    command Restore "restore" Some('R'), Nothing, "restore",
        "read commands from standard input, one a line";
    command Save "save" Some('S'), Nothing, "save",
        "print the services as commands that --restore reads";
    command AddServer "add-server" Some('a'), Nothing, "add-server",
        "add a real server to a service";
    command EditServer "edit-server" Some('e'), Nothing, "edit-server",
        "give a server other options; what is not given becomes the default";
    command DeleteServer "delete-server" Some('d'), Nothing, "delete-server",
        "delete a server of a service";
    command List "list" Some('L'), Nothing, "list",
        "list services and servers, or what --connection, --timeout or --daemon ask for";
    command ListToo "list" Some('l'), Nothing, "list",
        "the same as -L";
    command Zero "zero" Some('Z'), Nothing, "zero",
        "set the counters of one service, or of everything, to zero";
    command Set "set" None, Nothing, "set",
        "seconds of idle TCP, TCP after FIN, and UDP connections; 0 leaves one as it is";
    command StartDaemon "start-daemon" None, Value "role", "start-daemon",
        "keep a synchronisation daemon, which does nothing yet";
    command StopDaemon "stop-daemon" None, Value "role", "stop-daemon",
        "forget a synchronisation daemon";
    command Help "help" Some('h'), Nothing, "help",
        "print a help";
    command Version "version" Some('v'), Nothing, "version",
        "print the version";
    option Tcp "tcp-service" Some('t'), Value "address", "service-address",
        "the TCP service at an address and port";
    option Udp "udp-service" Some('u'), Value "address", "service-address",
        "the UDP service at an address and port";
    option Sctp "sctp-service" None, Value "address", "service-address",
        "the SCTP service at an address and port";
    option Fwmark "fwmark-service" Some('f'), Value "mark", "service-address",
        "the service of all packets with a firewall mark";
    option Ipv6 "ipv6" Some('6'), Nothing, "ipv6",
        "the mark is one of IPv6 packets; after -f";
    option Scheduler "scheduler" Some('s'), Value "scheduler", "scheduler",
        "how connections are shared among servers; wlc unless given";
    option Persistent "persistent" Some('p'), Perhaps "seconds", "persistent",
        "a client stays with its server; for so many seconds, 360 unless given";
    option Netmask "netmask" Some('M'), Value "mask", "netmask",
        "clients of one network (mask, or prefix length for IPv6) stay together";
    option Pe "pe" None, Value "engine", "pe",
        "tell persistent clients apart by more than their address";
    option SchedFlags "sched-flags" Some('b'), Value "flags", "sched-flags",
        "flags of the scheduler, with commas between";
    option Ops "ops" Some('o'), Nothing, "ops",
        "each UDP packet is a connection of its own";
    option RealServer "real-server" Some('r'), Value "server", "real-server",
        "the real server; without a port it has the service's";
    option Gatewaying "gatewaying" Some('g'), Nothing, "forwarding-method",
        "direct routing: the server is in one network with us; the default";
    option Ipip "ipip" Some('i'), Nothing, "forwarding-method",
        "tunnel: the server may be anywhere";
    option Masquerading "masquerading" Some('m'), Nothing, "forwarding-method",
        "network address translation: answers come back through us";
    option Weight "weight" Some('w'), Value "number", "weight",
        "capacity relative to the other servers, 0 to 2147483647, 1 unless given; 0 gets nothing new";
    option UThreshold "u-threshold" Some('x'), Value "number", "u-threshold",
        "connections beyond which a server gets nothing new; 0 is no limit";
    option LThreshold "l-threshold" Some('y'), Value "number", "l-threshold",
        "connections below which it gets something again; 0 is three quarters of the upper one";
    option TunType "tun-type" None, Value "type", "tun-type",
        "kind of the tunnel; ipip unless given";
    option TunPort "tun-port" None, Value "port", "tun-port",
        "UDP port of a gue tunnel";
    option TunNocsum "tun-nocsum" None, Nothing, "tun-nocsum",
        "no checksum in the outer header; the default";
    option TunCsum "tun-csum" None, Nothing, "tun-csum",
        "a checksum in the outer header";
    option TunRemcsum "tun-remcsum" None, Nothing, "tun-remcsum",
        "remote checksum offload; gue only";
    option Numeric "numeric" Some('n'), Nothing, "numeric",
        "addresses and ports as numbers";
    option Connection "connection" Some('c'), Nothing, "connection",
        "list connections";
    option Timeout "timeout" None, Nothing, "timeout",
        "list the timeouts";
    option Daemon "daemon" None, Nothing, "daemon",
        "list the synchronisation daemons";
    option Stats "stats" None, Nothing, "stats",
        "with counters";
    option Rate "rate" None, Nothing, "rate",
        "with rates";
    option Thresholds "thresholds" None, Nothing, "thresholds",
        "with connection limits";
    option PersistentConn "persistent-conn" None, Nothing, "persistent-conn",
        "with persistent connections; with -c their engine's data";
    option TunInfo "tun-info" None, Nothing, "tun-info",
        "with tunnels";
    option Exact "exact" Some('X'), Nothing, "exact",
        "numbers as they are, without K, M and G";
    option Nosort "nosort" None, Nothing, "nosort",
        "in the order of the table";
    option Sort "sort" None, Nothing, "sort",
        "sorted; the default";
    option McastInterface "mcast-interface" None, Value "interface", "mcast-interface",
        "the port for synchronisation messages";
    option Syncid "syncid" None, Value "number", "syncid",
        "number of a group of directors, 0 to 255";
    option McastGroup "mcast-group" None, Value "group", "mcast-group",
        "address for synchronisation messages";
    option McastPort "mcast-port" None, Value "port", "mcast-port",
        "UDP port for synchronisation messages";
    option McastTtl "mcast-ttl" None, Value "number", "mcast-ttl",
        "hops that synchronisation messages live";
    option SyncMaxlen "sync-maxlen" None, Value "bytes", "sync-maxlen",
        "bytes of a synchronisation message";
    option Json "json" None, Nothing, "json",
        "as JSON";
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
    fn each_value_has_a_name_and_what_takes_none_has_none() {
        assert_eq!(SENTENCES.len(), SPELLINGS.len());
        for (spelling, (value, sentence)) in SPELLINGS.iter().zip(SENTENCES) {
            assert_eq!(spelling.takes == Takes::Nothing, value.is_empty(), "{}", spelling.long);
            assert!(!sentence.is_empty(), "{}", spelling.long);
        }
    }

    #[test]
    fn each_option_knows_its_own_row() {
        for (i, spelling) in SPELLINGS.iter().enumerate() {
            assert_eq!(spelling.opt as usize, i);
        }
    }
}
