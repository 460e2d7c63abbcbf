//! Changing and showing what runs.

pub mod show;
