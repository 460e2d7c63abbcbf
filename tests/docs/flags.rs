//! The options of a word of tapvs, as they are to be shown.

use argh::{CommandInfoWithArgs, FlagInfoKind, Optionality};

pub(super) struct Flag {
    /// `-r`, `--rules`.
    pub(super) names: Vec<String>,
    /// What its value is called, if it takes one.
    pub(super) value: Option<&'static str>,
    pub(super) sentence: &'static str,
    pub(super) optional: bool,
}

impl Flag {
    pub(super) fn is_help(&self) -> bool {
        self.names.iter().any(|name| name == "--help")
    }
}

/// Its options, help last. What belongs to ipvsadm goes to it unseen, and is none of ours.
pub(super) fn flags_of(info: &CommandInfoWithArgs) -> Vec<Flag> {
    if info.name == "ipvsadm" {
        return Vec::new();
    }
    let mut all: Vec<_> = info.flags.iter().map(flag).collect();
    all.sort_by_key(Flag::is_help);
    all
}

fn flag(info: &argh::FlagInfo<'static>) -> Flag {
    // The definitions say of help which words ask for it, and here only which is its long one.
    let short = if info.long == "--help" { Some('h') } else { info.short };
    let names = short.map(|letter| format!("-{letter}"));
    Flag {
        names: names.into_iter().chain([info.long.to_owned()]).collect(),
        value: match info.kind {
            FlagInfoKind::Switch => None,
            FlagInfoKind::Option { arg_name } => Some(arg_name),
        },
        sentence: match info.long {
            "--help" => "print a help",
            _ => info.description,
        },
        optional: !matches!(info.optionality, Optionality::Required),
    }
}
