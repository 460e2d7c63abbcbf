//! SipHash-1-3: the keyed hash that `mh` is built on, and the way from one secret to another that does
//! not lead back.
//!
//! Kept from the kernel: one round for each word and three at the end, as `hsiphash` has them on
//! 64-bit machines. The standard library has the same hash, without a way to choose its keys.

/// The 64-bit hash of `bytes` under a key of two halves.
pub fn siphash13((k0, k1): (u64, u64), bytes: &[u8]) -> u64 {
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let words = bytes.chunks_exact(8);
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    // Only the length's lowest byte counts.
    last[7] = bytes.len().to_le_bytes()[0];
    for word in words {
        let mut whole = [0; 8];
        whole.copy_from_slice(word);
        absorb(&mut state, u64::from_le_bytes(whole));
    }
    absorb(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

const fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

const fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::siphash13;

    #[test]
    fn under_the_key_of_the_standard_library_it_is_the_standard_librarys_hash() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for len in 0..bytes.len() {
            let mut hasher = DefaultHasher::new();
            hasher.write(&bytes[..len]);
            assert_eq!(siphash13((0, 0), &bytes[..len]), hasher.finish(), "{len} bytes");
        }
    }
}
