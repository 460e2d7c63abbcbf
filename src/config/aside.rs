//! Lines that change nothing here, as articles on LVS are full of them: what belongs on a real server,
//! and what shows, edits or installs something.
//!
//! They are recognised, explained and passed over, so that an article can be pasted whole. Nothing is
//! ever executed. Left out on purpose: every line that would change something on the director; it has
//! a meaning, or it is a mistake.

use super::grammar::{invocation, tee, Invocation, Word};
use super::modules;
use super::options::Opt;

/// A line that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// From 1.
    pub line: usize,
    /// Whether it belongs on a real server; else it belongs into no rules file.
    pub real_server: bool,
    /// Why, as one sentence without its full stop.
    pub text: String,
}

/// Why a line says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It belongs on a real server.
    RealServer,
    /// It belongs into no rules file.
    NoRule(&'static str),
}

impl Why {
    /// The line that begins with `program` and was passed over.
    pub(super) fn of_line(self, line: usize, program: &str) -> Aside {
        let program = super::complaint::plain(program);
        let (real_server, text) = match self {
            Self::RealServer => (
                true,
                format!(
                    "this `{program}` line belongs on the real server and is passed over; `tapvs \
                     realserver -r FILE` prints what each needs, and tapvs answers for a service's \
                     address without being told"
                ),
            ),
            Self::NoRule(why) => {
                (false, format!("this `{program}` line {why}; it is no rule and is passed over"))
            }
        };
        Aside { line, real_server, text }
    }
}

const SHOWS: &str = "only shows something";

const OF_HOST: &str = "is about the host, whose own devices and programs tapvs leaves alone";

const SAVES: &str = "saves something; `tapvs save -o FILE` keeps what runs";

const NOT_FILTERED: &str = "is about what tapvs does not do: it filters nothing";

/// Programs whose lines change no rule.
const PROGRAMS: &[(&[&str], &str)] = &[
    (&["ipvsadm-save", "iptables-save", "ip6tables-save"], SAVES),
    (
        &[
            "exit", "set", "shopt", "trap", "true", ":", "sleep", "wait", "umask", "ulimit",
            "logger", "printf", "date", "sync",
        ],
        "is for the shell",
    ),
    (
        &["ifup", "ifdown", "nmcli", "ethtool", "brctl", "hostname", "hostnamectl", "setenforce"],
        OF_HOST,
    ),
    (
        &["getenforce", "firewall-cmd", "ufw", "sed", "cp", "mv", "rm", "ln", "cd", "pwd", "ls"],
        OF_HOST,
    ),
    (&["tar", "make", "rpm", "dpkg", "git", "pip"], "installs what tapvs needs not"),
    (&["which", "uname", "id", "ps", "lsof", "clear", "dmesg", "traceroute", "tracepath"], SHOWS),
    (&["vi", "vim", "nano", "emacs"], "edits a file, whose lines could stand here instead"),
    (&["yum", "dnf", "apt", "apt-get", "zypper", "apk", "pacman"], "installs what tapvs needs not"),
    (
        &["modprobe", "insmod", "rmmod", "lsmod", "depmod"],
        "is about kernel modules, and tapvs needs none",
    ),
    (&["reboot", "shutdown"], "starts the host again, and rules are read at every start anyway"),
    (
        &["service", "systemctl", "chkconfig", "rc-service", "rc-update", "invoke-rc.d"],
        "is about services of the host",
    ),
    (&["touch", "mkdir", "chmod"], "makes a file of the host"),
    (&["watch", "cat", "less", "more", "head", "tail", "grep", "egrep", "wc", "sort"], SHOWS),
    (&["netstat", "ss", "arping", "ping", "curl", "wget", "tcpdump", "man"], SHOWS),
];

/// Why the words change nothing here, if that can be told from how they look.
pub(super) fn why(words: &[Word<'_>]) -> Option<Why> {
    let saves = words.first().is_some_and(|word| word.text.ends_with("-save"));
    if !saves && words.iter().any(|word| word.text.contains('>')) {
        return None;
    }
    let is_joint = |word: &Word<'_>| matches!(&*word.text, "|" | "||" | "&&" | ";");
    let sets = |path: &Word<'_>| ["/proc/sys/", "/sysctl."].iter().any(|at| path.text.contains(at));
    if words.split(is_joint).skip(1).any(|part| tee(part).is_some_and(sets)) {
        return None;
    }
    let parts: Option<Vec<Why>> = words.split(is_joint).map(alone).collect();
    parts?.first().copied()
}

/// Why an `ipvsadm` line is no rule, if its command changes none.
pub(super) const fn why_ipvsadm(invocation: &Invocation<'_>) -> Option<Why> {
    match invocation.command.opt {
        Opt::Save => Some(Why::NoRule(SAVES)),
        Opt::List | Opt::ListToo | Opt::Help | Opt::Version => Some(Why::NoRule(SHOWS)),
        Opt::Zero => Some(Why::NoRule("sets counters to zero, where they begin anyway")),
        _ => None,
    }
}

/// Takes the pairs away that say nothing here, and why they do not.
pub(super) fn take_sysctls(pairs: &mut Vec<(Word<'_>, Word<'_>)>) -> Option<Why> {
    let mut why = None;
    pairs.retain(|(key, _)| {
        let found = sysctl(&key.text.replace('/', "."));
        why = why.or(found);
        found.is_none()
    });
    why
}

fn alone(words: &[Word<'_>]) -> Option<Why> {
    let (first, rest) = words.split_first()?;
    let program = first.text.rsplit('/').next().unwrap_or("");
    let has = |wanted: &[&str]| rest.iter().any(|word| wanted.contains(&&*word.text));
    match program {
        "ifconfig" => ifconfig(rest),
        "route" if rest.iter().all(|word| word.text.starts_with('-')) => Some(Why::NoRule(SHOWS)),
        "route" => {
            rest.iter().any(|word| is_real_servers_port(&word.text)).then_some(Why::RealServer)
        }
        "ip" => ip(rest),
        "iptables" | "ip6tables" | "iptables-legacy" | "iptables-nft" => iptables(rest),
        "arptables" | "arptables_jf" => Some(Why::RealServer),
        "arp" => {
            let changes = |word: &Word<'_>| {
                let options = word.text.strip_prefix('-').unwrap_or("");
                options.contains(['s', 'd', 'f']) && options != "-device"
            };
            (!rest.iter().any(changes)).then_some(Why::NoRule(SHOWS))
        }
        // Libraries of distributions, which hold no rules.
        "." | "source" if matches!(rest, [file] if is_library(&file.text)) => {
            Some(Why::NoRule("is for the shell"))
        }
        "ipvsadm" if rest.is_empty() => Some(Why::NoRule(SHOWS)),
        "ipvsadm" if !first.text.starts_with("/etc/") => {
            why_ipvsadm(&invocation(first, rest).ok()?)
        }
        "sudo" => Some(Why::NoRule("opens a shell")),
        "tee" => Some(Why::NoRule(OF_HOST)),
        "echo" => Some(Why::NoRule(SHOWS)),
        "sysctl" if has(&["-p", "--load", "--system"]) => {
            Some(Why::NoRule("reads files of the host, whose lines could stand here instead"))
        }
        "sysctl" if asks_sysctls(rest) => Some(Why::NoRule(SHOWS)),
        "sysctl" if has(&["-a", "-A", "--all"]) => Some(Why::NoRule(SHOWS)),
        "modprobe" | "insmod" | "rmmod" if rest.iter().any(modules::is_helper) => None,
        "brctl" if has(&["addif"]) => None,
        _ if rest.iter().any(|word| word.text.contains("ifcfg-lo")) => Some(Why::RealServer),
        _ if first.text.starts_with("/etc/init.d/") || first.text.starts_with("/etc/rc.d/") => {
            Some(Why::NoRule("is about services of the host"))
        }
        _ => {
            let row = PROGRAMS.iter().find(|(names, _)| names.contains(&program));
            row.map(|(_, why)| Why::NoRule(why))
        }
    }
}

/// `/etc/init.d/functions`, `/lib/lsb/init-functions` and their kin.
fn is_library(file: &str) -> bool {
    file.starts_with('/') && (file.ends_with("functions") || file == "/etc/profile")
}

/// `sysctl [-n] NAME …`.
fn asks_sysctls(rest: &[Word<'_>]) -> bool {
    let names = rest.iter().filter(|word| word.text != "-n");
    let asked = |word: &Word<'_>| word.text.starts_with("net") && !word.text.contains('=');
    names.clone().count() > 0 && names.into_iter().all(asked)
}

/// Lines that show rules, or begin or open a filter that tapvs has not. What would forbid or translate
/// something is never passed over.
fn iptables(rest: &[Word<'_>]) -> Option<Why> {
    let texts: Vec<&str> = rest.iter().map(|word| &*word.text).collect();
    let has = |wanted: &[&str]| texts.iter().any(|text| wanted.contains(text));
    let lists = |text: &&str| {
        text.starts_with('-')
            && !text.starts_with("--")
            && text.bytes().all(|b| b"-nvLSx".contains(&b))
    };
    if has(&["--list", "--list-rules"]) || texts.iter().any(|t| lists(t) && t.contains(['L', 'S']))
    {
        return Some(Why::NoRule(SHOWS));
    }
    let mangle = has(&["mangle", "-tmangle", "--table=mangle"]);
    let empties = has(&["-X", "--delete-chain", "-Z", "--zero"]);
    let policy = has(&["-P", "--policy"]) && texts.last() == Some(&"ACCEPT");
    let lets_through = texts.windows(2).any(|two| matches!(two, ["-j" | "--jump", "ACCEPT"]));
    let opens = policy || lets_through && !mangle;
    let flushes = !mangle && has(&["-F", "--flush"]);
    (empties || opens || flushes).then_some(Why::NoRule(NOT_FILTERED))
}

fn ifconfig(rest: &[Word<'_>]) -> Option<Why> {
    let mut names = rest.iter().filter(|word| !matches!(&*word.text, "-a" | "-s" | "-v"));
    match (names.next(), names.next()) {
        (None, _) | (Some(_), None) => Some(Why::NoRule(SHOWS)),
        (Some(port), Some(_)) => is_real_servers_port(&port.text).then_some(Why::RealServer),
    }
}

fn ip(rest: &[Word<'_>]) -> Option<Why> {
    let mut words = rest.iter().skip_while(|word| word.text.starts_with('-'));
    let object = &*words.next()?.text;
    let is = |name: &str| name.starts_with(object) && !object.is_empty();
    let (address, link) = (is("address"), is("link"));
    let others = ["route", "neighbour", "neighbor", "rule", "tuntap"];
    if !(address || link || others.into_iter().any(is)) {
        return None;
    }
    let Some(verb) = words.next() else { return Some(Why::NoRule(SHOWS)) };
    if verb.text == "flush" && words.clone().any(|word| word.text == "cache") {
        return Some(Why::NoRule("empties a cache that tapvs has not"));
    }
    // `s` and `se` set a link, and show everything else.
    let sets = link && "set".starts_with(&*verb.text);
    if !sets && ["show", "list", "ls", "get"].iter().any(|v| v.starts_with(&*verb.text)) {
        return Some(Why::NoRule(SHOWS));
    }
    let mut before = "";
    let named = words.any(|word| {
        let is_dev = before == "dev" || (link && before.is_empty());
        before = &word.text;
        is_dev && is_real_servers_port(&word.text)
    });
    (named && (address || link)).then_some(Why::RealServer)
}

/// The devices on which a real server keeps the virtual address; an alias counts as its device.
fn is_real_servers_port(name: &str) -> bool {
    matches!(name.split(':').next(), Some("lo" | "tunl0" | "ip6tnl0"))
}

/// Sysctls that keep a real server silent, or let it take packets out of a tunnel; and those of a host's
/// own connections, filters and memory. A key of IPVS or of forwarding is never among them.
fn sysctl(key: &str) -> Option<Why> {
    const HOST: Option<Why> = Some(Why::NoRule("is about the host's own connections or memory"));
    const NEVER: Option<Why> = Some(Why::NoRule("is about what tapvs never does"));
    let name = key.rsplit('.').next().unwrap_or("");
    let starts = |all: &[&str]| all.iter().any(|start| key.starts_with(start));
    if starts(&["net.ipv4.conf.", "net.ipv6.conf."]) {
        return match name {
            "arp_ignore" | "arp_announce" | "hidden" | "rp_filter" => Some(Why::RealServer),
            "send_redirects"
            | "accept_redirects"
            | "secure_redirects"
            | "accept_source_route"
            | "log_martians"
            | "promote_secondaries"
            | "accept_ra"
            | "accept_dad"
            | "autoconf" => NEVER,
            _ => None,
        };
    }
    let host = [
        "kernel.",
        "vm.",
        "fs.",
        "net.core.",
        "net.netfilter.",
        "net.nf_conntrack",
        "net.bridge.",
        "net.unix.",
        "net.ipv4.tcp_",
        "net.ipv4.udp_",
        "net.ipv4.netfilter.",
        "net.ipv4.neigh.",
        "net.ipv6.neigh.",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_nonlocal_bind",
        "net.ipv6.ip_nonlocal_bind",
        "net.ipv4.icmp_echo_ignore_broadcasts",
        "net.ipv4.icmp_ignore_bogus",
        "net.ipv4.route.",
        "net.ipv4.ip_conntrack",
    ];
    if starts(&host) {
        HOST
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::grammar::lines;
    use super::*;

    fn of(text: &str) -> Option<Why> {
        why(lines(text).remove(0).expect("is well written").as_slice())
    }

    #[test]
    fn what_belongs_on_a_real_server_is_known_by_its_device_or_sysctl() {
        for text in [
            "ifconfig lo:0 10.0.0.9 netmask 255.255.255.255 up",
            "/sbin/route add -host 10.0.0.9 dev lo:0",
            "ip addr add 10.0.0.9/32 dev lo label lo:0",
            "ip -4 a add 10.0.0.9/32 dev tunl0",
            "ip link set tunl0 up",
            "ip l set dev lo up",
            "touch /etc/sysconfig/network-scripts/ifcfg-lo:0",
        ] {
            assert_eq!(of(text), Some(Why::RealServer), "{text}");
        }
    }

    #[test]
    fn what_shows_saves_or_lets_something_through_says_nothing_here() {
        for text in [
            "ipvsadm",
            "/sbin/ipvsadm -Ln | grep -c Masq",
            "ipvsadm-save -n > /etc/rules",
            "iptables -t mangle -nvL PREROUTING",
            "iptables -t nat -F",
            "ip6tables -P FORWARD ACCEPT",
            "iptables -A INPUT -p tcp --dport 80 -j ACCEPT",
            "/etc/init.d/ipvsadm start",
            "sudo -i",
            "ip rule list",
            "ip a s",
            "sysctl -n net.ipv4.ip_forward",
            "ip route flush cache",
            "arp -an",
            "arp -i eth0 -n",
            ". /etc/rc.d/init.d/functions",
            "source /lib/lsb/init-functions",
            "rmmod ip_vs",
            "ifconfig -a",
        ] {
            assert!(matches!(of(text), Some(Why::NoRule(_))), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn what_would_change_the_director_is_never_passed_over() {
        for text in [
            "ifconfig eth0 10.0.0.9 up",
            "ip addr add 10.0.0.9/24 dev eth0",
            "ip route add local 10.0.0.0/24 dev lo",
            "ip rule add fwmark 1 table 100",
            "cat rules | ipvsadm -R",
            "cat rules > /etc/rules",
            "sysctl -w net.ipv4.ip_forward=1",
            "yum install x && ipvsadm -C",
            "ip l s eth0 mtu 1400",
            "insmod ip_vs_ftp",
            "rmmod ip_vs_ftp",
            "arp -s 10.0.0.2 02:00:00:00:00:02",
            "arp -d 10.0.0.2",
            "ifconfig eth0 -arp",
            "source ./functions",
            "echo 0 | sudo tee /proc/sys/net/ipv4/ip_forward",
            "echo 0 | tee -a /etc/sysctl.conf",
            "brctl addif br0 eth0",
            "ipvsadm -Ln | ipvsadm -R",
            "iptables -A INPUT -m comment --comment ACCEPT -j DROP",
            "iptables -P INPUT DROP",
            "iptables -t nat -A POSTROUTING -j MASQUERADE",
            "iptables -t mangle -F",
            "iptables -t mangle -A PREROUTING -j ACCEPT",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
