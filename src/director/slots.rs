//! Things kept at places that stay the same until they are taken out.

use std::ops::Range;

/// Numbered places; empty ones are filled again first.
#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// What is at a place, if anything is.
    pub(super) fn find(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    /// What is at a place, if anything is.
    pub(super) fn find_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    /// Everything, by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// Everything, by place.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }

    /// How many places there are, empty ones included.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What is at some places.
    pub(super) fn part_mut(&mut self, part: Range<usize>) -> impl Iterator<Item = &mut T> {
        self.places[part].iter_mut().flatten()
    }

    /// Puts `item` into a place of its own.
    pub(super) fn put(&mut self, item: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(item);
            return place;
        }
        self.places.push(Some(item));
        u32::try_from(self.places.len() - 1).expect("fewer than 2^32 of anything")
    }

    /// Empties a place.
    pub(super) fn take(&mut self, place: u32) -> Option<T> {
        let item = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::Slots;

    #[test]
    fn places_are_used_again_and_nothing_moves() {
        let mut slots = Slots::new();
        let [a, b, c] = ['a', 'b', 'c'].map(|item| slots.put(item));
        assert_eq!(slots.take(b), Some('b'));
        assert_eq!(slots.find(b), None);
        assert_eq!((slots.take(b), slots.take(99)), (None, None));
        assert_eq!((slots.put('d'), slots.find(a), slots.find(c)), (b, Some(&'a'), Some(&'c')));
        assert_eq!(slots.put('e'), 3);
        assert_eq!(slots.iter().collect::<String>(), "adce");
    }
}
