//! Call-IDs of the templates that are known by one.
//!
//! A Call-ID is longer than a connection. It lies beside the table, at the place of its template, in
//! blocks that are made when the first template of a chunk needs one: whoever has no such service
//! pays nothing, and the limit of the table is the limit here.

use super::table::CHUNK;
use crate::packet::sip::CALL_ID_MAX;

/// A Call-ID; its length is at most [`CALL_ID_MAX`].
#[derive(Debug, Clone, Copy)]
struct Text {
    len: u8,
    bytes: [u8; CALL_ID_MAX],
}

const EMPTY: Text = Text { len: 0, bytes: [0; CALL_ID_MAX] };

/// All of them, by the place of their template.
#[derive(Debug, Default)]
pub(super) struct Calls {
    blocks: Vec<Vec<Text>>,
}

impl Calls {
    /// The Call-ID at a place where one was put.
    pub(super) fn at(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let text = self.blocks.get(id / CHUNK).and_then(|block| block.get(id % CHUNK));
        text.map_or(&[], |text| &text.bytes[..usize::from(text.len)])
    }

    /// Puts one there; what is longer than [`CALL_ID_MAX`] is cut.
    pub(super) fn put(&mut self, id: u32, call: &[u8]) {
        let id = id as usize;
        if self.blocks.len() <= id / CHUNK {
            self.blocks.resize_with(id / CHUNK + 1, Vec::new);
        }
        let block = &mut self.blocks[id / CHUNK];
        if block.is_empty() {
            block.resize(CHUNK, EMPTY);
        }
        let text = &mut block[id % CHUNK];
        let call = &call[..call.len().min(CALL_ID_MAX)];
        text.len = u8::try_from(call.len()).expect("it was just cut");
        text.bytes[..call.len()].copy_from_slice(call);
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
        calls.put(far, b"far@a");
        calls.put(1, b"one@a");
        assert_eq!([calls.at(0), calls.at(1), calls.at(far)], [&b""[..], b"one@a", b"far@a"]);
        calls.put(1, b"1");
        assert_eq!([calls.at(1), calls.at(far)], [&b"1"[..], b"far@a"]);
    }

    #[test]
    fn memory_is_taken_for_the_chunks_that_need_it() {
        let mut calls = Calls::default();
        calls.put(u32::try_from(2 * CHUNK).expect("a place"), b"x");
        let taken: Vec<_> = calls.blocks.iter().map(Vec::capacity).collect();
        assert_eq!(taken[..2], [0, 0]);
        assert_eq!(calls.blocks[2].len(), CHUNK);
    }

    #[test]
    fn what_is_too_long_is_cut_to_what_is_looked_for() {
        let mut calls = Calls::default();
        let long: Vec<u8> = (0..=255).chain(0..=255).collect();
        calls.put(7, &long);
        assert_eq!(calls.at(7), &long[..CALL_ID_MAX]);
    }
}
