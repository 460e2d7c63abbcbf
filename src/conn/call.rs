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
