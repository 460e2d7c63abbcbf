//! Who expires next: a timing wheel of four levels with 64 slots each.
//!
//! A packet only moves its connection's deadline; the wheel looks at an entry when its slot comes up
//! and puts it back if the deadline has moved on. An entry is re-linked early only when its deadline
//! came nearer. Links lie in the connections themselves, so that a timer costs no memory of its own.
//!
//! Nothing is done to more entries at once than the caller allows: a coarse slot may hold a million, and
//! is handed down in portions, during which the wheel stands still and catches up afterwards.

use super::table::Arena;
use super::{Conn, NONE};
use crate::world::Instant;

/// Nanoseconds of a tick, as a power of two: 16.8 ms.
const TICK_SHIFT: u32 = 24;
const LEVELS: usize = 4;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Links of an entry; part of [`Conn`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    prev: u32,
    next: u32,
    /// Level times 64 plus slot, or [`UNLINKED`].
    slot: u16,
}

const UNLINKED: u16 = u16::MAX;

impl Links {
    /// On no wheel.
    pub(super) const UNLINKED: Self = Self { prev: NONE, next: NONE, slot: UNLINKED };
}

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: [[u32; SLOTS]; LEVELS],
    /// A bit for each slot that has an entry.
    occupied: [u64; LEVELS],
    /// The tick up to which all slots have been looked at.
    tick: u64,
    /// The levels from 1 to this one whose slots begin with this tick and are still to be handed down.
    handing: usize,
}

impl Wheel {
    pub(super) const fn new() -> Self {
        Self { heads: [[NONE; SLOTS]; LEVELS], occupied: [0; LEVELS], tick: 0, handing: 0 }
    }

    /// Links entry `id` so that it comes up at `deadline`, or sooner if that is very far.
    pub(super) fn link(&mut self, arena: &mut Arena, id: u32, deadline: Instant) {
        self.link_from(arena, id, deadline, self.tick + 1);
    }

    /// Links entry `id` so that it comes up at `deadline`, but not before tick `earliest`.
    fn link_from(&mut self, arena: &mut Arena, id: u32, deadline: Instant, earliest: u64) {
        let tick = (deadline.nanos() >> TICK_SHIFT).saturating_add(1).max(earliest);
        let far = tick - self.tick;
        let (level, tick) = match (0..LEVELS).find(|&level| far < 1 << width_of(level + 1)) {
            Some(level) => (level, tick),
            None => (LEVELS - 1, self.tick + (1 << width_of(LEVELS)) - 1),
        };
        let slot = slot_of(tick, level);
        let head = &mut self.heads[level][slot];
        let next = std::mem::replace(head, id);
        if next != NONE {
            arena.at_mut(next).wheel.prev = id;
        }
        self.occupied[level] |= 1 << slot;
        let place = u16::try_from(level * SLOTS + slot).expect("256 slots in all");
        arena.at_mut(id).wheel = Links { prev: NONE, next, slot: place };
    }

    /// Takes entry `id` off the wheel.
    pub(super) fn unlink(&mut self, arena: &mut Arena, id: u32) {
        let Links { prev, next, slot } =
            std::mem::replace(&mut arena.at_mut(id).wheel, Links::UNLINKED);
        if slot == UNLINKED {
            return;
        }
        let (level, slot) = (usize::from(slot) / SLOTS, usize::from(slot) % SLOTS);
        if next != NONE {
            arena.at_mut(next).wheel.prev = prev;
        }
        if prev != NONE {
            arena.at_mut(prev).wheel.next = next;
        } else {
            self.heads[level][slot] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        }
    }

    /// Whether `deadline` comes before the entry would come up anyway.
    pub(super) fn is_late_for(&self, conn: &Conn, deadline: Instant) -> bool {
        let (level, slot) =
            (usize::from(conn.wheel.slot) / SLOTS, usize::from(conn.wheel.slot) % SLOTS);
        if level >= LEVELS {
            return true;
        }
        let width = width_of(level);
        let turn = 1_u64 << (width + SLOT_BITS);
        let start = (self.tick & !(turn - 1)) | ((slot as u64) << width);
        let up = if start > self.tick { start } else { start + turn };
        (deadline.nanos() >> TICK_SHIFT) + 1 < up
    }

    /// Takes one entry whose time has come off the wheel, or re-links it if its deadline has moved.
    /// Each entry that is looked at takes one from `budget`. `None` when everything up to `now` has been
    /// looked at, or nothing is left of the budget.
    pub(super) fn due(
        &mut self,
        arena: &mut Arena,
        now: Instant,
        budget: &mut usize,
    ) -> Option<u32> {
        let target = now.nanos() >> TICK_SHIFT;
        while *budget > 0 {
            if self.handing > 0 {
                *budget -= usize::from(self.hand_down(arena));
                continue;
            }
            let slot = slot_of(self.tick, 0);
            let id = self.heads[0][slot];
            if id != NONE {
                *budget -= 1;
                self.unlink(arena, id);
                let deadline = arena.at(id).deadline;
                if deadline <= now {
                    return Some(id);
                }
                self.link(arena, id, deadline);
                continue;
            }
            if self.tick >= target {
                return None;
            }
            self.advance(target);
        }
        None
    }

    /// Goes to the next tick at which anything can happen, `target` at most, and notes which coarser
    /// slots begin with it.
    fn advance(&mut self, target: u64) {
        let quiet = self.occupied.iter().take_while(|&&level| level == 0).count();
        let step = match quiet {
            0 => self.tick + 1,
            LEVELS => target,
            // Nothing below level `quiet` can come up before that level's next slot begins.
            _ => {
                let width = width_of(quiet);
                ((self.tick >> width) + 1) << width
            }
        };
        self.tick = step.min(target);
        let begins = |&level: &usize| self.tick & ((1 << width_of(level)) - 1) == 0;
        self.handing = (1..LEVELS).take_while(begins).count();
    }

    /// Moves one entry of the slots that begin with this tick to where it belongs now; false if the
    /// level that was looked at has none left. As long as the tick stays, no entry can be linked to these
    /// slots: they are a whole turn away.
    fn hand_down(&mut self, arena: &mut Arena) -> bool {
        let level = self.handing;
        let id = self.heads[level][slot_of(self.tick, level)];
        if id == NONE {
            self.handing -= 1;
            return false;
        }
        self.unlink(arena, id);
        // It may be due in this very tick, whose slot is still to be looked at.
        let deadline = arena.at(id).deadline;
        self.link_from(arena, id, deadline, self.tick);
        true
    }

    /// When [`due`](Self::due) may have something to do; within a little more than a second if
    /// anything is linked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.occupied.iter().all(|&level| level == 0) {
            return None;
        }
        if self.handing > 0 {
            return Some(Instant::from_nanos(self.tick << TICK_SHIFT));
        }
        let ahead = (1..=SLOTS as u64).find(|ahead| {
            let tick = self.tick + ahead;
            self.occupied[0] >> slot_of(tick, 0) & 1 != 0 || slot_of(tick, 0) == 0
        });
        let tick = self.tick + ahead.unwrap_or(1);
        Some(Instant::from_nanos(tick << TICK_SHIFT))
    }
}

/// Bits of a tick that lie below a level's slots.
fn width_of(level: usize) -> u32 {
    SLOT_BITS * u32::try_from(level).expect("four levels")
}

/// The slot of `tick` on a level.
fn slot_of(tick: u64, level: usize) -> usize {
    let width = width_of(level);
    usize::try_from((tick >> width) & (SLOTS as u64 - 1)).expect("below 64")
}
