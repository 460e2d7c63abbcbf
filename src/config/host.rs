//! `ip` and `sysctl` lines become commands.
//!
//! Kept from iproute2: `dev` may be left out for `link set` and `tuntap add`; words come in any order.
//! Words of iproute2 that would change something we do not do are refused, never passed over.

use crate::packet::{Family, Mac};

use super::address::{address, mac, number, prefix};
use super::command::{Placed, Spots};
use super::complaint::{advice, Fault, Mistake, Span};
use super::grammar::{IpLine, Object, Word};
use super::knob::{Knob, KNOBS};
use super::{marks, Command, LinkSettings, MacvtapMode, PortKind, Prefix, RouteTarget};

/// The command of an `ip` line.
///
/// # Errors
/// Words that mean nothing here, missing and illegal values.
pub(super) fn ip(line: &IpLine<'_>) -> Result<Placed, Fault> {
    let words = Words { rest: line.args.iter(), verb: line.verb.at.clone() };
    match line.object {
        Object::Tuntap => tuntap(words),
        Object::Link if change(line) == Change::Add => link_add(words),
        Object::Link => link(words),
        Object::Address => addr(words, line.family, change(line)),
        Object::Route => route(words, line.family, change(line)),
        Object::Rule => rule(words, line.family),
        Object::Neighbour => neighbour(words, line.family, change(line) == Change::Replace),
    }
}

/// What a verb does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Replace,
    Delete,
    Set,
}

/// The verbs may be abbreviated.
fn change(line: &IpLine<'_>) -> Change {
    match line.verb.text.as_bytes() {
        [b'r', ..] => Change::Replace,
        [b'd', ..] => Change::Delete,
        [b's', ..] => Change::Set,
        _ => Change::Add,
    }
}

/// The port that a word names, perhaps by one of its aliases (`eth0:1`).
pub(super) fn port_of<'w>(word: &'w Word<'_>) -> &'w str {
    word.text.split(':').next().unwrap_or("")
}

/// The commands of a `sysctl` line, one for each pair.
///
/// # Errors
/// Unknown names, values out of range.
pub(super) fn sysctl(pairs: &[(Word<'_>, Word<'_>)]) -> Result<Vec<Placed>, Fault> {
    pairs.iter().map(|(key, value)| assignment(key, value)).collect()
}

/// The words after the verb.
pub(super) struct Words<'s, 'a> {
    pub(super) rest: std::slice::Iter<'s, Word<'a>>,
    pub(super) verb: Span,
}

impl<'s, 'a> Words<'s, 'a> {
    /// The value of `key`, which is the word after it.
    pub(super) fn value(&mut self, key: &Word<'_>, what: &str) -> Result<&'s Word<'a>, Fault> {
        self.rest.next().ok_or_else(|| {
            let mistake = Mistake::MissingArgument(key.text.to_string());
            Fault::new(key.at.clone(), mistake).expecting(format!("expected {what}"))
        })
    }

    /// Something that the line must have and has not.
    pub(super) fn needs(&self, what: &str) -> Fault {
        let mistake = Mistake::Host(format!("this line lacks {what}"));
        Fault::new(self.verb.clone(), mistake).expecting(format!("expected {what}"))
    }

    fn spots(&self, object: Span, dev: Option<Span>) -> Spots {
        Spots { object: Some(object), dev, ..Spots::at(self.verb.clone()) }
    }
}

/// A mistake at a word.
pub(super) fn host(word: &Word<'_>, why: String) -> Fault {
    Fault::new(word.at.clone(), Mistake::Host(why))
}

/// Puts a value where there must not be one yet.
pub(super) fn once<T>(slot: &mut Option<T>, value: T, word: &Word<'_>) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(host(word, format!("`{}` comes twice on this line", word.text))),
    }
}

/// A word that has no meaning for us, with the ones that have.
fn unknown(word: &Word<'_>, command: &str, allowed: &[&str]) -> Fault {
    let one_of = if allowed.len() > 1 { "one of " } else { "" };
    let what = format!("{one_of}`{}`", allowed.join("`, `"));
    // The word of `route` for what `ip route` calls `via`.
    let meant = if word.text == "gw" { "via" } else { &*word.text };
    let expected = match allowed.contains(&meant) {
        true => format!("expected `{meant}`"),
        false => advice(&what, &word.text, allowed),
    };
    host(word, format!("`{}` means nothing here in `{command}`", word.text)).expecting(expected)
}

fn tuntap(mut words: Words<'_, '_>) -> Result<Placed, Fault> {
    let (mut name, mut kind) = (None, None);
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "dev" => once(&mut name, words.value(word, "the port's name")?, word)?,
            "mode" => {
                let mode = words.value(word, "`tap` or `tun`")?;
                once(&mut kind, port_kind(mode)?, word)?;
            }
            // The device has a queue for each worker anyway, and offload where there is any.
            "multi_queue" | "vnet_hdr" => {}
            "user" | "group" | "pi" | "one_queue" => {
                return Err(unknown(word, "ip tuntap add", &["dev", "mode"]).expecting(
                    "expected no such word: tapvs opens the device itself and asks for what it can use",
                ));
            }
            _ if name.is_none() => name = Some(word),
            _ => return Err(unknown(word, "ip tuntap add", &["dev", "mode"])),
        }
    }
    let name = name.ok_or_else(|| words.needs("`dev NAME`"))?;
    let kind = kind.ok_or_else(|| words.needs("`mode tap` or `mode tun`"))?;
    let spots = words.spots(name.at.clone(), None);
    Ok(Placed { command: Command::AddPort { name: name.text.to_string(), kind }, spots })
}

fn port_kind(word: &Word<'_>) -> Result<PortKind, Fault> {
    match &*word.text {
        "tap" => Ok(PortKind::Tap),
        "tun" => Ok(PortKind::Tun),
        other => Err(host(word, format!("unknown mode `{other}`")).expecting(advice(
            "`tap` or `tun`",
            other,
            &["tap", "tun"],
        ))),
    }
}

/// A port on a real one: the only kind of device that a rules file makes besides TAP and TUN.
fn link_add(mut words: Words<'_, '_>) -> Result<Placed, Fault> {
    const KEYS: &[&str] = &["link", "name", "type macvtap", "mode"];
    let (mut lower, mut name, mut kind, mut mode) = (None, None, None, None);
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "link" => once(&mut lower, words.value(word, "the real port's name")?, word)?,
            "name" | "dev" => once(&mut name, words.value(word, "the port's name")?, word)?,
            "type" => {
                let value = words.value(word, "`macvtap`")?;
                if value.text != "macvtap" {
                    let why = format!("a port is not of type `{}`", value.text);
                    return Err(host(value, why).expecting(
                        "expected `macvtap`; TAP and TUN ports are made by `ip tuntap add`, bridges \
                         and others on the host",
                    ));
                }
                once(&mut kind, value, word)?;
            }
            "mode" => {
                let value = words.value(word, "`passthru`, `bridge`, `private` or `vepa`")?;
                once(&mut mode, macvtap_mode(value)?, word)?;
            }
            "address" | "mtu" => {
                let why = format!("`{}` has a line of its own", word.text);
                return Err(host(word, why).expecting("expected `ip link set dev NAME …`"));
            }
            _ if name.is_none() => name = Some(word),
            _ => return Err(unknown(word, "ip link add", KEYS)),
        }
    }
    let name = name.ok_or_else(|| words.needs("`name NAME`"))?;
    kind.ok_or_else(|| words.needs("`type macvtap`"))?;
    let lower = lower.ok_or_else(|| words.needs("`link DEVICE`"))?.text.to_string();
    let kind = PortKind::Macvtap { lower, mode: mode.unwrap_or_default() };
    let spots = words.spots(name.at.clone(), None);
    Ok(Placed { command: Command::AddPort { name: name.text.to_string(), kind }, spots })
}

fn macvtap_mode(word: &Word<'_>) -> Result<MacvtapMode, Fault> {
    let known = MacvtapMode::ALL.into_iter().find(|(_, name)| *name == word.text);
    known.map(|(mode, _)| mode).ok_or_else(|| {
        let names = MacvtapMode::ALL.map(|(_, name)| name);
        host(word, format!("unknown mode `{}`", word.text)).expecting(advice(
            "`passthru`, `bridge`, `private` or `vepa`",
            &word.text,
            &names,
        ))
    })
}

fn link(mut words: Words<'_, '_>) -> Result<Placed, Fault> {
    const KEYS: &[&str] = &["dev", "address", "mtu", "master", "up"];
    let mut name = None;
    let mut settings = LinkSettings::default();
    let mut object = None;
    let mut up = false;
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "dev" => once(&mut name, words.value(word, "the port's name")?, word)?,
            "address" => {
                let value = words.value(word, "a MAC address")?;
                once(&mut settings.mac, link_address(value)?, word)?;
                object = Some(value.at.clone());
            }
            "mtu" => once(&mut settings.mtu, mtu(words.value(word, "68 to 65521")?)?, word)?,
            "master" => {
                let value = words.value(word, "the bridge's name")?;
                once(&mut settings.master, value.text.to_string(), word)?;
                object = object.or_else(|| Some(value.at.clone()));
            }
            // Every port is up while we run, so this says nothing new and comes in every script.
            "up" => up = true,
            "down" | "nomaster" | "arp" | "alias" | "txqueuelen" | "promisc" | "multicast" => {
                return Err(unknown(word, "ip link set", KEYS));
            }
            _ if name.is_none() => name = Some(word),
            _ => return Err(unknown(word, "ip link set", KEYS)),
        }
    }
    let name = name.ok_or_else(|| words.needs("`dev NAME`"))?;
    if settings == LinkSettings::default() && !up {
        return Err(words.needs("`address MAC`, `mtu BYTES`, `master BRIDGE` or `up`"));
    }
    let object = object.unwrap_or_else(|| name.at.clone());
    let spots = words.spots(object, Some(name.at.clone()));
    Ok(Placed { command: Command::SetLink { name: name.text.to_string(), settings }, spots })
}

/// The MAC address of a single station.
pub(super) fn link_address(word: &Word<'_>) -> Result<Mac, Fault> {
    const FORM: &str = "expected six pairs of hexadecimal digits, as in 02:00:00:00:01:01";
    let found = mac(&word.text)
        .ok_or_else(|| host(word, format!("`{}` is no MAC address", word.text)).expecting(FORM))?;
    if found.is_group() || found == Mac::default() {
        let why = format!("`{found}` is no MAC address of a single station");
        return Err(host(word, why).expecting(
            "expected an even first pair and not only zeros; 02:… is free for local use",
        ));
    }
    Ok(found)
}

/// Bytes of an IP packet.
pub(super) fn mtu(word: &Word<'_>) -> Result<u16, Fault> {
    let found = number(&word.text, 68..=65521).and_then(|n| u16::try_from(n).ok());
    found.ok_or_else(|| {
        host(word, format!("illegal MTU `{}`", word.text)).expecting("expected 68 to 65521 bytes")
    })
}

fn addr(mut words: Words<'_, '_>, family: Option<Family>, change: Change) -> Result<Placed, Fault> {
    const KEYS: &[&str] = &["dev", "local", "brd", "scope", "label"];
    let (mut found, mut dev) = (None, None);
    while let Some(word) = words.rest.next() {
        let value = match &*word.text {
            "dev" => {
                once(&mut dev, words.value(word, "the port's name")?, word)?;
                continue;
            }
            "local" => words.value(word, "ADDRESS/LENGTH")?,
            // We send no broadcasts, choose sources by their network, and number no aliases.
            "brd" | "broadcast" => {
                broadcast(words.value(word, "`+`, `-` or an address")?, family)?;
                continue;
            }
            "scope" => {
                scope(words.value(word, "`global`, `link` or `host`")?)?;
                continue;
            }
            "label" => {
                words.value(word, "the alias")?;
                continue;
            }
            // Addresses of ours are used at once and for as long as they are there.
            "nodad" => continue,
            "valid_lft" | "preferred_lft" => {
                let value = words.value(word, "`forever`")?;
                if value.text != "forever" {
                    return Err(host(value, "an address has no end".to_owned())
                        .expecting("expected `forever`"));
                }
                continue;
            }
            _ if found.is_none() => word,
            _ => return Err(unknown(word, "ip addr add", KEYS)),
        };
        once(&mut found, (network(value, family)?, value), value)?;
    }
    let (prefix, said) = found.ok_or_else(|| words.needs("`ADDRESS/LENGTH`"))?;
    let dev = dev.ok_or_else(|| words.needs("`dev NAME`"))?;
    let spots = words.spots(said.at.clone(), Some(dev.at.clone()));
    let dev = port_of(dev).to_owned();
    let command = match change {
        Change::Delete => {
            let len = said.text.contains('/').then_some(prefix.len);
            Command::RemoveAddress { addr: prefix.addr, len, dev }
        }
        Change::Add | Change::Replace | Change::Set => {
            Command::AddAddress { prefix, dev, replace: change == Change::Replace }
        }
    };
    Ok(Placed { command, spots })
}

fn broadcast(word: &Word<'_>, family: Option<Family>) -> Result<(), Fault> {
    if matches!(&*word.text, "+" | "-") {
        return Ok(());
    }
    let fault = |why| host(word, why).expecting("expected `+`, `-` or the broadcast address");
    address(&word.text, family).map(|_| ()).map_err(fault)
}

fn scope(word: &Word<'_>) -> Result<(), Fault> {
    const NAMES: &[&str] = &["global", "site", "link", "host", "nowhere"];
    if NAMES.contains(&&*word.text) || number(&word.text, 0..=255).is_some() {
        return Ok(());
    }
    let advice = advice("`global`, `link` or `host`", &word.text, NAMES);
    Err(host(word, format!("unknown scope `{}`", word.text)).expecting(advice))
}

fn network(word: &Word<'_>, family: Option<Family>) -> Result<Prefix, Fault> {
    prefix(&word.text, family).map_err(|why| {
        let form = match family {
            Some(Family::V6) => "expected ADDRESS/LENGTH, as in fd00::1/64",
            Some(Family::V4) | None => "expected ADDRESS/LENGTH, as in 10.0.0.1/24",
        };
        host(word, why).expecting(form)
    })
}

/// What a route line says, before it is known whether it says enough.
#[derive(Default)]
struct RouteWords<'s, 'a> {
    local: bool,
    to: Option<&'s Word<'a>>,
    via: Option<&'s Word<'a>>,
    dev: Option<&'s Word<'a>>,
    table: Option<u32>,
}

/// The number of a routing table; the names are those of the kernel's own.
fn table(words: &mut Words<'_, '_>, key: &Word<'_>) -> Result<u32, Fault> {
    let word = words.value(key, "the table's number")?;
    let table = number(&word.text, 1..=i64::from(u32::MAX)).and_then(|n| u32::try_from(n).ok());
    table.filter(|table| !(253..=255).contains(table)).ok_or_else(|| {
        host(word, format!("`{}` is no table of its own", word.text))
            .expecting("expected its number, not 253, 254 or 255")
    })
}

/// `ip rule add fwmark MARK[/MASK] table N`: which packets ask a table. Priorities do not matter here,
/// since a table only says what is ours.
fn rule(mut words: Words<'_, '_>, family: Option<Family>) -> Result<Placed, Fault> {
    const KEYS: &[&str] = &["fwmark", "table", "lookup", "priority"];
    let (mut marked, mut asked) = (None, None);
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "from" | "to" => {
                let whom = words.value(word, "`all`")?;
                if whom.text != "all" {
                    return Err(unknown(whom, "ip rule add from", &["all"]));
                }
            }
            "fwmark" => once(&mut marked, words.value(word, "a firewall mark")?, word)?,
            "table" | "lookup" => once(&mut asked, table(&mut words, word)?, word)?,
            "priority" | "pref" | "prio" => drop(words.value(word, "a number")?),
            _ => return Err(unknown(word, "ip rule add", KEYS)),
        }
    }
    let marked = marked.ok_or_else(|| words.needs("`fwmark MARK`"))?;
    let table = asked.ok_or_else(|| words.needs("`table NUMBER`"))?;
    let (mark, mask) = marked.text.split_once('/').unwrap_or((&marked.text, "0xffffffff"));
    let (Some(mark), Some(mask)) = (marks::integer(mark), marks::integer(mask)) else {
        return Err(host(marked, format!("illegal mark `{}`", marked.text))
            .expecting("expected 0 to 4294967295, decimal or as in 0x10, perhaps with `/MASK`"));
    };
    let prefix = Prefix::any(family.unwrap_or(Family::V4));
    let target = RouteTarget::Rule { mark: mark & mask, mask, table };
    let spots = words.spots(marked.at.clone(), None);
    Ok(Placed { command: Command::AddRoute { prefix, target, replace: false }, spots })
}

fn route(
    mut words: Words<'_, '_>,
    family: Option<Family>,
    change: Change,
) -> Result<Placed, Fault> {
    const KEYS: &[&str] = &["local", "to", "via", "dev", "table", "default"];
    let mut said = RouteWords::default();
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "unicast" if said.to.is_none() => {}
            "local" if said.to.is_none() => said.local = true,
            "to" => once(&mut said.to, words.value(word, "a network")?, word)?,
            "dev" => once(&mut said.dev, words.value(word, "the port's name")?, word)?,
            "table" if change == Change::Add => {
                once(&mut said.table, table(&mut words, word)?, word)?;
            }
            "via" => {
                let mut value = words.value(word, "the gateway's address")?;
                if matches!(&*value.text, "inet" | "inet6") {
                    value = words.value(value, "the gateway's address")?;
                }
                once(&mut said.via, value, word)?;
            }
            // Whether the gateway is on the wire is looked at when everything was read.
            "onlink" if said.via.is_some() => {}
            // There is one route to a network, and whoever wrote it.
            "metric" | "proto" | "protocol" | "scope" => {
                words.value(word, "its value")?;
            }
            "blackhole" | "unreachable" | "prohibit" | "throw" | "broadcast" | "multicast"
            | "anycast" | "nat" => return Err(unknown(word, "ip route add", KEYS)),
            _ if said.to.is_none() => said.to = Some(word),
            _ => return Err(unknown(word, "ip route add", KEYS)),
        }
    }
    let to = said.to.ok_or_else(|| words.needs("a network or `default`"))?;
    let prefix = destination(to, said.via, family)?;
    if change == Change::Delete {
        return remove_route(&words, &said, to, prefix);
    }
    let (target, object) = route_target(&words, &said, prefix)?;
    let object = object.unwrap_or_else(|| to.at.clone());
    let network = Some(to.at.clone());
    let spots = Spots { network, ..words.spots(object, said.dev.map(|d| d.at.clone())) };
    let replace = change == Change::Replace;
    Ok(Placed { command: Command::AddRoute { prefix, target, replace }, spots })
}

fn remove_route(
    words: &Words<'_, '_>,
    said: &RouteWords<'_, '_>,
    to: &Word<'_>,
    prefix: Prefix,
) -> Result<Placed, Fault> {
    let gateway = said.via.map(|via| {
        let read = address(&via.text, Some(Family::of(prefix.addr)));
        read.map_err(|why| host(via, why).expecting("expected the gateway's address"))
    });
    let gateway = gateway.transpose()?;
    let dev = said.dev.filter(|_| !said.local);
    let spots = words.spots(to.at.clone(), dev.map(|dev| dev.at.clone()));
    let dev = dev.map(|dev| dev.text.to_string());
    Ok(Placed { command: Command::RemoveRoute { prefix, local: said.local, gateway, dev }, spots })
}

/// `default` takes its family from `-6` or the gateway.
fn destination(
    to: &Word<'_>,
    via: Option<&Word<'_>>,
    family: Option<Family>,
) -> Result<Prefix, Fault> {
    if matches!(&*to.text, "default" | "any" | "all") {
        let by_gateway = || via.and_then(|v| address(&v.text, None).ok()).map(Family::of);
        return Ok(Prefix::any(family.or_else(by_gateway).unwrap_or(Family::V4)));
    }
    let prefix = network(to, family)?;
    if prefix.network() != prefix {
        let why = format!("`{}` has bits beyond its prefix length", to.text);
        return Err(host(to, why).expecting(format!("expected `{}`", prefix.network())));
    }
    Ok(prefix)
}

fn route_target(
    words: &Words<'_, '_>,
    said: &RouteWords<'_, '_>,
    prefix: Prefix,
) -> Result<(RouteTarget, Option<Span>), Fault> {
    if said.local {
        if let Some(via) = said.via {
            return Err(host(via, "a local network has no gateway".to_owned()));
        }
        return match said.dev {
            Some(dev) if dev.text != "lo" => {
                Err(host(dev, format!("a local network is not on `{}`", dev.text))
                    .expecting("expected `dev lo`"))
            }
            Some(_) | None => {
                Ok((said.table.map_or(RouteTarget::Local, RouteTarget::LocalIn), None))
            }
        };
    }
    if said.table.is_some() {
        let why = "a table of its own says only what is ours".to_owned();
        let fault = Fault::new(words.verb.clone(), Mistake::Host(why));
        return Err(fault.expecting("expected `ip route add local NETWORK dev lo table N`"));
    }
    let dev = said.dev.map(|dev| dev.text.to_string());
    let Some(via) = said.via else {
        let dev = dev.ok_or_else(|| words.needs("`via GATEWAY` or `dev NAME`"))?;
        return Ok((RouteTarget::Dev(dev), None));
    };
    let family = Some(Family::of(prefix.addr));
    let gateway = address(&via.text, family).map_err(|why| {
        host(via, why).expecting("expected the gateway's address, of the network's family")
    })?;
    Ok((RouteTarget::Via { gateway, dev }, Some(via.at.clone())))
}

fn neighbour(
    mut words: Words<'_, '_>,
    family: Option<Family>,
    replace: bool,
) -> Result<Placed, Fault> {
    const KEYS: &[&str] = &["to", "lladdr", "dev", "nud"];
    let (mut to, mut lladdr, mut dev) = (None, None, None);
    while let Some(word) = words.rest.next() {
        match &*word.text {
            "to" => once(&mut to, words.value(word, "the neighbour's address")?, word)?,
            "lladdr" => once(&mut lladdr, words.value(word, "a MAC address")?, word)?,
            "dev" => once(&mut dev, words.value(word, "the port's name")?, word)?,
            "nud" => {
                let state = words.value(word, "`permanent`")?;
                if state.text != "permanent" {
                    return Err(unknown(state, "ip neigh add … nud", &["permanent"]));
                }
            }
            _ if to.is_none() => to = Some(word),
            _ => return Err(unknown(word, "ip neigh add", KEYS)),
        }
    }
    let to = to.ok_or_else(|| words.needs("the neighbour's address"))?;
    let lladdr = lladdr.ok_or_else(|| words.needs("`lladdr MAC`"))?;
    let dev = dev.ok_or_else(|| words.needs("`dev NAME`"))?;
    let addr = address(&to.text, family)
        .map_err(|why| host(to, why).expecting("expected the neighbour's address"))?;
    let mac = link_address(lladdr)?;
    let spots = words.spots(to.at.clone(), Some(dev.at.clone()));
    let dev = dev.text.to_string();
    Ok(Placed { command: Command::AddNeighbour { addr, mac, dev, replace }, spots })
}

fn assignment(key: &Word<'_>, value: &Word<'_>) -> Result<Placed, Fault> {
    let knob = Knob::named(&key.text).ok_or_else(|| unknown_knob(key))?;
    let info = knob.info();
    // This one has two values; the kernel prints and takes them with any blank between.
    let mut text = value.text.split_whitespace();
    let first = text.next().unwrap_or("");
    let pair = info.name == "net.ipv4.vs.sync_threshold";
    let rest: Vec<_> = text.collect();
    let found = number(first, info.min..=info.max);
    match found {
        Some(value_read) if rest.is_empty() || (pair && rest == ["50"]) => Ok(Placed {
            command: Command::SetKnob { knob, value: value_read },
            spots: Spots { object: Some(value.at.clone()), ..Spots::at(key.at.clone()) },
        }),
        Some(_) | None => Err(host(value, format!("illegal value `{}`", value.text)).expecting(
            format!("expected {} to {} for {}: {}", info.min, info.max, info.name, info.sentence),
        )),
    }
}

fn unknown_knob(key: &Word<'_>) -> Fault {
    let name = key.text.replace('/', ".");
    let names: Vec<_> = KNOBS.iter().map(|info| info.name).collect();
    let what = "net.ipv4.ip_forward, net.ipv6.conf.all.forwarding or net.ipv4.vs.…";
    host(key, format!("unknown sysctl `{}`", key.text)).expecting(advice(what, &name, &names))
}
