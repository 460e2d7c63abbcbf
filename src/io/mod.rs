//! The only rooms that touch the system: devices, descriptors, signals, the clock.
//!
//! [`sys`] and [`uring`] hold every `unsafe` call, [`tap`] and `macvtap` open devices and put them back as
//! they were, [`queue`] reads and writes them, [`worker`] moves frames between queues and the engine, `crew`
//! has the workers beside the first, `floor` all that moves frames, `watch` waits, [`reactor`] is the first
//! worker's loop and knows the time, `reading` reads rules, [`socket`] and `desk` answer clients, [`decap`] is
//! the other end of a tunnel, [`texts`] keeps files. All of them fail with a [`Fault`].
//!
//! Kept from the kernel: the names of its errors. Left out on purpose: no I/O here ever blocks, and
//! no error about a single frame ends the program; it is counted.

mod crew;
pub mod decap;
mod desk;
mod floor;
mod macvtap;
pub mod queue;
pub mod reactor;
mod reading;
pub mod socket;
mod steer;
pub mod sys;
pub mod tap;
pub mod texts;
// The processors that the ring's crate has bindings for; Cargo.toml has the same list.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "powerpc64"
))]
pub mod uring;
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "powerpc64"
)))]
#[path = "no_uring.rs"]
pub mod uring;
mod watch;
pub mod worker;

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::time::Duration;

use crate::config::{Config, PortKind};
use crate::packet::Mac;
use crate::world::Rng;

/// What could not be done, for whoever runs us: what we did, to what, why not, and what would help.
#[derive(Debug)]
pub struct Fault {
    what: String,
    error: io::Error,
    cure: Option<String>,
}

impl Fault {
    /// A fault in doing `what`, such as `opening tap0`.
    pub fn new(what: impl Into<String>, error: io::Error) -> Self {
        Self { what: what.into(), error, cure: None }
    }

    /// The same with a hint what would help.
    #[must_use]
    pub fn cure(mut self, cure: Option<impl Into<String>>) -> Self {
        self.cure = cure.map(Into::into);
        self
    }

    /// The system's error.
    pub const fn error(&self) -> &io::Error {
        &self.error
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.error.to_string();
        // The number behind the sentence of a system error helps nobody.
        let error = error.split(" (os error").next().unwrap_or_default();
        write!(f, "{}: {error}", self.what)?;
        match &self.cure {
            Some(cure) => write!(f, " ({cure})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Fills in what the engine needs and the rules did not say: a MAC for every TAP port, and an MTU
/// for every port, which is that of the device if there is one already, else 1500.
pub fn complete(config: &mut Config) {
    let host = host_identity();
    let control = sys::Control::open().ok();
    for port in &mut config.ports {
        if port.kind.has_ethernet() && port.settings.mac.is_none() {
            let known = match &port.kind {
                PortKind::Macvtap { lower, mode } => macvtap::own_mac(&port.name, lower, *mode),
                PortKind::Tap | PortKind::Tun => None,
            };
            port.settings.mac = Some(known.unwrap_or_else(|| derived_mac(&port.name, &host)));
        }
        if port.settings.mtu.is_none() {
            let present = control.as_ref().and_then(|c| c.mtu(&port.name).ok());
            port.settings.mtu =
                Some(present.and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(1500));
        }
    }
}

/// The MAC of a port that was given none: locally administered, the same each time for a name on a
/// host. `host` is what tells hosts apart.
pub fn derived_mac(name: &str, host: &[u8]) -> Mac {
    // FNV-1a, then a round of the die to spread it. The result must never change, therefore none
    // of the hashers of the standard library, which promise nothing across versions.
    let bytes = host.iter().chain(&[0]).chain(name.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = Rng::new(hash).next_u64().to_be_bytes();
    Mac([0x02, a, b, c, d, e])
}

/// How long a start waits for what a tapvs that is just ending still holds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries again for as long as `patience` says while the outcome is that another one `holds` it, and
/// says that it waits for `what`.
fn patiently<T, E>(
    what: &str,
    patience: Duration,
    holds: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    const STEP: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match attempt() {
            Err(e) if holds(&e) && waited < patience => {}
            outcome => return outcome,
        }
        if waited.is_zero() {
            log::info!(
                "{what}: another process has it; waiting {} s for its end",
                patience.as_secs()
            );
        }
        #[expect(clippy::disallowed_methods, reason = "nothing runs yet that could be held up")]
        std::thread::sleep(STEP);
        waited += STEP;
    }
}

/// A seed that nobody can foretell. The standard library's own keys are asked of the kernel by a system
/// call, so that no `/dev/urandom` is needed.
pub fn random_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// What tells this host from others: its machine id, else its name and card, since routers of a make often
/// have the same name.
fn host_identity() -> Vec<u8> {
    let told =
        |path: &str| std::fs::read(path).map_or(Vec::new(), |text| text.trim_ascii().to_vec());
    let id = told("/etc/machine-id");
    if !id.is_empty() {
        return id;
    }
    [told("/proc/sys/kernel/hostname"), told("/sys/class/net/eth0/address")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LinkSettings, PortConfig};

    #[test]
    fn a_fault_says_what_was_done_why_it_failed_and_what_helps() {
        let busy = || io::Error::from_raw_os_error(libc::EBUSY);
        let fault = Fault::new("opening tap0", busy());
        assert_eq!(fault.to_string(), "opening tap0: Device or resource busy");
        let fault = fault.cure(Some("another process holds it"));
        assert_eq!(
            fault.to_string(),
            "opening tap0: Device or resource busy (another process holds it)"
        );
    }

    #[test]
    fn only_what_another_one_holds_is_tried_again_and_not_for_ever() {
        let times = |patience, until: u32, code: i32| {
            let mut tries = 0;
            let outcome = patiently(
                "it",
                Duration::from_millis(patience),
                |&code: &i32| code == libc::EBUSY,
                || {
                    tries += 1;
                    if tries == until {
                        Ok(())
                    } else {
                        Err(code)
                    }
                },
            );
            (tries, outcome)
        };
        assert_eq!(times(500, 3, libc::EBUSY), (3, Ok(())));
        assert_eq!(times(100, 99, libc::EBUSY), (3, Err(libc::EBUSY)));
        assert_eq!(times(0, 99, libc::EBUSY), (1, Err(libc::EBUSY)));
        assert_eq!(times(500, 99, libc::EPERM), (1, Err(libc::EPERM)));
    }

    #[test]
    fn a_derived_mac_is_stable_local_and_differs_by_port_and_host() {
        let mac = derived_mac("tap-wan", b"0123456789abcdef");
        assert_eq!(mac.to_string(), "02:aa:eb:81:3c:fe");
        assert!(!mac.is_group());
        assert_ne!(mac, derived_mac("tap-lan", b"0123456789abcdef"));
        assert_ne!(mac, derived_mac("tap-wan", b"0123456789abcdee"));
    }

    #[test]
    fn what_the_rules_did_not_say_is_filled_in_and_what_they_said_is_kept() {
        let said =
            LinkSettings { mac: Some(Mac([2, 0, 0, 0, 0, 1])), mtu: Some(900), master: None };
        let port = |name: &str, kind, settings| PortConfig {
            name: name.to_owned(),
            kind,
            settings,
            addresses: Vec::new(),
        };
        let mut config = Config {
            ports: vec![
                port("tapvs-none-a", PortKind::Tap, said.clone()),
                port("tapvs-none-b", PortKind::Tap, LinkSettings::default()),
                port("tapvs-none-c", PortKind::Tun, LinkSettings::default()),
            ],
            ..Config::default()
        };
        complete(&mut config);
        assert_eq!(config.ports[0].settings, said);
        assert!(config.ports[1].settings.mac.is_some());
        assert_eq!(config.ports[2].settings.mac, None);
        assert_eq!(config.ports[2].settings.mtu, Some(1500));
    }
}
