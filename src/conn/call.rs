//! Call-IDs of the templates that are known by one.
//!
//! A Call-ID is longer than a connection. They lie beside the table, in blocks that are made as they are
//! needed, and each chunk of the table with a template of a call has a list of where its Call-IDs lie: whoever
//! has no such service pays nothing. There are a million at most, a quarter of a gigabyte of them.

use super::table::{Full, CHUNK};
use crate::packet::sip::CALL_ID_MAX;

/// Call-IDs that are kept at most.
const CALLS_MAX: usize = 1 << 20;

/// Call-IDs of a block.
const BLOCK: usize = 256;

/// A Call-ID; its length is at most [`CALL_ID_MAX`].
#[derive(Debug, Clone, Copy)]
struct Text {
    len: u8,
    bytes: [u8; CALL_ID_MAX],
}

const EMPTY: Text = Text { len: 0, bytes: [0; CALL_ID_MAX] };

/// No Call-ID lies there.
const NONE: u32 = u32::MAX;

/// All of them, by the place of their template.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Where that of each place lies, chunk by chunk of the table.
    lies: Vec<Vec<u32>>,
    blocks: Vec<Vec<Text>>,
    free: Vec<u32>,
    /// How many have been put somewhere, those that are free again included.
    used: usize,
}

impl Calls {
    /// The Call-ID at a place where one was put.
    pub(super) fn at(&self, id: u32) -> &[u8] {
        let Some(at) = self.lies(id) else { return &[] };
        let text = self.blocks.get(at / BLOCK).and_then(|block| block.get(at % BLOCK));
        text.map_or(&[], |text| &text.bytes[..usize::from(text.len)])
    }

    /// Whether there is no room for another.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.used == CALLS_MAX
    }

    /// Puts one there, where none is; what is longer than [`CALL_ID_MAX`] is cut.
    ///
    /// # Errors
    /// There are [`CALLS_MAX`] already.
    pub(super) fn put(&mut self, id: u32, call: &[u8]) -> Result<(), Full> {
        let at = self.place()?;
        let (chunk, call) = (id as usize / CHUNK, &call[..call.len().min(CALL_ID_MAX)]);
        if self.lies.len() <= chunk {
            self.lies.resize_with(chunk + 1, Vec::new);
        }
        if self.lies[chunk].is_empty() {
            self.lies[chunk].resize(CHUNK, NONE);
        }
        self.lies[chunk][id as usize % CHUNK] = at;
        let text = &mut self.blocks[at as usize / BLOCK][at as usize % BLOCK];
        text.len = u8::try_from(call.len()).expect("it was just cut");
        text.bytes[..call.len()].copy_from_slice(call);
        Ok(())
    }

    /// Forgets the one at a place.
    pub(super) fn remove(&mut self, id: u32) {
        let id = id as usize;
        let Some(lies) = self.lies.get_mut(id / CHUNK).and_then(|chunk| chunk.get_mut(id % CHUNK))
        else {
            return;
        };
        let at = std::mem::replace(lies, NONE);
        if at != NONE {
            self.free.push(at);
        }
    }

    fn lies(&self, id: u32) -> Option<usize> {
        let at = *self.lies.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?;
        (at != NONE).then_some(at as usize)
    }

    /// Where the next one may lie.
    fn place(&mut self) -> Result<u32, Full> {
        if let Some(at) = self.free.pop() {
            return Ok(at);
        }
        if self.used == CALLS_MAX {
            return Err(Full);
        }
        if self.used % BLOCK == 0 {
            self.blocks.push(vec![EMPTY; BLOCK]);
        }
        self.used += 1;
        Ok(u32::try_from(self.used - 1).expect("there are fewer than 2^32"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_lies_at_its_place_alone_and_gives_way_to_the_next_there() {
        let mut calls = Calls::default();
        let far = u32::try_from(3 * CHUNK + 5).expect("a place");
        for id in [0, 1, far] {
            assert_eq!(calls.at(id), b"", "nothing was put there");
        }
        assert_eq!(calls.put(far, b"far@a"), Ok(()));
        assert_eq!(calls.put(1, b"one@a"), Ok(()));
        assert_eq!([calls.at(0), calls.at(1), calls.at(far)], [&b""[..], b"one@a", b"far@a"]);
        calls.remove(1);
        calls.remove(1);
        calls.remove(9);
        assert_eq!(calls.at(1), b"");
        assert_eq!((calls.put(0, b"0"), calls.put(1, b"1")), (Ok(()), Ok(())));
        assert_eq!([calls.at(0), calls.at(1), calls.at(far)], [&b"0"[..], b"1", b"far@a"]);
    }

    #[test]
    fn memory_is_taken_for_those_that_are_there_and_for_a_million_at_most() {
        let mut calls = Calls::default();
        let far = u32::try_from(2 * CHUNK).expect("a place");
        for round in 0..2000_u32 {
            assert_eq!(calls.put(far + round % 7, b"x"), Ok(()));
            calls.remove(far + round % 7);
        }
        let taken: Vec<_> = calls.lies.iter().map(Vec::capacity).collect();
        assert_eq!((taken[..2].to_vec(), calls.blocks.len()), (vec![0, 0], 1));
        // As if so many were there.
        calls.used = CALLS_MAX;
        assert!(!calls.is_full());
        assert_eq!((calls.put(0, b"last"), calls.put(1, b"more")), (Ok(()), Err(Full)));
        assert!(calls.is_full());
        assert_eq!([calls.at(0), calls.at(1)], [&b"last"[..], b""]);
        calls.remove(0);
        assert_eq!(calls.put(1, b"more"), Ok(()));
    }

    #[test]
    fn what_is_too_long_is_cut_to_what_is_looked_for() {
        let mut calls = Calls::default();
        let long: Vec<u8> = (0..=255).chain(0..=255).collect();
        assert_eq!(calls.put(7, &long), Ok(()));
        assert_eq!(calls.at(7), &long[..CALL_ID_MAX]);
    }
}
