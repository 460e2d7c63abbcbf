//! `ifconfig` and `route` lines become commands.
//!
//! Kept from net-tools: an alias (`eth0:1`) adds an address to its port; without `netmask` the mask is
//! that of the address's class; `dev` may be left out before the port of a route. Left out on purpose:
//! that `ifconfig` without an alias takes the old address away: it is refused where there is one.

use std::net::{IpAddr, Ipv4Addr};

use super::address::{address, inet_aton, prefix};
use super::command::{Placed, Spots};
use super::complaint::{advice, Fault};
use super::grammar::Word;
use super::host::{host, link_address, mtu, once, port_of, Words};
use super::{Command, LinkSettings, PortKind, Prefix, RouteTarget};
use crate::packet::Family;

/// The commands of a line of `ifconfig` or `route`; `program` is the first word.
///
/// # Errors
/// Words that mean nothing here, missing and illegal values.
pub(super) fn nettools(program: &Word<'_>, words: &[Word<'_>]) -> Result<Vec<Placed>, Fault> {
    let line = Words { rest: words.iter(), verb: program.at.clone() };
    match program.text.rsplit('/').next().unwrap_or("") {
        "route" => route(line).map(|placed| vec![placed]),
        "arp" => arp(line).map(|placed| vec![placed]),
        "brctl" => brctl(line).map(|placed| vec![placed]),
        "tunctl" => tunctl(line).map(|placed| vec![placed]),
        _ => ifconfig(line),
    }
}

/// `tunctl [-n | -p] -t PORT`: TAP, or with `-n` TUN.
fn tunctl(mut words: Words<'_, '_>) -> Result<Placed, Fault> {
    let (mut name, mut kind) = (None, PortKind::Tap);
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "-t" => once(&mut name, words.value(word, "the port's name")?, word)?,
            "-n" => kind = PortKind::Tun,
            "-p" => kind = PortKind::Tap,
            _ => return Err(unknown(word, "tunctl", &["-t", "-n", "-p"])),
        }
    }
    let name = name.ok_or_else(|| words.needs("`-t PORT`"))?;
    let spots = Spots { object: Some(name.at.clone()), ..Spots::at(words.verb.clone()) };
    Ok(Placed { command: Command::AddPort { name: name.text.to_string(), kind }, spots })
}

/// `arp -i PORT -s ADDRESS MAC`.
fn arp(mut words: Words<'_, '_>) -> Result<Placed, Fault> {
    let (mut to, mut dev) = (None, None);
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "-i" | "--device" => once(&mut dev, words.value(word, "the port's name")?, word)?,
            "-s" | "--set" => {
                let addr = words.value(word, "the neighbour's address")?;
                once(&mut to, (addr, words.value(addr, "its MAC address")?), word)?;
            }
            _ => return Err(unknown(word, "arp", &["-i", "-s"])),
        }
    }
    let (to, lladdr) = to.ok_or_else(|| words.needs("`-s ADDRESS MAC`"))?;
    let dev = dev.ok_or_else(|| words.needs("`-i PORT`, the wire that the neighbour is on"))?;
    let addr = address(&to.text, Some(Family::V4)).map_err(|why| host(to, why))?;
    let mac = link_address(lladdr)?;
    let (object, at) = (Some(to.at.clone()), Some(dev.at.clone()));
    let command = Command::AddNeighbour { addr, mac, dev: port_of(dev).to_owned(), replace: true };
    Ok(Placed { command, spots: Spots { object, dev: at, ..Spots::at(words.verb.clone()) } })
}

/// `brctl addif BRIDGE PORT`.
fn brctl(mut words: Words<'_, '_>) -> Result<Placed, Fault> {
    let adds = words.rest.next().ok_or_else(|| words.needs("`addif BRIDGE PORT`"))?;
    if adds.text != "addif" {
        return Err(unknown(adds, "brctl", &["addif"]));
    }
    let bridge = words.value(adds, "the bridge's name")?;
    let port = words.value(bridge, "the port's name")?;
    if let Some(more) = words.rest.next() {
        return Err(host(more, "one port a line".to_owned()));
    }
    let master = Some(bridge.text.to_string());
    let settings = LinkSettings { master, ..LinkSettings::default() };
    let command = Command::SetLink { name: port.text.to_string(), settings };
    let dev = Some(port.at.clone());
    let object = Some(bridge.at.clone());
    Ok(Placed { command, spots: Spots { object, dev, ..Spots::at(words.verb.clone()) } })
}

fn unknown(word: &Word<'_>, command: &str, allowed: &[&str]) -> Fault {
    let what = format!("one of `{}`", allowed.join("`, `"));
    host(word, format!("`{}` means nothing here in `{command}`", word.text))
        .expecting(advice(&what, &word.text, allowed))
}

fn ifconfig(mut words: Words<'_, '_>) -> Result<Vec<Placed>, Fault> {
    const KEYS: &[&str] = &["netmask", "broadcast", "mtu", "hw", "up", "inet", "inet6", "add"];
    let port = words.rest.next().ok_or_else(|| words.needs("the port's name"))?;
    let (mut own, mut mask, mut adds) = (None, None, port.text.contains(':'));
    let mut settings = LinkSettings::default();
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "up" | "inet" | "inet6" => {}
            "add" => adds = true,
            "netmask" => once(&mut mask, words.value(word, "a mask")?, word)?,
            // We send no broadcasts.
            "broadcast" => {
                let value = words.value(word, "the broadcast address")?;
                address(&value.text, Some(Family::V4)).map_err(|why| host(value, why))?;
            }
            "mtu" => once(&mut settings.mtu, mtu(words.value(word, "68 to 65521")?)?, word)?,
            "hw" => {
                let class = words.value(word, "`ether MAC`")?;
                if class.text != "ether" {
                    return Err(unknown(class, "ifconfig … hw", &["ether"]));
                }
                let value = words.value(class, "a MAC address")?;
                once(&mut settings.mac, link_address(value)?, word)?;
            }
            text if own.is_none() && text.contains(['.', ':']) => own = Some(word),
            _ => return Err(unknown(word, "ifconfig", KEYS)),
        }
    }
    let name = port_of(port).to_owned();
    let spots = |at: &Word<'_>| Spots {
        object: Some(at.at.clone()),
        dev: Some(port.at.clone()),
        ..Spots::at(words.verb.clone())
    };
    let mut all = Vec::new();
    if settings != LinkSettings::default() || own.is_none() {
        let command = Command::SetLink { name: name.clone(), settings };
        all.push(Placed { command, spots: spots(port) });
    }
    if let Some(own) = own {
        let prefix = own_prefix(own, mask)?;
        adds |= prefix.addr.is_ipv6();
        let command = if adds {
            Command::AddAddress { prefix, dev: name, replace: false }
        } else {
            Command::SetAddress { prefix, dev: name }
        };
        all.push(Placed { command, spots: spots(own) });
    }
    Ok(all)
}

fn own_prefix(own: &Word<'_>, mask: Option<&Word<'_>>) -> Result<Prefix, Fault> {
    let read = prefix(&own.text, None).map_err(|why| host(own, why))?;
    match (mask, read.addr) {
        (Some(mask), _) => Ok(Prefix { addr: read.addr, len: mask_bits(mask)? }),
        (None, IpAddr::V4(addr)) if !own.text.contains('/') => {
            Ok(Prefix { addr: read.addr, len: class_bits(addr) })
        }
        (None, _) => Ok(read),
    }
}

/// RFC 791, section 3.2.
const fn class_bits(addr: Ipv4Addr) -> u8 {
    match addr.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

fn mask_bits(word: &Word<'_>) -> Result<u8, Fault> {
    let found = inet_aton(&word.text).map(u32::from);
    let bits = found.filter(|mask| mask.leading_ones() == mask.count_ones());
    bits.and_then(|mask| u8::try_from(mask.leading_ones()).ok()).ok_or_else(|| {
        host(word, format!("`{}` is no mask of a network", word.text))
            .expecting("expected a mask as in 255.255.255.0")
    })
}

fn route(mut words: Words<'_, '_>) -> Result<Placed, Fault> {
    const KEYS: &[&str] = &["-net", "-host", "netmask", "gw", "dev"];
    let (mut to, mut mask, mut gateway, mut dev, mut verb) = (None, None, None, None, None);
    let mut family = None;
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "add" | "del" | "delete" if verb.is_none() => verb = Some(word),
            "-net" | "-host" if to.is_none() => {}
            "-4" | "--inet" => once(&mut family, Family::V4, word)?,
            "-6" | "--inet6" => once(&mut family, Family::V6, word)?,
            "-A" => {
                let value = words.value(word, "`inet` or `inet6`")?;
                let read = match &*value.text {
                    "inet" => Family::V4,
                    "inet6" => Family::V6,
                    _ => return Err(unknown(value, "route -A", &["inet", "inet6"])),
                };
                once(&mut family, read, word)?;
            }
            "netmask" => once(&mut mask, words.value(word, "a mask")?, word)?,
            // There is one route to a network.
            "metric" => {
                words.value(word, "a number")?;
            }
            "gw" => once(&mut gateway, words.value(word, "the gateway's address")?, word)?,
            "dev" => once(&mut dev, words.value(word, "the port's name")?, word)?,
            text if text.starts_with('-') => return Err(unknown(word, "route", KEYS)),
            _ if verb.is_none() => return Err(unknown(word, "route", &["add", "del"])),
            _ if to.is_none() => to = Some(word),
            // The port may stand at the end without its `dev`; a slip of the pen may not.
            _ if dev.is_none() && words.rest.len() == 0 && is_port(&word.text) => dev = Some(word),
            text if gateway.is_none() && text.parse::<IpAddr>().is_ok() => {
                let why = "a router stands behind `gw`".to_owned();
                return Err(host(word, why).expecting(format!("expected `gw {text}`")));
            }
            _ => return Err(unknown(word, "route", KEYS)),
        }
    }
    let verb = verb.ok_or_else(|| words.needs("`add` or `del`"))?;
    let to = to.ok_or_else(|| words.needs("a network, a host or `default`"))?;
    let prefix = destination(to, mask, family)?;
    let via = gateway.map(|word| {
        let read = address(&word.text, Some(Family::of(prefix.addr)));
        read.map_err(|why| host(word, why).expecting("expected the gateway's address"))
    });
    let via = via.transpose()?;
    let spots = Spots {
        object: Some(gateway.unwrap_or(to).at.clone()),
        network: Some(to.at.clone()),
        dev: dev.map(|dev| dev.at.clone()),
        ..Spots::at(verb.at.clone())
    };
    let dev = dev.map(|dev| port_of(dev).to_owned());
    if verb.text.starts_with('d') {
        let command = Command::RemoveRoute { prefix, local: false, gateway: via, dev };
        return Ok(Placed { command, spots });
    }
    let target = match (via, dev) {
        (Some(gateway), dev) => RouteTarget::Via { gateway, dev },
        (None, Some(dev)) => RouteTarget::Dev(dev),
        (None, None) => return Err(words.needs("`gw GATEWAY` or `dev NAME`")),
    };
    Ok(Placed { command: Command::AddRoute { prefix, target, replace: false }, spots })
}

/// Whether the last word of a route may name its port: a slip of the pen for `dev`, what else may end
/// a route, and addresses do not.
fn is_port(text: &str) -> bool {
    !text.starts_with("dev") && text != "reject" && text.parse::<IpAddr>().is_err()
}

fn destination(
    to: &Word<'_>,
    mask: Option<&Word<'_>>,
    family: Option<Family>,
) -> Result<Prefix, Fault> {
    if to.text == "default" {
        return Ok(Prefix::any(family.unwrap_or(Family::V4)));
    }
    let mut found = prefix(&to.text, family).map_err(|why| host(to, why))?;
    if let Some(mask) = mask {
        found.len = mask_bits(mask)?;
    }
    if found.network() != found {
        let why = format!("`{}` has bits beyond its mask", to.text);
        return Err(host(to, why).expecting(format!("expected `{}`", found.network())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::rules::load;

    const PORTS: &str = "ip tuntap add eth0 mode tap\nip tuntap add eth1 mode tap\n";

    fn same(old: &str, new: &str) {
        let config = |text: &str| load("r", &format!("{PORTS}{text}\n"));
        let old_tools = config(old).unwrap_or_else(|all| panic!("{}", all[0]));
        assert_eq!(Ok(old_tools), config(new), "{old}");
    }

    #[test]
    fn the_old_tools_mean_what_the_new_ones_say() {
        same(
            "ifconfig eth0 10.0.0.1 netmask 255.255.255.0 broadcast 10.0.0.255 up",
            "ip addr add 10.0.0.1/24 dev eth0",
        );
        same("ifconfig eth0 10.1.0.1 up", "ip addr add 10.1.0.1/8 dev eth0");
        same("ifconfig eth0 up", "");
        same("brctl addif br0 eth0", "ip link set dev eth0 master br0");
        same("ifconfig eth0:1 10.0.0.9 netmask 0xffffff00", "ip addr add 10.0.0.9/24 dev eth0");
        same("route add -net 10/8 dev eth0", "ip route add 10.0.0.0/8 dev eth0");
        same(
            "ifconfig eth0 mtu 900 hw ether 02:00:00:00:00:01",
            "ip link set eth0 mtu 900 address 02:00:00:00:00:01",
        );
        same(
            "ifconfig eth0 10.0.0.1 netmask 255.255.255.0\nifconfig eth0:1 10.0.0.9 netmask \
             255.255.255.255 up\nroute add default gw 10.0.0.254\n\
             route add -net 10.5.0.0 netmask 255.255.0.0 gw 10.0.0.253 eth0:1\n\
             route add -host 10.6.0.1 dev eth1\nroute add -net 10.7.0.0/16 eth1",
            "ip addr add 10.0.0.1/24 dev eth0\nip addr add 10.0.0.9/32 dev eth0\n\
             ip route add default via 10.0.0.254\nip route add 10.5.0.0/16 via 10.0.0.253 dev eth0\n\
             ip route add 10.6.0.1 dev eth1\nip route add 10.7.0.0/16 dev eth1",
        );
        same(
            "ip addr add 10.0.0.1/24 dev eth0\nip addr add 10.0.0.2/24 dev eth0\n\
             ip addr del 10.0.0.2 dev eth0:0\nroute add default gw 10.0.0.254\n\
             route del default gw 10.0.0.254\nip route add 10.6.0.0/16 dev eth1\n\
             ip route del 10.6.0.0/16",
            "ip addr add 10.0.0.1/24 dev eth0",
        );
        same(
            "tunctl -t tap9\ntunctl -n -t tun9",
            "ip tuntap add tap9 mode tap\nip tuntap add tun9 mode tun",
        );
        same(
            "ifconfig eth0 10.0.0.1/24\narp -i eth0 -s 10.0.0.2 02:00:00:00:00:02",
            "ip addr add 10.0.0.1/24 dev eth0\nip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0",
        );
        same(
            "ifconfig eth0 inet6 add fd00::1/64\nroute -A inet6 add default gw fd00::fe\nroute --inet6 add fd01::/16 eth0",
            "ip addr add fd00::1/64 dev eth0\nip route add default via fd00::fe\nip route add fd01::/16 dev eth0",
        );
        same("modprobe ip_vs_ftp\nrmmod ip_vs_ftp", "");
        same("-net.ipv4.conf.all.forwarding = 0\n; said twice", "net.ipv4.ip_forward = 0");
        same("echo 0 | sudo tee /proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward = 0");
        same("echo 0 >/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward = 0");
        same("$ sudo echo \"0\" > /proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward = 0");
    }
}
