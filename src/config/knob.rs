//! Every sysctl once: name, range, default, sentence, its place in [`Knobs`](crate::world::Knobs).

/// Which sysctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob(pub usize);
