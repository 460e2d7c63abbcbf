//! A picture as JSON, in the form that `docs/json.md` describes.
//!
//! What is there may gain members; a member that changes its meaning or goes counts [`SCHEMA`] up.
//! Left out on purpose: reading JSON.

use std::fmt::Write;

use super::show::{flag_names, mask, scheduler_name};
use super::snapshot::{ConnView, DestView, ServiceView, Snapshot, Total};
use super::status::{Frames, Lost, Status, Vain, LISTED_MAX};
use crate::config::complaint::Remark;
use crate::config::tool::What;
use crate::config::{Method, ServiceKey, SyncDaemon, TunnelChecksum, TunnelType};
use crate::director::stats::Counts;
use crate::packet::{proto, Endpoint, Family};

/// The version of the form.
pub const SCHEMA: u32 = 1;

/// What `--json` prints for a listing.
pub fn listing(picture: &Snapshot, what: What) -> String {
    match what {
        What::All | What::Service(_) => {
            document(&mut |json| json.list("services", &picture.services, service))
        }
        What::Connections { .. } => {
            document(&mut |json| json.list("connections", &picture.conns, connection))
        }
        What::Timeouts => document(&mut |json| {
            json.object("timeouts", &mut |json| {
                json.number("tcp", picture.timeouts.tcp);
                json.number("tcp_fin", picture.timeouts.tcp_fin);
                json.number("udp", picture.timeouts.udp);
            });
        }),
        What::Daemons => document(&mut |json| json.list("daemons", &picture.daemons, daemon)),
    }
}

/// The counters of the whole.
pub fn total(total: &Total) -> String {
    document(&mut |json| {
        json.object("total", &mut |json| {
            json.object("live", &mut |json| counts(json, total.live));
            json.object("stats", &mut |json| counts(json, total.counts));
            json.object("rates", &mut |json| counts(json, total.rates));
        });
    })
}

/// What `tapvs status --json` prints.
pub fn status(status: &Status) -> String {
    let Frames { received, forwarded, answered, dropped, waiting, own_sent, own_lost } =
        status.frames;
    document(&mut |json| {
        json.object("frames", &mut |json| {
            json.number("received", received);
            json.number("forwarded", forwarded);
            json.number("answered", answered);
            json.number("dropped", dropped);
            json.number("waiting", waiting);
            json.number("own_sent", own_sent);
            json.number("own_lost", own_lost);
        });
        json.list("drops", &status.drops, |json, (reason, packets)| {
            json.text("reason", reason.name());
            json.number("packets", *packets);
            json.text("meaning", reason.sentence());
        });
        json.number("errors_limited", status.errors_limited);
        json.number("conflicts", status.conflicts);
        json.list("disputed", &status.disputed, |json, disputed| {
            json.text("address", &disputed.address.to_string());
            json.text("mac", &disputed.by.to_string());
            json.text("port", &disputed.port);
            json.number("seconds", disputed.ago_s);
            json.text("message", &disputed.to_string());
        });
        json.list("ports", &status.ports, |json, trouble| {
            json.text("port", &trouble.port);
            trouble_is(json, trouble.code, &trouble.text);
        });
        json.list("unreached", &status.lost[..status.lost.len().min(LISTED_MAX)], unreached);
        let vain = &status.vain[..status.vain.len().min(LISTED_MAX)];
        json.list("unestablished", vain, unestablished);
        json.flag("more", status.has_more());
    })
}

/// What `tapvs check --json` prints.
pub fn remarks(file: &str, remarks: &[Remark]) -> String {
    document(&mut |json| {
        json.text("file", file);
        json.list("remarks", remarks, |json, remark| {
            let place = [
                ("line", remark.line),
                ("column", remark.at.map(|(column, _)| column)),
                ("width", remark.at.map(|(_, width)| width)),
            ];
            for (name, place) in place {
                match place {
                    Some(place) => json.number(name, place as u64),
                    None => json.null(name),
                }
            }
            json.text("severity", remark.severity.name());
            trouble_is(json, remark.code, &remark.message);
            match &remark.cure {
                Some(cure) => json.text("cure", cure),
                None => json.null("cure"),
            }
        });
    })
}

fn unreached(json: &mut Json, lost: &Lost) {
    match lost.server {
        Some(server) => json.text("server", &server.to_string()),
        None => json.null("server"),
    }
    match &lost.hop {
        Some(hop) => {
            json.text("next", &hop.next.to_string());
            json.text("port", &hop.port);
        }
        None => {
            json.null("next");
            json.null("port");
        }
    }
    trouble_is(json, lost.code(), &lost.to_string());
}

fn unestablished(json: &mut Json, vain: &Vain) {
    json.text("service", &vain.service.to_string());
    endpoint(json, vain.server);
    json.text("method", method(vain.method));
    json.number("connections", vain.tried);
    json.number("seconds", vain.for_s);
    json.flag("silent", vain.silent);
    json.text("message", &vain.to_string());
}

fn trouble_is(json: &mut Json, code: &str, message: &str) {
    json.text("code", code);
    json.text("message", message);
}

fn document(members: Members<'_>) -> String {
    let mut json = Json { out: "{".to_owned(), first: true };
    json.number("schema", SCHEMA);
    members(&mut json);
    json.out.push_str("}\n");
    json.out
}

fn service(json: &mut Json, service: &ServiceView) {
    let spec = &service.spec;
    match spec.key {
        ServiceKey::Address { proto, virt } => {
            json.text("protocol", protocol(proto));
            endpoint(json, virt);
            json.null("fwmark");
        }
        ServiceKey::Mark { mark, .. } => {
            json.null("protocol");
            json.null("address");
            json.null("port");
            json.number("fwmark", mark);
        }
    }
    let family = match spec.key.family() {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    json.text("family", family);
    json.text("scheduler", scheduler_name(spec));
    let names = flag_names(spec);
    let flags: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
    json.values("flags", &flags);
    match spec.persistent_s {
        Some(seconds) => json.number("persistent", seconds),
        None => json.null("persistent"),
    }
    match mask(spec) {
        Some(mask) => json.text("netmask", &mask),
        None => json.null("netmask"),
    }
    json.flag("one_packet", spec.one_packet);
    match spec.sip {
        true => json.text("pe", "sip"),
        false => json.null("pe"),
    }
    json.object("stats", &mut |json| counts(json, service.counts));
    json.object("rates", &mut |json| counts(json, service.rates));
    json.list("servers", &service.dests, server);
}

fn server(json: &mut Json, dest: &DestView) {
    let spec = &dest.spec;
    endpoint(json, spec.dest);
    json.text("method", method(spec.method));
    match (spec.method, spec.tunnel) {
        (Method::Masq | Method::Route, _) => json.null("tunnel"),
        (Method::Tunnel, tunnel) => json.object("tunnel", &mut |json| tunnel_members(json, tunnel)),
    }
    json.number("weight", spec.weight);
    json.number("upper_threshold", spec.upper);
    json.number("lower_threshold", spec.lower);
    json.number("active", dest.active);
    json.number("inactive", dest.inactive);
    json.number("persistent", dest.persistent);
    json.object("stats", &mut |json| counts(json, dest.counts));
    json.object("rates", &mut |json| counts(json, dest.rates));
}

fn tunnel_members(json: &mut Json, tunnel: TunnelType) {
    let checksum = |checksum| match checksum {
        TunnelChecksum::None => "none",
        TunnelChecksum::Full => "full",
        TunnelChecksum::Remote => "remote",
    };
    match tunnel {
        TunnelType::Ipip => json.text("type", "ipip"),
        TunnelType::Gue { port, checksum: c } => {
            json.text("type", "gue");
            json.number("port", port);
            json.text("checksum", checksum(c));
        }
        TunnelType::Gre { checksum: c } => {
            json.text("type", "gre");
            json.text("checksum", checksum(c));
        }
    }
}

fn connection(json: &mut Json, conn: &ConnView) {
    json.text("protocol", protocol(conn.proto));
    json.number("protocol_number", conn.proto);
    json.text("state", &conn.state);
    json.number("expires", conn.expires_s);
    json.flag("template", conn.template);
    if let Some(call) = &conn.call {
        json.text("call_id", call);
    }
    json.object("client", &mut |json| endpoint(json, conn.client));
    json.object("virtual", &mut |json| endpoint(json, conn.virt));
    json.object("server", &mut |json| endpoint(json, conn.dest));
}

fn daemon(json: &mut Json, daemon: &SyncDaemon) {
    json.text("role", daemon.role.name());
    json.text("interface", &daemon.interface);
    json.number("syncid", daemon.syncid);
    json.number("maxlen", daemon.maxlen);
    json.text("group", &daemon.group.to_string());
    json.number("port", daemon.port);
    json.number("ttl", daemon.ttl);
}

fn counts(json: &mut Json, counts: Counts) {
    json.number("connections", counts.conns);
    json.number("in_packets", counts.in_packets);
    json.number("out_packets", counts.out_packets);
    json.number("in_bytes", counts.in_bytes);
    json.number("out_bytes", counts.out_bytes);
}

fn endpoint(json: &mut Json, at: Endpoint) {
    json.text("address", &at.addr.to_string());
    json.number("port", at.port);
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Masq => "masq",
        Method::Tunnel => "tunnel",
        Method::Route => "route",
    }
}

const fn protocol(number: u8) -> &'static str {
    match number {
        proto::TCP => "tcp",
        proto::UDP => "udp",
        proto::SCTP => "sctp",
        0 => "ip",
        _ => "other",
    }
}

/// What writes the members of an object: one code for all brackets, since nobody waits for this.
type Members<'a> = &'a mut dyn FnMut(&mut Json);

/// An object that is being written.
struct Json {
    out: String,
    /// Nothing has been written into the innermost bracket.
    first: bool,
}

impl Json {
    fn name(&mut self, name: &str) {
        self.comma();
        self.quote(name);
        self.out.push(':');
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
    }

    fn number(&mut self, name: &str, value: impl Into<u64>) {
        self.name(name);
        let _ = write!(self.out, "{}", value.into());
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quote(value);
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.push_str(if value { "true" } else { "false" });
    }

    fn null(&mut self, name: &str) {
        self.name(name);
        self.out.push_str("null");
    }

    fn object(&mut self, name: &str, members: Members<'_>) {
        self.name(name);
        self.braces(members);
    }

    fn list<T>(&mut self, name: &str, items: &[T], members: fn(&mut Self, &T)) {
        self.items(name, items.len(), &mut |json, at| {
            json.braces(&mut |json| members(json, &items[at]));
        });
    }

    fn items(&mut self, name: &str, count: usize, item: &mut dyn FnMut(&mut Self, usize)) {
        self.name(name);
        self.out.push('[');
        self.first = true;
        for at in 0..count {
            self.comma();
            item(self, at);
        }
        self.out.push(']');
        self.first = false;
    }

    fn values(&mut self, name: &str, values: &[&str]) {
        self.items(name, values.len(), &mut |json, at| json.quote(values[at]));
    }

    fn braces(&mut self, members: Members<'_>) {
        self.out.push('{');
        self.first = true;
        members(self);
        self.out.push('}');
        self.first = false;
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c if c.is_control() => {
                    let _ = write!(self.out, "\\u{:04x}", c as u32);
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::complaint::Severity;
    use crate::control::snapshot::tests::some_snapshot;
    use crate::control::status::tests::some_status;
    use crate::world::Rng;

    /// Takes one JSON value off the front of `text`: what is left.
    fn value(text: &str) -> Option<&str> {
        let items = |mut rest: &'_ str, end: char, named: bool| -> Option<usize> {
            let start = rest.len();
            if let Some(after) = rest.strip_prefix(end) {
                return Some(start - after.len());
            }
            loop {
                if named {
                    rest = value(rest.starts_with('"').then_some(rest)?)?.strip_prefix(':')?;
                }
                rest = value(rest)?;
                match rest.strip_prefix(',') {
                    Some(after) => rest = after,
                    None => return Some(start - rest.strip_prefix(end)?.len()),
                }
            }
        };
        match text.chars().next()? {
            '{' => Some(&text[1 + items(&text[1..], '}', true)?..]),
            '[' => Some(&text[1 + items(&text[1..], ']', false)?..]),
            '"' => {
                let end = text[1..].find('"')?;
                Some(&text[end + 2..])
            }
            _ => {
                let end = text.find([',', '}', ']'])?;
                let word = &text[..end];
                let known = matches!(word, "true" | "false" | "null");
                (known || word.parse::<u64>().is_ok()).then_some(&text[end..])
            }
        }
    }

    #[test]
    fn every_picture_is_well_formed() {
        let mut rng = Rng::new(3);
        let everything =
            [What::All, What::Connections { engine: false }, What::Timeouts, What::Daemons];
        for _ in 0..50 {
            let picture = some_snapshot(&mut rng);
            for what in everything {
                let text = listing(&picture, what);
                assert_eq!(value(&text), Some("\n"), "{text}");
            }
            assert_eq!(value(&total(&picture.total)), Some("\n"));
        }
        assert_eq!(value(&status(&some_status())), Some("\n"));
        let remark = Remark {
            line: Some(7),
            at: None,
            severity: Severity::Warning,
            code: "far-direct",
            message: "it is \"far\"".to_owned(),
            cure: None,
        };
        let text = remarks("a file", &[remark.clone(), Remark { at: Some((2, 3)), ..remark }]);
        assert_eq!(value(&text.replace("\\\"", "")), Some("\n"), "{text}");
    }

    #[test]
    fn a_status_has_what_its_lines_have() {
        let text = status(&some_status());
        for part in [
            r#"{"schema":1,"frames":{"received":10,"forwarded":4,"answered":3,"dropped":2,"waiting":1,"own_sent":5,"own_lost":1}"#,
            r#""drops":[{"reason":"martian","packets":2,"meaning":"#,
            r#""errors_limited":3,"conflicts":4,"disputed":[{"address":"10.0.0.100","mac":"02:00:00:00:00:09","port":"tap0","seconds":6,"#,
            r#""ports":[{"port":"tap1","code":"down","message":"port tap1 is down"}]"#,
            r#""unreached":[{"server":"10.0.0.2","next":null,"port":null,"code":"no-route","#,
            r#"{"server":null,"next":"10.0.0.253","port":"tap0","code":"no-answer","#,
            r#"{"service":"-t 10.0.0.100:80","address":"10.0.0.5","port":8080,"method":"masq","connections":7,"seconds":20,"silent":true,"#,
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.ends_with("\"more\":false}\n"), "{text}");
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let picture = Snapshot::default();
        assert_eq!(listing(&picture, What::All), "{\"schema\":1,\"services\":[]}\n");
        assert_eq!(
            listing(&picture, What::Timeouts),
            "{\"schema\":1,\"timeouts\":{\"tcp\":900,\"tcp_fin\":120,\"udp\":300}}\n"
        );
        let mut json = Json { out: String::new(), first: true };
        json.text("a\"b", "c\\d\n");
        assert_eq!(json.out, "\"a\\\"b\":\"c\\\\d\\u000a\"");
    }
}
