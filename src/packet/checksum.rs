//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624), and the CRC32c of SCTP
//! (RFC 9260 appendix A), eight bytes a step.

use std::net::IpAddr;

/// The checksum of `bytes`, complemented, as it is put into a header whose field is zero.
/// Over a header with its field filled in, 0 says that it is right.
pub fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// The checksum of a transport segment with its pseudo-header (RFC 9293 section 3.1, RFC 8200
/// section 8.1). 0 over a segment with its field filled in says that it is right.
pub fn transport(src: IpAddr, dst: IpAddr, proto: u8, segment: &[u8]) -> u16 {
    !fold(pseudo(src, dst, proto, segment.len()) + sum(segment))
}

/// The sum of the pseudo-header of a segment of `len` bytes, not complemented: the half of a checksum
/// that is there when the rest is left to be done.
pub fn half(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> u16 {
    fold(pseudo(src, dst, proto, len))
}

/// The CRC32c of `parts` one after another; SCTP writes it in little-endian order.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(!0, |crc, part| crc32c_step(crc, part))
}

fn crc32c_step(mut crc: u32, bytes: &[u8]) -> u32 {
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let first = crc ^ u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let [a, b, c, d] = first.to_le_bytes();
        let index = [a, b, c, d, word[4], word[5], word[6], word[7]];
        let rows = index.iter().zip(CRC32C.iter().rev());
        crc = rows.fold(0, |sum, (&byte, row)| sum ^ row[usize::from(byte)]);
    }
    words
        .remainder()
        .iter()
        .fold(crc, |crc, &byte| (crc >> 8) ^ CRC32C[0][usize::from(crc.to_le_bytes()[0] ^ byte)])
}

/// Row `i` says what a byte does that is followed by `i` others.
static CRC32C: [[u32; 256]; 8] = crc32c_table();

#[expect(clippy::cast_possible_truncation, reason = "a byte is below 256")]
const fn crc32c_table() -> [[u32; 256]; 8] {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [[0_u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 != 0 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[0][byte] = crc;
        byte += 1;
    }
    let mut row = 1;
    while row < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = table[row - 1][byte];
            table[row][byte] = (crc >> 8) ^ table[0][(crc & 0xff) as usize];
            byte += 1;
        }
        row += 1;
    }
    table
}

/// The unfolded sum of a pseudo-header.
fn pseudo(src: IpAddr, dst: IpAddr, proto: u8, len: usize) -> u64 {
    let addresses = |a: IpAddr| match a {
        IpAddr::V4(a) => sum(&a.octets()),
        IpAddr::V6(a) => sum(&a.octets()),
    };
    addresses(src) + addresses(dst) + u64::from(proto) + len as u64
}

/// The sum of big-endian 16-bit words; an odd last byte is the upper half of a word. Four words at once
/// in the order of the machine: what comes out has its bytes in that order too (RFC 1071 section 2 B).
/// It cannot overflow: even 2^32 words stay below 2^64.
fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0_u64; 4];
    let blocks = bytes.chunks_exact(16);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let words = rest.chunks_exact(2);
    let odd = words.remainder().first().map_or(0, |&b| u64::from(b) << 8);
    let rest = words.fold(odd, |sum, w| sum + u64::from(u16::from_be_bytes([w[0], w[1]])));
    let [a, b, c, d] = lanes;
    u64::from(u16::from_be(fold(a + b + c + d))) + rest
}

#[expect(clippy::cast_possible_truncation, reason = "folded until it fits")]
const fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The change that a checksum must take in: words that were, and words that are. Collected once and
/// applied to each checksum that covers them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delta(u32);

impl Delta {
    /// Takes in that a word was `old` and is `new` (RFC 1624, equation 3).
    #[must_use]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u32::from(!old) + u32::from(new))
    }

    /// Takes in that an address was `old` and is `new`, of the same family.
    #[must_use]
    pub fn address(self, old: IpAddr, new: IpAddr) -> Self {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => self.bytes(&old.octets(), &new.octets()),
            (IpAddr::V6(old), IpAddr::V6(new)) => self.bytes(&old.octets(), &new.octets()),
            _ => self,
        }
    }

    /// Takes in that an even number of bytes were `old` and are `new`.
    #[must_use]
    pub fn bytes(self, old: &[u8], new: &[u8]) -> Self {
        let word = |w: &[u8]| u16::from_be_bytes([w[0], w[1]]);
        old.chunks_exact(2)
            .zip(new.chunks_exact(2))
            .fold(self, |d, (o, n)| d.word(word(o), word(n)))
    }

    /// The change back.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self((!fold(self.0 as u64)) as u32)
    }

    /// The checksum that was `old` before the change.
    pub fn apply(self, old: u16) -> u16 {
        !fold(u64::from(!old) + u64::from(self.0))
    }
}

/// Mends the checksum at `at` for one word of the covered bytes that was `old` and is `new`.
pub fn replace(bytes: &mut [u8], at: usize, old: u16, new: u16) {
    mend(bytes, at, Delta::default().word(old, new));
}

/// Mends the pseudo-header's sum at `at`, which is not complemented, for `delta`.
pub fn mend_partial(bytes: &mut [u8], at: usize, delta: Delta) {
    let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let new = fold(u64::from(old) + u64::from(delta.0));
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
}

/// Mends the checksum at `at` for `delta`.
pub fn mend(bytes: &mut [u8], at: usize, delta: Delta) {
    let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    bytes[at..at + 2].copy_from_slice(&delta.apply(old).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Rng;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_crc_is_that_of_rfc_3720_and_may_be_summed_in_parts() {
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        let bytes: Vec<u8> = (0..=255).collect();
        for cut in [0, 1, 8, 13, 255] {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(crc32c(&[front, back]), crc32c(&[&bytes]));
        }
    }

    #[test]
    fn summing_in_blocks_agrees_with_summing_word_by_word() {
        let mut rng = Rng::new(2);
        for len in 0..200 {
            let mut bytes: Vec<u8> = (0..len).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            let fill = [rng.next_u32() % 3 == 0, rng.next_u32() % 3 == 0];
            if fill[0] {
                bytes.fill(if fill[1] { 0xff } else { 0 });
            }
            let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
            let mut sum: u32 = bytes.chunks(2).map(word).sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(u32::from(!of(&bytes)), sum, "{len} bytes");
        }
    }

    #[test]
    fn an_odd_byte_counts_as_the_upper_half_of_a_word() {
        assert_eq!(of(&[0x12, 0x34, 0x56]), of(&[0x12, 0x34, 0x56, 0x00]));
    }

    #[test]
    fn mending_agrees_with_summing_anew() {
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            let mut bytes: Vec<u8> = (0..20).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            bytes[10..12].fill(0);
            let right = of(&bytes);
            bytes[10..12].copy_from_slice(&right.to_be_bytes());
            let old = u16::from_be_bytes([bytes[4], bytes[5]]);
            let new = rng.next_u16();
            bytes[4..6].copy_from_slice(&new.to_be_bytes());
            replace(&mut bytes, 10, old, new);
            assert_eq!(of(&bytes), 0);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much() {
        let delta = Delta::default().address([10, 0, 0, 1].into(), [172, 16, 0, 9].into());
        let (right, wrong) = (0x1234, 0x1235);
        assert_eq!(delta.apply(wrong).wrapping_sub(delta.apply(right)), 1);
    }
}
