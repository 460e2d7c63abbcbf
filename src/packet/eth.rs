//! Ethernet (IEEE 802.3, type II) and ARP (RFC 826).
//!
//! ARP is read and written for IPv4 over Ethernet alone; every other pair of address kinds is
//! malformed to us. Kept from the kernel: an announcement is a request for the own address, an
//! address probe (RFC 5227) is a request from 0.0.0.0.
//!
//! Left out on purpose: VLANs (a frame of one is none of ours; a tag without one is taken off by
//! `net`) and IEEE 802.3 length fields.

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType as Id,
    Ethernet2HeaderSlice,
};

use super::{DropReason, Family, Mac, Packet};

/// Bytes of an Ethernet header.
pub const HEADER: usize = 14;

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const ARP: usize = ArpEthIpv4Packet::LEN;

/// EtherTypes that have a meaning here (IANA "ieee-802-numbers").
pub mod ethertype {
    /// IPv4, RFC 894.
    pub const IPV4: u16 = 0x0800;
    /// Address resolution, RFC 826.
    pub const ARP: u16 = 0x0806;
    /// A VLAN tag, IEEE 802.1Q; refused if it names a VLAN.
    pub const VLAN: u16 = 0x8100;
    /// The tag of a provider's VLAN, IEEE 802.1Q; refused if it names one.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// IPv6, RFC 2464.
    pub const IPV6: u16 = 0x86dd;

    /// The EtherType of a family.
    pub const fn of(family: super::Family) -> u16 {
        match family {
            super::Family::V4 => IPV4,
            super::Family::V6 => IPV6,
        }
    }
}

/// An Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// The station it goes to.
    pub dst: Mac,
    /// The station it comes from.
    pub src: Mac,
    /// What follows: see [`ethertype`].
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header of a frame.
    ///
    /// # Errors
    /// [`DropReason::FrameShort`] if the frame is shorter than a header.
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let header = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| DropReason::FrameShort)?;
        Ok(Self {
            dst: Mac(header.destination()),
            src: Mac(header.source()),
            ethertype: header.ether_type().0,
        })
    }

    /// Puts the header in front of what `packet` holds.
    ///
    /// # Errors
    /// [`DropReason::NoHeadroom`] if it does not fit.
    pub fn push(&self, packet: &mut Packet) -> Result<(), DropReason> {
        let header = packet.push(HEADER).ok_or(DropReason::NoHeadroom)?;
        header[0..6].copy_from_slice(&self.dst.0);
        header[6..12].copy_from_slice(&self.src.0);
        header[12..14].copy_from_slice(&self.ethertype.to_be_bytes());
        Ok(())
    }
}

/// What an ARP packet wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has the sender's address.
    Reply,
}

/// An ARP packet about IPv4 over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Question or answer.
    pub operation: Operation,
    /// The sender's station address, never a group.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// The target's station address; means nothing in a request.
    pub target_mac: Mac,
    /// The address that is asked for, or whom the answer is for.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads an ARP packet; link padding behind it is ignored.
    ///
    /// # Errors
    /// [`DropReason::ArpMalformed`] if it is cut short, not about IPv4 over Ethernet, neither
    /// request nor reply, or if its sender is a group.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        Self::read(bytes).ok_or(DropReason::ArpMalformed)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let arp = ArpPacketSlice::from_slice(bytes).ok()?;
        if arp.hw_addr_type() != ArpHardwareId::ETHERNET || arp.proto_addr_type() != Id::IPV4 {
            return None;
        }
        let mac = |bytes: &[u8]| Some(Mac(bytes.try_into().ok()?));
        let addr = |bytes: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?));
        let arp = Self {
            operation: match arp.operation() {
                ArpOperation::REQUEST => Operation::Request,
                ArpOperation::REPLY => Operation::Reply,
                _ => return None,
            },
            sender_mac: mac(arp.sender_hw_addr())?,
            sender: addr(arp.sender_protocol_addr())?,
            target_mac: mac(arp.target_hw_addr())?,
            target: addr(arp.target_protocol_addr())?,
        };
        let group = arp.sender_mac.is_group() || arp.sender.is_multicast();
        (!group && !arp.sender.is_broadcast()).then_some(arp)
    }

    /// The question "who has `target`?", from one of our ports.
    pub const fn request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        let target_mac = Mac([0; 6]);
        Self { operation: Operation::Request, sender_mac: mac, sender, target_mac, target }
    }

    /// The answer to this question: `mac` has the address that was asked for.
    #[must_use]
    pub const fn reply(&self, mac: Mac) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// The announcement that `mac` has `addr`, in the form of a request as the kernel sends it.
    pub const fn announcement(mac: Mac, addr: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender: addr,
            target_mac: mac,
            target: addr,
        }
    }

    /// The packet's bytes.
    pub fn to_bytes(&self) -> [u8; ARP] {
        ArpEthIpv4Packet {
            operation: match self.operation {
                Operation::Request => ArpOperation::REQUEST,
                Operation::Reply => ArpOperation::REPLY,
            },
            sender_mac: self.sender_mac.0,
            sender_ipv4: self.sender.octets(),
            target_mac: self.target_mac.0,
            target_ipv4: self.target.octets(),
        }
        .to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::LinkId;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_header_that_was_pushed_reads_the_same() {
        let header = Ethernet { dst: THEIRS, src: OURS, ethertype: ethertype::IPV6 };
        let mut packet = Packet::copy_of(LinkId(0), b"x");
        header.push(&mut packet).unwrap();
        assert_eq!(Ethernet::parse(packet.bytes()), Ok(header));
        assert_eq!(packet.len(), HEADER + 1);
    }

    #[test]
    fn every_prefix_of_a_frame_is_refused_or_read() {
        let arp = Arp::request(OURS, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let bytes = arp.to_bytes();
        for len in 0..bytes.len() {
            assert_eq!(Arp::parse(&bytes[..len]), Err(DropReason::ArpMalformed));
            assert_eq!(Ethernet::parse(&bytes[..len]).is_ok(), len >= HEADER);
        }
        assert_eq!(Arp::parse(&bytes), Ok(arp));
    }

    #[test]
    fn an_answer_goes_back_to_the_one_who_asked() {
        let (us, them) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let reply = Arp::request(THEIRS, them, us).reply(OURS);
        assert_eq!((reply.sender, reply.sender_mac), (us, OURS));
        assert_eq!((reply.target, reply.target_mac), (them, THEIRS));
        let announcement = Arp::announcement(OURS, us);
        assert_eq!((announcement.sender, announcement.target), (us, us));
    }

    #[test]
    fn other_kinds_of_addresses_and_group_senders_are_malformed() {
        let arp = Arp::request(OURS, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        for (at, value) in [(1, 6), (2, 9), (4, 8), (5, 16), (7, 9), (8, 1)] {
            let mut bytes = arp.to_bytes();
            bytes[at] = value;
            assert_eq!(Arp::parse(&bytes), Err(DropReason::ArpMalformed), "byte {at}");
        }
    }
}
