//! The rules language from outside: a mistake in each position, the example of the manual, the round
//! trip through its printed form, and text that nobody would write.

use std::net::IpAddr;

use tapvs::config::complaint::{told, Complaint};
use tapvs::config::marks::MarkTarget;
use tapvs::config::rules::load;
use tapvs::config::{
    Config, DestSpec, LinkSettings, Method, PortConfig, PortKind, Prefix, RouteTarget, ServiceKey,
    ServiceSpec, Timeouts, TunnelType,
};
use tapvs::packet::{proto, Endpoint, Family, Mac};
use tapvs::sched::Scheduler;

const EXAMPLE: &str = "\
ip tuntap add dev tap-wan mode tap           # a port: opened, created where it does not exist yet
ip link set dev tap-wan address 02:00:00:00:01:01   # tapvs's own MAC on that wire, not the kernel's
ip link set dev tap-wan mtu 1500 master br-wan      # the kernel's end joins this bridge
ip addr add 10.77.1.1/24 dev tap-wan
ip route add default via 10.77.1.254
ip tuntap add dev tap-lan mode tap
ip neigh add 10.77.2.11 lladdr 02:00:00:00:02:0b dev tap-lan
ip route add local 10.91.0.0/24 dev lo              # a whole network that is tapvs's own
sysctl -w net.ipv4.vs.expire_nodest_conn=1
-A -t 10.77.1.100:80 -s wrr
ipvsadm -a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m -w 2
";

/// Everything that can be said, in the manners in which it can be said.
const EVERYTHING: &str = "\
ip tuntap add tap0 mode tap
/sbin/ip tuntap add mode tun dev tun0
ip link add link eth1 name mvt0 type macvtap mode passthru
ip link add mvt1 link eth2 type macvtap
ip l set tap0 up
ip link set dev 'tap0' mtu 9000 \\
    master \"br#0\" # joined
ip -4 a add 10.0.0.1/24 dev tap0
ip -6 addr add fd00::1/64 dev tap0
ip address replace dev tun0 local 10.9.0.1
ip r add default via fd00::fe
ip ro replace to 10.5.0.0/16 via inet 10.0.0.254 dev tap0
ip route add 10.6.0.0/16 dev tun0
ip n add 10.0.0.9 lladdr 2:0:0:0:0:9 nud permanent dev tap0
ip route replace default via fd00::fd
ip address replace 10.0.0.1/24 dev tap0 brd + scope global label tap0:1
ip address add 10.0.7.1/24 broadcast 10.0.7.255 dev tap0
ip neighbor replace to 10.0.0.9 lladdr 02:00:00:00:00:0a dev tap0
sysctl -w net.ipv4.vs.sloppy_tcp = 1 net/ipv4/ip_forward=0
net.ipv4.vs.sync_threshold = 3 50
net.ipv4.vs.conn_reuse_mode=0
iptables -w -t mangle -A PREROUTING -i tap0 -d 10.0.0.100 -p tcp --dport 80 -j MARK --set-mark 1
ip6tables -t mangle -A PREROUTING -i \"t+\" ! -s fd00::/64 -p udp -m multiport ! --dports 53,60:70 \\
    -j MARK --or-mark 0x10
iptables -t mangle -I PREROUTING -p icmp -j RETURN
--set 100 0 50
ipvsadm -C
-At 10.0.0.100:http -srr -p300 -M 255.255.255.0
-a -t10.0.0.100:80 -r 10.0.0.2 -m -w0 -x 9 -y=3
-a -t 10.0.0.100:80 -r 10.0.0.3:80
-a -t 10.0.0.100:80 -r [fd00::3]:80 -i --tun-type ipip
-a -t 10.0.0.100:80 -r 10.0.0.4 -i --tun-type gre --tun-csum
-a -t 10.0.0.100:80 -r 10.0.0.5 -i --tun-type gue --tun-port 6080 --tun-remcsum
-e -t 10.0.0.100:80 -r 10.0.0.3 -g --weight=7
ipvsadm --add-service --udp-service [fd00::64]:53 --ops -b flag-1,flag-3 -s none
-A --sctp-service 10.0.0.100:9
-A -f 1 -6 -p -M 64
-A -f 1
-D -f 1
-a -f 1 -6 -r fd00::5
";

fn complaints(text: &str) -> Vec<Complaint> {
    load("r", text).expect_err(text)
}

fn net(addr: &str, len: u8) -> Prefix {
    Prefix { addr: addr.parse().expect("is an address"), len }
}

fn at(addr: &str, port: u16) -> Endpoint {
    Endpoint::new(addr.parse::<IpAddr>().expect("is an address"), port)
}

#[test]
fn the_example_of_the_manual_says_what_it_says() {
    let port = |name: &str, settings, addresses| PortConfig {
        name: name.to_owned(),
        kind: PortKind::Tap,
        settings,
        addresses,
    };
    let wan = LinkSettings {
        mac: Some(Mac([2, 0, 0, 0, 1, 1])),
        mtu: Some(1500),
        master: Some("br-wan".to_owned()),
    };
    let spec = ServiceSpec {
        key: ServiceKey::Address { proto: proto::TCP, virt: at("10.77.1.100", 80) },
        scheduler: Some(Scheduler::Wrr),
        sched_flags: 0,
        persistent_s: None,
        netmask: u32::MAX,
        one_packet: false,
        sip: false,
    };
    let dest = DestSpec {
        dest: at("10.77.2.11", 8080),
        method: Method::Masq,
        weight: 2,
        upper: 0,
        lower: 0,
        tunnel: TunnelType::Ipip,
    };
    let via = RouteTarget::Via { gateway: "10.77.1.254".parse().unwrap(), dev: None };
    let mut wanted = Config {
        ports: vec![
            port("tap-wan", wan, vec![net("10.77.1.1", 24)]),
            port("tap-lan", LinkSettings::default(), vec![]),
        ],
        routes: vec![(net("0.0.0.0", 0), via), (net("10.91.0.0", 24), RouteTarget::Local)],
        neighbours: vec![(
            "10.77.2.11".parse().unwrap(),
            Mac([2, 0, 0, 0, 2, 11]),
            "tap-lan".to_owned(),
        )],
        services: [(spec.key, (spec, vec![dest]))].into(),
        ..Config::default()
    };
    wanted.knobs.expire_nodest_conn = true;
    assert_eq!(load("example", EXAMPLE), Ok(wanted));
}

#[test]
fn everything_can_be_said_in_the_usual_manners() {
    let config = load("r", EVERYTHING).unwrap_or_else(|all| panic!("{}", all[0]));
    assert_eq!(config.ports[0].settings.mtu, Some(9000));
    assert_eq!(config.ports[0].settings.master.as_deref(), Some("br#0"));
    assert_eq!(config.ports[1].addresses, [net("10.9.0.1", 32)]);
    assert_eq!(config.routes[0].0, net("::", 0));
    assert_eq!(config.routes.len(), 3);
    assert_eq!(config.neighbours.len(), 1);
    assert_eq!(config.ports[0].addresses.len(), 3);
    assert!(config.knobs.sloppy_tcp && !config.knobs.ip_forward);
    assert_eq!(config.knobs.conn_reuse_mode, 0);
    assert_eq!(config.timeouts_s, Timeouts { tcp: 100, tcp_fin: 120, udp: 50 });
    assert_eq!(config.services.len(), 4);
    let marks: Vec<_> = config.marks.iter().map(|rule| rule.family).collect();
    assert_eq!(marks, [Family::V4, Family::V4, Family::V6]);
    assert_eq!(config.marks[0].target, MarkTarget::End);
    let services: Vec<_> = config.services.values().collect();
    let (web, servers) = services[0];
    assert_eq!((web.persistent_s, web.netmask), (Some(300), 0xffff_ff00));
    assert_eq!(servers.len(), 5);
    assert_eq!((servers[0].weight, servers[0].upper, servers[0].lower), (0, 9, 3));
    assert_eq!((servers[1].weight, servers[1].method), (7, Method::Route));
    let (dns, _) = services[1];
    assert_eq!((dns.scheduler, dns.sched_flags, dns.one_packet), (None, 5, true));
    assert_eq!(services[3].0.persistent_s, Some(360));
    assert_eq!(services[3].1[0].dest, at("fd00::5", 0));
}

#[test]
fn what_is_printed_loads_to_the_same() {
    for text in [EXAMPLE, EVERYTHING, ""] {
        let config = load("r", text).expect("is right");
        let printed = config.to_string();
        assert_eq!(load("r", &printed), Ok(config), "{printed}");
    }
    let printed = load("r", EVERYTHING).expect("is right").to_string();
    let line = "-a -t 10.0.0.100:80 -r 10.0.0.2:80 -m -w 0 -x 9 -y 3";
    assert!(printed.lines().any(|l| l == line), "{printed}");
    assert!(printed.lines().any(|l| l == "-A -f 1 -6 -s wlc -p 360 -M 64"), "{printed}");
}

/// Line, column and words of each mistake; every text is preceded by a port and a service.
const MISTAKES: &[(&str, usize, &[&str])] = &[
    // The command.
    ("ipvsadn -C", 1, &["`ipvsadn` is no command", "did you mean `ipvsadm`?"]),
    ("-t 10.0.0.1:80 -A", 1, &["must be its command"]),
    ("ipvsadm -R", 9, &["`-R` is no rule", "the lines that it would read, here"]),
    ("ipconfig eth0 10.0.0.9 up", 1, &["no command", "did you mean `ifconfig`?"]),
    ("$ ipvsadn -C", 3, &["`ipvsadn` is no command"]),
    ("--start-daemon master", 1, &["No such device"]),
    ("--start-daemon both", 16, &["unknown daemon `both`"]),
    ("--start-daemon master --syncid 256", 32, &["illegal syncid `256`"]),
    ("-C -A", 4, &["second command"]),
    ("nft add rule", 1, &["marks are read from `iptables -t mangle`"]),
    ("iptables -A PREROUTING -j MARK --set-mark 1", 1, &["lacks `-t mangle`"]),
    ("iptables -t filter -A INPUT -j DROP", 13, &["the table `filter` means nothing", "mangle"]),
    ("iptables -t mangle -A OUTPUT -j MARK", 23, &["the chain `OUTPUT`", "`PREROUTING`"]),
    ("iptables -t mangle -A PREROUTING -j DROP", 37, &["the target `DROP`", "`MARK`"]),
    ("iptables -t mangle -A PREROUTING -i tap9 -j ACCEPT", 37, &["there is no port `tap9`"]),
    ("iptables -t mangle -I PREROUTING 2 -j ACCEPT", 34, &["there are only 0 such rules"]),
    ("iptables -t mangle -A PREROUTING -j MARK --set-mark x", 53, &["illegal mark `x`"]),
    // Options.
    ("-A -t 10.0.0.1:80 -q", 19, &["unknown option `-q`"]),
    ("-A --tcp-servce 10.0.0.1:80", 4, &["unknown option", "did you mean `--tcp-service`?"]),
    ("-A -weight 3 -t 1.1.1.1:1", 6, &["illegal weight `eight`"]),
    ("-A -tt 1.1.1.1:1 -s", 18, &["`-s`: missing argument"]),
    ("-A -u 10.0.0.1:80 -s", 19, &["`-s`: missing argument"]),
    ("-A --tcp-service", 4, &["`--tcp-service`: missing argument"]),
    ("-A -u 10.0.0.1:80 --scheduler", 19, &["`--scheduler`: missing argument"]),
    ("-A -u 10.0.0.1:80 --scheduler=", 19, &["`--scheduler`: missing argument"]),
    ("-A -u 10.0.0.1:80 -s ''", 19, &["`-s`: missing argument"]),
    ("-A -u 10.0.0.1:80 -s rr -s rr", 25, &["multiple `scheduler`"]),
    ("-A -u 10.0.0.1:80 -f 1", 19, &["multiple `service-address`"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.2 -gm", 35, &["multiple `forwarding-method`"]),
    ("-A -u 10.0.0.1:80 -w 3", 19, &["`add-service` takes no `weight`"]),
    ("-C -n", 4, &["`flush` takes no `numeric`", "expected no option"]),
    ("-d -t 10.0.0.100:80 -r 10.0.0.2 -g", 33, &["`delete-server` takes no"]),
    ("-a -r 10.0.0.2:80", 1, &["`add-server` needs `service-address`", "-t ADDRESS:PORT"]),
    ("-a -t 10.0.0.100:80", 1, &["`add-server` needs `real-server`"]),
    ("-A -u 10.0.0.1:80 rr", 19, &["unexpected argument `rr`"]),
    ("--clear=1", 1, &["takes no argument"]),
    // Their values.
    ("-A -t 10.0.0.x:80", 7, &["illegal virtual server address", "names are not looked up"]),
    ("-A -t -s rr", 7, &["the option `-s` stands where the address belongs"]),
    ("-A -t 10.0.0.1:70000", 7, &["`70000` is no port"]),
    ("-A -t [fd00::1]", 7, &["brackets"]),
    ("-A -t fd00::1:80", 7, &["port 0", "write `[fd00::1]:80`"]),
    ("-A -t fd00:1:2:3:4:5:6:7:80", 7, &["in brackets; write `[fd00:1:2:3:4:5:6:7]:PORT`"]),
    ("-A -t99999", 6, &["`99999` is a number"]),
    ("-A -t 10.0.0.1", 7, &["port 0 for a service that is not persistent"]),
    ("-A -t 10.0.0.1:0", 7, &["port 0", "expected ADDRESS:PORT"]),
    ("-A -f 1:80", 7, &["a mark has no port"]),
    ("-A -f 0", 7, &["illegal firewall mark `0`"]),
    ("-A -6 -f 1", 4, &["`-6` is used before `-f`"]),
    ("-A -u 10.0.0.1:80 -s wcl", 22, &["unknown scheduler `wcl`", "did you mean `wlc`?"]),
    (
        "-A -u 10.0.0.1:80 -s shh",
        22,
        &["unknown scheduler `shh`", "rr wrr lc wlc lblc lblcr dh sh"],
    ),
    ("-A -u 10.0.0.1:80 --pe spi", 24, &["persistence engine", "`sip`"]),
    ("-A -u 10.0.0.1:80 -p 2678401", 22, &["illegal timeout", "1 to 2678400"]),
    ("-A -u 10.0.0.1:80 -p0", 21, &["illegal timeout `0`"]),
    ("-A -u 10.0.0.1:80 -M 255.255.0.256", 22, &["illegal persistence mask"]),
    ("-A -u [fd00::1]:80 -M 129", 23, &["illegal persistence prefix length", "1 to 128"]),
    ("-A -t 10.0.0.1:80 -o", 19, &["one-packet scheduling is for UDP"]),
    ("-A -u 10.0.0.1:80 -b flag-4", 22, &["unknown scheduler flag", "did you mean `flag-1`?"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.2 -w 2147483648", 36, &["illegal weight", "2147483647"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.2 -w -1", 36, &["illegal weight `-1`"]),
    ("-a -t 10.0.0.100:80 -r web1:80", 24, &["illegal real server", "names are not looked up"]),
    ("-a -t 10.0.0.100:80 -r fd00::2", 24, &["by tunnel only", "`-i`"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.2 --tun-type ipip", 33, &["without `-i`"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.2 -i --tun-type gue", 36, &["`gue` needs `--tun-port`"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.2 -i --tun-csum", 36, &["takes no `--tun-csum`"]),
    ("--set 1 2", 1, &["three timeouts"]),
    ("--set 1 2 x", 11, &["illegal timeout `x`"]),
    // State.
    ("-A -t 10.0.0.100:80", 7, &["Service already exists", "`-E`"]),
    ("-E -t 10.0.0.9:80", 7, &["No such service"]),
    ("-D -f 7", 7, &["No such service"]),
    ("-a -u 10.0.0.100:80 -r 10.0.0.2:80", 7, &["Service not defined", "`-A`"]),
    ("-e -t 10.0.0.100:80 -r 10.0.0.2", 24, &["No such destination"]),
    ("-d -t 10.0.0.100:80 -r 10.0.0.2", 24, &["No such destination"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.8", 24, &["Destination already exists"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.2 -y 5", 36, &["out of range", "upper one"]),
    ("-a -t 10.0.0.100:80 -r 224.0.0.1", 24, &["address not unicast"]),
    ("-a -t 10.0.0.100:80 -r 10.0.0.255", 24, &["address not unicast", "single host"]),
    ("-a -t 10.0.0.100:80 -r fe80::1 -i", 24, &["address not unicast"]),
    // Host commands.
    ("ip", 1, &["`ip`: missing argument", "`tuntap`"]),
    ("ip tuntab add dev x mode tap", 4, &["`ip tuntab` means nothing", "did you mean `tuntap`?"]),
    ("ip addr delte 10.0.0.1/24 dev tap0", 9, &["means nothing", "did you mean `delete`?"]),
    ("ip addr del 10.0.0.3/24 dev tap0", 13, &["`tap0` has no such address"]),
    ("ip addr del 10.0.0.1/25 dev tap0", 13, &["`tap0` has no such address"]),
    ("ip addr del 10.0.0.1/24 dev tap9:1", 29, &["there is no port `tap9`"]),
    ("ip route del 10.8.0.0/16 via 10.0.0.3", 14, &["there is no such route to 10.8.0.0/16"]),
    ("ip route del local 10.8.0.0/16 dev lo", 20, &["there is no such route"]),
    ("ip link unset tap0", 9, &["`ip link unset` means nothing", "`set`"]),
    ("ifconfig tap0 10.0.0.3 netmask 255.0.255.0", 32, &["`255.0.255.0` is no mask"]),
    ("ifconfig tap0 10.0.0.3 netmask 255.255.255.0", 15, &["has the address 10.0.0.1 already"]),
    ("ifconfig tap0 down", 15, &["`down` means nothing here"]),
    ("ifconfig tap9 up", 10, &["there is no port `tap9`", "did you mean `tap0`?"]),
    ("route add default gw", 19, &["`gw`: missing argument"]),
    ("route add 10.9.0.0", 1, &["lacks `gw GATEWAY` or `dev NAME`"]),
    ("route add -net 10.9.0.1 netmask 255.255.0.0 tap0", 16, &["expected `10.9.0.0/16`"]),
    ("route del default gw 10.0.0.9", 22, &["there is no such route"]),
    ("route add default gw 10.0.0.9 devtap0", 31, &["`devtap0` means nothing here"]),
    ("echo 1 > /etc/motd", 10, &["nothing is written to `/etc/motd`", "`net.… = VALUE`"]),
    ("echo 2 > /proc/sys/net/ipv4/ip_forward", 6, &["illegal value `2`"]),
    ("cat rules | ipvsadm -R", 11, &["depends on another program", "the command itself"]),
    ("[ -x /sbin/ipvsadm ] || start", 1, &["depends on something"]),
    ("ipvsadm-restore < rules", 1, &["reads no other file", "the lines of that file here"]),
    (". /etc/sysconfig/network", 1, &["reads no other file"]),
    ("sudo sh -c \"ipvsadm -C \\\"x\\\"\"", 6, &["`sh` would have to be executed"]),
    ("brctl addif br0 eth9", 17, &["there is no port `eth9`"]),
    ("VIP = 10.0.0.9", 1, &["no blank before `=`", "`VIP=VALUE`"]),
    ("ipvsadm -A -t $VIP:80", 15, &["`$VIP` has no value", "`VIP=VALUE` above"]),
    ("VIP=`hostname -i`", 1, &["what another program prints", "the value itself"]),
    (
        "iptables -t nat -A POSTROUTING -j MASQUERADE",
        13,
        &["table `nat`", "translated without one"],
    ),
    ("iptables -P INPUT DROP", 10, &["`-P` means nothing", "`-A PREROUTING`"]),
    ("iptables -A INPUT -p tcp --dport 22 -j DROP", 13, &["chain `INPUT`"]),
    ("ip link add br0 type bridge", 22, &["not of type `bridge`", "on the host"]),
    ("ip -5 addr add 10.0.0.1/24", 4, &["unknown option `-5`"]),
    ("ip tuntap add dev", 15, &["`dev`: missing argument", "the port's name"]),
    ("ip tuntap add dev x mode tab", 26, &["unknown mode `tab`", "did you mean `tap`?"]),
    ("ip tuntap add dev x", 11, &["lacks `mode tap`"]),
    ("ip tuntap add dev x mode tap user root", 30, &["`user` means nothing here"]),
    ("tunctl -u root -t x", 8, &["`-u` means nothing here"]),
    ("tunctl", 1, &["lacks `-t PORT`"]),
    ("arp -s 10.0.0.2 02:00:00:00:00:02", 1, &["lacks `-i PORT`"]),
    ("arp -d 10.0.0.2", 5, &["`-d` means nothing here"]),
    ("ifconfig x -arp", 12, &["`-arp` means nothing here"]),
    ("route add default 10.0.0.254", 19, &["a router stands behind `gw`", "`gw 10.0.0.254`"]),
    ("route add -net 10.0.0.0/8 reject", 27, &["`reject` means nothing here"]),
    ("route -A ipx add default gw 10.0.0.1", 10, &["`ipx` means nothing here"]),
    ("ip link add link eth1 type macvtap", 9, &["lacks `name NAME`"]),
    ("ip link add link eth1 name x", 9, &["lacks `type macvtap`"]),
    ("ip link add name x type macvtap", 9, &["lacks `link DEVICE`"]),
    ("ip link add link eth1 name x type macvlan", 35, &["not of type `macvlan`", "`macvtap`"]),
    (
        "ip link add link eth1 name x type macvtap mode passthrou",
        48,
        &["unknown mode", "did you mean `passthru`?"],
    ),
    (
        "ip link add link eth1 name x address 02:00:00:00:00:01 type macvtap",
        30,
        &["a line of its own"],
    ),
    ("ip link add link tap0 name x type macvtap", 28, &["`x` cannot sit on `tap0`"]),
    ("ip tuntap add dev tap0 mode tap", 19, &["`tap0` exists already"]),
    ("ip tuntap add dev sixteen-letters! mode tap", 19, &["has 16 bytes"]),
    ("ip tuntap add dev a/b mode tap", 19, &["no name for a device"]),
    ("ip link set dev tap1 up", 17, &["there is no port `tap1`", "did you mean `tap0`?"]),
    ("ip link set dev tap0 address 02:00:00:00:01", 30, &["is no MAC address", "six pairs"]),
    ("ip link set dev tap0 address 01:00:00:00:00:01", 30, &["of a single station"]),
    ("ip link set dev tap0 mtu 67", 26, &["illegal MTU `67`", "68 to 65521"]),
    ("ip link set dev tap0 mtu 65522", 26, &["illegal MTU"]),
    ("ip link set dev tap0 adress 02:00:00:00:01:01", 22, &["did you mean `address`?"]),
    ("ip link set dev tap0", 9, &["lacks `address MAC`"]),
    ("ip addr add 10.0.0.2/33 dev tap0", 13, &["illegal prefix length `33`"]),
    ("ip addr add 10.0.0.300/24 dev tap0", 13, &["`10.0.0.300` is no address"]),
    ("ip -6 addr add 10.0.0.3/24 dev tap0", 16, &["is no IPv6 address"]),
    ("ip addr add 10.0.0.3/24", 9, &["lacks `dev NAME`"]),
    ("ip addr add 10.0.0.1/24 dev tap0", 13, &["`tap0` has the address 10.0.0.1 already"]),
    ("ip addr add 10.1.0.255/24 dev tap0", 13, &["no address of a host"]),
    ("ip addr add 10.0.0.3/24 dev tap0 scope lnik", 40, &["unknown scope", "did you mean `link`?"]),
    ("ip addr add 10.0.0.3/24 brd x dev tap0", 29, &["`x` is no address", "expected `+`"]),
    ("ip addr add 10.0.0.3/24 dev tap0 peer 10.0.0.4", 34, &["`peer` means nothing here"]),
    ("ip addr replace 10.0.0.1/24 dev tun0", 33, &["there is no port `tun0`"]),
    ("ip route add 10.2.0.1/24 via 10.0.0.2", 14, &["bits beyond", "expected `10.2.0.0/24`"]),
    ("ip route add default via 10.3.0.1", 26, &["10.3.0.1 lies on no port's network"]),
    ("ip route add default via 10.0.0.1", 26, &["10.0.0.1 is an address of ours"]),
    ("ip route add fd01::/64 via 10.0.0.2", 28, &["is no IPv6 address"]),
    ("ip route add 10.2.0.0/24", 10, &["lacks `via GATEWAY`"]),
    ("ip route add 10.2.0.0/24 dev tap9", 30, &["there is no port `tap9`"]),
    ("ip route add local 10.2.0.0/24 dev tap0", 36, &["expected `dev lo`"]),
    ("ip neigh add 10.0.0.5 dev tap0", 10, &["lacks `lladdr MAC`"]),
    ("ip neigh add 10.0.0.5 lladdr x dev tap0", 30, &["`x` is no MAC address"]),
    ("ip neigh add 224.0.0.5 lladdr 2:0:0:0:0:1 dev tap0", 14, &["no address of a neighbour"]),
    ("ip route add 10.8.0.0/16 via 10.0.0.3", 14, &["exists already", "`ip route replace`"]),
    ("ip route add 10.8.0.0/16 dev tap0", 14, &["a route to 10.8.0.0/16 exists already"]),
    ("ip neigh add 10.0.0.7 lladdr 2:0:0:0:0:1 dev tap0", 14, &["exists", "`ip neigh replace`"]),
    ("ip link set dev tap0 master tap0", 29, &["`tap0` is a port, and no bridge"]),
    ("ip tuntap add dev br0 mode tap", 19, &["`br0` is a port, and no bridge that `tap0`"]),
    // Sysctls.
    ("sysctl -w net.ipv4.ip_forwrad=1", 11, &["unknown sysctl", "`net.ipv4.ip_forward`?"]),
    ("net.ipv4.vs.sloppy_tcp = 2", 26, &["illegal value `2`", "expected 0 to 1"]),
    ("net.ipv4.vs.sloppy_tcp", 1, &["missing argument", "NAME = VALUE"]),
    ("net.ipv4.vs.sync_retries = 1", 28, &["known, not honoured in this version"]),
    ("sysctl -x", 8, &["unknown option `-x`"]),
    // Letters.
    ("–C", 1, &["this is an en dash (U+2013); write `-C`"]),
    ("-A -u 10.0.0.1:80 —scheduler rr", 19, &["an em dash (U+2014); write `--scheduler`"]),
    ("ipvsadm −A -u 10.0.0.1:80", 9, &["a minus sign (U+2212); write `-A`"]),
    ("ipvsadm ‑A -u 10.0.0.1:80", 9, &["a no-break hyphen (U+2011); write `-A`"]),
    ("-A -u\u{a0}10.0.0.1:80", 6, &["a no-break space (U+00A0)"]),
    ("-A -u “10.0.0.1:80”", 7, &["a left double quotation mark (U+201C); write \""]),
    ("-A -u ‘10.0.0.1:80’", 7, &["a left single quotation mark (U+2018); write '"]),
    ("-A -u 10.0.0.1:80’", 18, &["a right single quotation mark (U+2019); write '"]),
    ("-A -f 3\r-p 30", 8, &["carriage return alone"]),
    ("-A -u '10.0.0.1:80", 7, &["this ' is not closed"]),
    ("-A -u \\ ", 7, &["a blank follows this `\\`"]),
];

#[test]
fn a_mistake_in_each_position_is_shown_where_it_is_and_says_what_would_be_right() {
    const BEFORE: &str = "ip tuntap add tap0 mode tap\nip addr add 10.0.0.1/24 dev tap0\n\
        -A -t 10.0.0.100:80 -s rr\n-a -t 10.0.0.100:80 -r 10.0.0.8\nip link set tap0 master br0\n\
        ip route add 10.8.0.0/16 via 10.0.0.2\nip neigh add 10.0.0.7 lladdr 2:0:0:0:0:7 dev tap0\n";
    let mut wrong = Vec::new();
    for &(text, column, words) in MISTAKES {
        let all = load("r", &format!("{BEFORE}{text}\n")).err().unwrap_or_default();
        let printed = all.iter().map(|c| format!("{c}\n")).collect::<String>();
        let caret = printed.lines().nth(2).and_then(|line| line.find('^'));
        let fits = all.len() == 1
            && printed.starts_with(&format!("r:8:{column}: "))
            && words.iter().all(|word| printed.contains(word))
            && caret == Some(column - 1);
        if !fits {
            wrong.push(format!("{text}\nwants column {column} and {words:?}, got\n{printed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_complaint_is_printed_with_its_line_a_caret_and_advice() {
    let printed = complaints("\n  -A -t 10.0.0.1:80 -s wcl # here\n")[0].to_string();
    let wanted = "r:2:24: unknown scheduler `wcl`\n  -A -t 10.0.0.1:80 -s wcl # here\n\
        \u{20}                      ^~~\nexpected one of rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos; did you mean `wlc`?";
    assert_eq!(printed, wanted);
}

#[test]
fn a_joined_line_is_complained_about_where_its_word_stands() {
    let complaint = &complaints("-A -t 10.0.0.1:80 \\\n   -s wcl")[0];
    assert_eq!((complaint.line, complaint.column, complaint.width), (2, 7, 3));
}

#[test]
fn every_bad_line_is_reported_in_one_go_and_what_follows_from_it_is_not() {
    let text = "\
ip tuntap add dev tap0 mode tab
ip addr add 10.0.0.1/24 dev tap0
ip route add default via 10.0.0.254
-A -t 10.0.0.100:80 -s wcl
-a -t10.0.0.100:80 -r 10.0.0.2
-a -t 10.0.0.100:80 -r 10.0.0.3 -w x
-a -t 10.0.0.101:80 -r 10.0.0.2
-a -t 10.0.0.101:80 -r 10.0.0.3
–C
";
    let lines: Vec<_> = complaints(text).iter().map(|complaint| complaint.line).collect();
    assert_eq!(lines, [1, 4, 6, 7, 8, 9]);
    let text = "ip tuntap add tap0 mode tap\nip addr add 10.0.0.1/24 dev tap-0\n\
        ip route add default via 10.0.0.254\n";
    assert_eq!(complaints(text).len(), 1);
}

#[test]
fn a_text_without_line_ends_of_ours_is_complained_about_once() {
    let mac = "ip tuntap add tap0 mode tap\r# one\r-A -t 10.0.0.1:80\r";
    let all = complaints(mac);
    assert_eq!((all.len(), all[0].line, all[0].column), (1, 1, 28));
    assert!(all[0].to_string().contains("CR LF"), "{}", all[0]);
    let config = load("r", "\u{feff}-A -t 10.0.0.1:80\r\n-A -u 10.0.0.1:53\r\n\r");
    assert_eq!(config.expect("is right").services.len(), 2);
    assert_eq!(complaints("\u{feff}hello")[0].column, 1);
}

#[test]
fn what_is_told_of_a_bad_text_has_a_limit() {
    let text: String = (0..100_000).map(|i| format!("hello-{i} 10.0.{i}.1\n")).collect();
    let all = told(&complaints(&text));
    assert_eq!(all.len(), 51);
    assert_eq!(all[50], "… and 99950 more complaints");
    assert!(all.concat().len() < 20_000);
    let word = format!("-A -t {}", "x".repeat(1 << 20));
    assert!(told(&complaints(&word)).concat().len() < 2_000);
}

#[test]
fn every_example_loads() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("the examples are there") {
        let path = entry.expect("can be listed").path();
        if path.extension().is_some_and(|extension| extension == "rules") {
            let text = std::fs::read_to_string(&path).expect("is text");
            let config = load(&path.to_string_lossy(), &text);
            let config = config.unwrap_or_else(|all| panic!("{}", all[0]));
            assert!(!config.services.is_empty(), "{}", path.display());
            assert_eq!(load("printed", &config.to_string()), Ok(config));
            seen += 1;
        }
    }
    assert!(seen >= 9, "{seen} examples");
}

#[test]
fn there_are_at_most_64_ports() {
    let ports = |count| (0..count).map(|i| format!("ip tuntap add t{i} mode tap\n"));
    assert!(load("r", &ports(64).collect::<String>()).is_ok());
    assert_eq!(complaints(&ports(65).collect::<String>())[0].line, 65);
}

#[test]
fn no_text_makes_it_panic() {
    for text in [EXAMPLE, EVERYTHING] {
        for end in 0..text.len() {
            let _ = load("r", &text[..end]).map_err(print);
        }
        let new = ['\0', '\n', ' ', '-', '\'', '"', '\\', '#', '=', '/', ':', '[', '9', 'é', '–'];
        for (i, step) in (0..text.len()).step_by(2).zip(1..) {
            let mut mutated = text.to_owned();
            let put = new[step * 7 % new.len()];
            mutated.replace_range(i..=i, put.encode_utf8(&mut [0; 4]));
            let _ = load("r", &mutated).map_err(print);
        }
    }
}

fn print(complaints: Vec<Complaint>) -> usize {
    complaints.iter().map(|complaint| complaint.to_string().len()).sum()
}

#[test]
fn mh_is_refused_to_a_service_of_more_servers_than_its_table_has_places() {
    let servers = |count: u16| -> String {
        (1..=count).map(|port| format!("-a -t 10.0.0.1:80 -r 10.0.0.2:{port} -m\n")).collect()
    };
    let edited = |count| {
        let text = format!("-A -t 10.0.0.1:80\n{}-E -t 10.0.0.1:80 -s mh\n", servers(count));
        load("r", &text)
    };
    assert!(edited(4093).is_ok());
    let complaints = edited(4094).expect_err("one too many");
    let told: String = complaints.iter().map(ToString::to_string).collect();
    assert!(told.contains("Invalid operation") && told.contains("4093"), "{told}");
    let later = format!("-A -t 10.0.0.1:80 -s mh\n{}", servers(4100));
    assert!(load("r", &later).is_ok(), "the kernel takes them, too");
}

#[test]
fn rules_that_make_marked_packets_ours_are_read_and_printed() {
    let text = "ip rule add from all fwmark 0x7/0xff lookup 100 prio 5\n\
        ip -6 rule add fwmark 7 table 100\n\
        ip route add local default dev lo table 100\n\
        ip -6 route add local ::/0 dev lo table 100\n\
        ip route add local 10.0.0.0/8 dev lo\n";
    let config = load("r", text).expect("good rules");
    let printed = config.to_string();
    assert!(printed.contains("ip rule add fwmark 0x7/0xff table 100\n"), "{printed}");
    assert!(printed.contains("ip -6 route add local ::/0 dev lo table 100\n"), "{printed}");
    assert_eq!(load("again", &printed), Ok(config));
    for (line, why) in [
        ("ip rule add table 100", "fwmark"),
        ("ip rule add fwmark 1", "table"),
        ("ip rule add fwmark x table 100", "illegal mark"),
        ("ip rule add fwmark 1 table 254", "no table of its own"),
        ("ip rule add from 10.0.0.1 table 100", "`all`"),
        ("ip rule del fwmark 1 table 100", "means nothing here"),
        ("ip route add 10.0.0.0/8 via 10.1.1.1 table 100", "only what is ours"),
        ("ip rule add fwmark 1 table 100\nip rule add fwmark 1 table 100", "exists already"),
    ] {
        let complaints = load("r", line).expect_err(line);
        let told: String = complaints.iter().map(ToString::to_string).collect();
        assert!(told.contains(why), "{line}: {told}");
    }
}

#[test]
fn a_gateway_is_not_ourselves_though_another_ports_network_holds_it() {
    let ports = "ip tuntap add dev a mode tap\nip tuntap add dev b mode tap\n\
        ip addr add 10.0.0.1/24 dev a\nip addr add 10.0.0.2/24 dev b\n\
        ip -6 addr add fe80::1/64 dev a\nip -6 addr add fe80::2/64 dev b\n";
    let route = |route: &str| load("test", &format!("{ports}ip route add {route}\n"));
    for own in ["default via 10.0.0.1", "default via 10.0.0.1 dev b", "default via fe80::1 dev a"] {
        let told = route(own).expect_err(own);
        assert!(told[0].to_string().contains("is an address of ours; a gateway is a neighbour"));
    }
    // What is ours on one wire may be another's on the other.
    assert!(route("default via fe80::1 dev b").is_ok());
    assert!(route("default via 10.0.0.3").is_ok());
}

#[test]
fn a_script_of_an_article_says_what_its_commands_say() {
    let script = "#!/bin/bash\n. /dev/null\n";
    assert!(load("r", script).is_err(), "another file is not read");
    let script = "\u{feff}#!/bin/bash\r\n\
        ip tuntap add dev eth0 mode tap\r\nip addr add 10.0.0.1/24 dev eth0\r\n\
        set -e\r\nIPVSADM=/sbin/ipvsadm\r\nVIP=10.0.0.9; export VIP\r\n\
        SERVICE=\"-t $VIP:80\"\r\nlogger \"$0 called with $1\"\r\n\
        echo 1 | sudo tee /proc/sys/net/ipv4/ip_forward >/dev/null\r\n\
        echo 'net.ipv4.vs.conn_reuse_mode = 0' >> /etc/sysctl.conf && sysctl -p\r\n\
        net.ipv4.conf.all.send_redirects = 0\r\nkernel.sysrq = 0\r\n\
        ifconfig eth0:0 $VIP broadcast $VIP netmask 255.255.255.255 up\r\n\
        iptables -F; iptables -t nat -F; iptables -P INPUT ACCEPT\r\n\
        iptables -tmangle -A PREROUTING -p udp -j MARK --set-mark=9\r\n\
        iptables -t mangle -F PREROUTING\r\n\
        iptables -t mangle -A PREROUTING -d$VIP -p tcp --dport 443 -j MARK --set-mark 1 -v\r\n\
        $IPVSADM -C 2>/dev/null || true\r\n$IPVSADM -A $SERVICE -s rr\r\n\
        [root@lvs ~]# ipvsadm -a $SERVICE -r 10.0.0.2 -g \\\r\n   -w 2\r\n\
        root@lvs:~# ipvsadm -A -f 1\r\n$IPVSADM\r\nipvsadm-save -n > /etc/rules\r\nexit 0\r\n";
    let plain = "ip tuntap add dev eth0 mode tap\nip addr add 10.0.0.1/24 dev eth0\n\
        net.ipv4.vs.conn_reuse_mode = 0\nip addr add 10.0.0.9/32 dev eth0\n\
        iptables -t mangle -A PREROUTING -d 10.0.0.9 -p tcp --dport 443 -j MARK --set-mark 1\n\
        -A -t 10.0.0.9:80 -s rr\n-a -t 10.0.0.9:80 -r 10.0.0.2 -w 2\n-A -f 1\n";
    let config = |text: &str| load("r", text).unwrap_or_else(|all| panic!("{}", all[0]));
    let read = config(script);
    assert_eq!(read, config(plain));
    assert_eq!(config(&read.to_string()), read);
}
