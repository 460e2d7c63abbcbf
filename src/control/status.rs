//! What `tapvs status` tells: what became of every frame, and what stands in the way of the next ones.
//!
//! The account is the engine's; what is wrong with the devices, their holder adds. Everything is typed here
//! and becomes words here, or JSON next door, so that both say the same.
//!
//! Left out on purpose: guesses. Each line is something that was seen, with the cure where there is one.

use std::fmt;
use std::net::IpAddr;

use crate::config::{Method, ServiceKey};
use crate::packet::{DropReason, Endpoint, Mac};

/// Lines about servers of each kind; of the others it is only told that there are some.
pub const LISTED_MAX: usize = 32;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The account of frames.
    pub frames: Frames,
    /// Why packets were dropped, and how many.
    pub drops: Vec<(DropReason, u64)>,
    /// ICMP errors that were not sent, since their rate is limited.
    pub errors_limited: u64,
    /// How often another station claimed an address of ours.
    pub conflicts: u64,
    /// Who did so lately.
    pub disputed: Vec<Disputed>,
    /// What is wrong with devices.
    pub ports: Vec<Trouble>,
    /// Servers and routers that cannot be sent to, one more than [`LISTED_MAX`] at most.
    pub lost: Vec<Lost>,
    /// Servers to which connections go in vain, one more than [`LISTED_MAX`] at most.
    pub vain: Vec<Vain>,
}

/// What became of every received frame, and what we sent ourselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frames {
    /// Frames received: the sum of the next four.
    pub received: u64,
    /// Sent on.
    pub forwarded: u64,
    /// Answered by us.
    pub answered: u64,
    /// Dropped under a name.
    pub dropped: u64,
    /// Waiting for a neighbour, or for their other fragments.
    pub waiting: u64,
    /// Frames that we sent on our own account.
    pub own_sent: u64,
    /// Frames of our own that a port did not take.
    pub own_lost: u64,
}

/// Another station has claimed an address of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disputed {
    /// Our address.
    pub address: IpAddr,
    /// Who claims it.
    pub by: Mac,
    /// On which port.
    pub port: String,
    /// Seconds since it was reported.
    pub ago_s: u64,
}

/// Something wrong with a port's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The port.
    pub port: String,
    /// A name for programs.
    pub code: &'static str,
    /// The sentence, with its cure.
    pub text: String,
}

/// A server, or a router of the rules, that cannot be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The neighbour to send to; `None` where no route leads to the server.
    pub hop: Option<Hop>,
    /// The server; `None` if the neighbour is a router that no server needs.
    pub server: Option<IpAddr>,
}

/// A neighbour whose link address nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// It was asked for and has not answered; else it was not asked for lately.
    pub asked: bool,
    /// The server itself, or the router to it.
    pub next: IpAddr,
    /// The port that it should be on.
    pub port: String,
}

/// A server none of whose latest connections was established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vain {
    /// The service.
    pub service: ServiceKey,
    /// The server.
    pub server: Endpoint,
    /// How it is sent to.
    pub method: Method,
    /// Connections since the last one that was established.
    pub tried: u32,
    /// Seconds since the first of them.
    pub for_s: u64,
    /// By NAT, and since then not one packet has come back through us.
    pub silent: bool,
}

impl Lost {
    /// Its name for programs.
    pub const fn code(&self) -> &'static str {
        match &self.hop {
            None => "no-route",
            Some(Hop { asked: false, .. }) => "not-asked",
            Some(Hop { asked: true, .. }) => "no-answer",
        }
    }
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, forwarded, answered, dropped, waiting, own_sent, own_lost } = self;
        write!(
            f,
            "frames: received {received} = forwarded {forwarded} + answered {answered} + dropped {dropped}"
        )?;
        if *waiting > 0 {
            write!(f, " + waiting {waiting}")?;
        }
        write!(f, "; sent on own account {own_sent}")?;
        if *own_lost > 0 {
            write!(f, " (lost {own_lost})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.frames)?;
        for (reason, count) in &self.drops {
            writeln!(f, "dropped {count} ({}): {}", reason.name(), reason.sentence())?;
        }
        for (count, what) in [
            (self.errors_limited, "ICMP errors were not sent, since their rate is limited"),
            (self.conflicts, "times another station claimed an address of ours"),
        ] {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        self.disputed.iter().try_for_each(|disputed| writeln!(f, "{disputed}"))?;
        self.ports.iter().try_for_each(|trouble| writeln!(f, "{}", trouble.text))?;
        self.lost.iter().take(LISTED_MAX).try_for_each(|lost| writeln!(f, "{lost}"))?;
        self.vain.iter().take(LISTED_MAX).try_for_each(|vain| writeln!(f, "{vain}"))?;
        if self.has_more() {
            writeln!(f, "… and others")?;
        }
        Ok(())
    }
}

impl Status {
    /// Takes note of what cannot be sent to, once, as long as there is room.
    pub fn lose(&mut self, lost: Lost) {
        let told = |other: &Lost| {
            other.hop == lost.hop && (lost.server.is_none() || other.server == lost.server)
        };
        if self.lost.len() <= LISTED_MAX && !self.lost.iter().any(told) {
            self.lost.push(lost);
        }
    }

    /// Whether there are servers that are not listed.
    pub fn has_more(&self) -> bool {
        self.lost.len() > LISTED_MAX || self.vain.len() > LISTED_MAX
    }
}

impl fmt::Display for Disputed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, by, port, ago_s } = self;
        write!(
            f,
            "{by} on {port} claimed our address {address} {ago_s} s ago; a real server must not: `tapvs \
             realserver` tells what it needs"
        )
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hop, server } = self;
        if let Some(server) = server {
            let lost = if hop.is_none() { "no route leads to " } else { "" };
            write!(f, "{lost}the server {server}")?;
        }
        let Some(Hop { asked, next, port }) = hop else { return Ok(()) };
        match server {
            Some(server) if server == next => {}
            Some(_) => write!(f, " by the router {next}")?,
            None => write!(f, "the router {next}")?,
        }
        let known = match asked {
            false => "has not been asked for, or did not answer",
            true => "does not answer",
        };
        write!(f, " on {port} {known}")
    }
}

impl fmt::Display for Vain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, server, method, tried, for_s, silent } = self;
        write!(
            f,
            "connections to the server {server} of `{service}` are not established, {tried} in the last \
             {for_s} s; "
        )?;
        match (method, silent) {
            (Method::Masq, true) => {
                f.write_str("nothing came back through tapvs: is it the server's default gateway?")
            }
            (Method::Masq, false) => {
                f.write_str("it answers, and either refuses them, or its answers do not reach the clients")
            }
            (Method::Route | Method::Tunnel, _) => f.write_str(
                "does it have the virtual address, and does anybody listen there? `tapvs realserver` \
                 tells what it needs",
            ),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::packet::{proto, Family};

    /// One of everything.
    pub(in crate::control) fn some_status() -> Status {
        let addr = |last: u8| IpAddr::from([10, 0, 0, last]);
        let hop = |asked, next| Some(Hop { asked, next: addr(next), port: "tap0".to_owned() });
        let lost = |hop, server: Option<u8>| Lost { hop, server: server.map(addr) };
        let virt = Endpoint::new(addr(100), 80);
        let vain = |service, method, silent| Vain {
            service,
            server: Endpoint::new(addr(5), 8080),
            method,
            tried: 7,
            for_s: 20,
            silent,
        };
        let key = ServiceKey::Address { proto: proto::TCP, virt };
        Status {
            frames: Frames {
                received: 10,
                forwarded: 4,
                answered: 3,
                dropped: 2,
                waiting: 1,
                own_sent: 5,
                own_lost: 1,
            },
            drops: vec![(DropReason::Martian, 2)],
            errors_limited: 3,
            conflicts: 4,
            disputed: vec![Disputed {
                address: addr(100),
                by: Mac([2, 0, 0, 0, 0, 9]),
                port: "tap0".to_owned(),
                ago_s: 6,
            }],
            ports: vec![Trouble {
                port: "tap1".to_owned(),
                code: "down",
                text: "port tap1 is down".to_owned(),
            }],
            lost: [
                lost(None, Some(2)),
                lost(hop(true, 3), Some(3)),
                lost(hop(false, 254), Some(4)),
                lost(hop(true, 253), None),
            ]
            .into(),
            vain: vec![
                vain(key, Method::Masq, true),
                vain(key, Method::Masq, false),
                vain(ServiceKey::Mark { family: Family::V4, mark: 7 }, Method::Tunnel, false),
            ],
        }
    }

    #[test]
    fn everything_that_stands_in_the_way_has_its_line() {
        let text = some_status().to_string();
        let starts = [
            "frames: received 10 = forwarded 4 + answered 3 + dropped 2 + waiting 1; sent on own account 5 (lost 1)",
            "dropped 2 (martian): ",
            "3 ICMP errors were not sent",
            "4 times another station claimed",
            "02:00:00:00:00:09 on tap0 claimed our address 10.0.0.100 6 s ago; ",
            "port tap1 is down",
            "no route leads to the server 10.0.0.2",
            "the server 10.0.0.3 on tap0 does not answer",
            "the server 10.0.0.4 by the router 10.0.0.254 on tap0 has not been asked for, or",
            "the router 10.0.0.253 on tap0 does not answer",
            "connections to the server 10.0.0.5:8080 of `-t 10.0.0.100:80` are not established, 7 in the last 20 s; nothing came back",
            "connections to the server 10.0.0.5:8080 of `-t 10.0.0.100:80` are not established, 7 in the last 20 s; it answers",
            "connections to the server 10.0.0.5:8080 of `-f 7` are not established, 7 in the last 20 s; does it have",
        ];
        assert_eq!(text.lines().count(), starts.len(), "{text}");
        for (line, start) in text.lines().zip(starts) {
            assert!(line.starts_with(start), "{line}\nbegins not as\n{start}");
        }
    }

    #[test]
    fn of_many_servers_some_are_told_and_that_there_are_more() {
        let mut status = some_status();
        let many = 0..=u8::try_from(LISTED_MAX).expect("few");
        status.lost =
            many.map(|last| Lost { hop: None, server: Some([10, 9, 0, last].into()) }).collect();
        let text = status.to_string();
        assert_eq!(text.matches("no route leads").count(), LISTED_MAX);
        assert!(text.ends_with("\n… and others\n"), "{text}");
    }
}
