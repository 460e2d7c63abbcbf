//! Completions for bash, zsh and fish, for `tapvs` and for the names of ipvsadm.
//!
//! One file for each shell, since `tapvs ipvsadm …` completes as `ipvsadm …` does. Which value an
//! option takes is read from the name of its value: a file, one of a few words, or nothing that could be
//! offered. Services and servers that exist are asked of the running tapvs.

use std::fmt::Write as _;

use super::flags::{flags_of, Flag};
use argh::CommandInfoWithArgs;
use tapvs::cli;
use tapvs::config::options::{Opt, Spelling, Takes, SENTENCES, SPELLINGS};
use tapvs::config::tool::goes_with;
use tapvs::control::proc::File;
use tapvs::sched::{Flags, Scheduler};

/// What can be offered for a value.
enum Offer {
    Files,
    Folders,
    Words(Vec<String>),
    /// Services of the running tapvs that this letter names.
    Services(char),
    Servers,
    Nothing,
}

fn words(all: &[&str]) -> Offer {
    Offer::Words(all.iter().map(|&word| word.to_owned()).collect())
}

/// For the value of an option of tapvs, or a word of that name.
fn offer(name: &str) -> Offer {
    match name {
        "file" | "path" => Offer::Files,
        "dir" => Offer::Folders,
        _ if name.contains('|') => words(&name.split('|').collect::<Vec<_>>()),
        _ => Offer::Nothing,
    }
}

/// For the value of an option of ipvsadm.
fn offer_ipvsadm(spelling: &Spelling, value: &str) -> Offer {
    match value {
        "address" => Offer::Services(spelling.short.unwrap_or('s')),
        "mark" => Offer::Services('f'),
        "server" => Offer::Servers,
        "scheduler" => words(&Scheduler::ALL.iter().map(|s| s.name()).collect::<Vec<_>>()),
        "flags" => {
            let own = [Scheduler::Sh, Scheduler::Mh].map(|s| s.flag_names());
            let own = own.into_iter().flatten().filter(|name| !Flags::NAMES.contains(name));
            words(&own.chain(Flags::NAMES).collect::<Vec<_>>())
        }
        "type" => words(&["ipip", "gue", "gre"]),
        "role" => words(&["master", "backup"]),
        "engine" => words(&["sip"]),
        _ => Offer::Nothing,
    }
}

fn options() -> impl Iterator<Item = (&'static Spelling, &'static str, &'static str)> {
    let all = SPELLINGS.iter().zip(SENTENCES);
    all.map(|(spelling, (value, sentence))| (spelling, *value, *sentence))
}

fn commands() -> impl Iterator<Item = &'static Spelling> {
    SPELLINGS.iter().filter(|spelling| spelling.command)
}

/// `-s`, `--long`.
fn names(spelling: &Spelling) -> Vec<String> {
    let short = spelling.short.map(|letter| format!("-{letter}"));
    short.into_iter().chain([format!("--{}", spelling.long)]).collect()
}

/// What its value can be, if it takes one.
fn flag_offer(flag: &Flag) -> Option<Offer> {
    flag.value.map(offer)
}

/// What can stand behind a word that is no option.
fn positional(info: &CommandInfoWithArgs) -> Offer {
    match info.positionals.first() {
        Some(_) if info.name == "proc" => {
            words(&File::ALL.iter().map(|file| file.name()).collect::<Vec<_>>())
        }
        Some(word) => offer(word.name),
        None => Offer::Nothing,
    }
}

fn mine(name: &str) -> &'static str {
    match name {
        "ipvsadm-save" => "-n",
        _ => "",
    }
}

const HEAD: &str = "# Made by `make docs` from the definitions of the program; not to be edited.\n";

/// For bash.
pub(super) fn bash() -> String {
    let mut out = format!("# Completion of tapvs and ipvsadm for bash.\n{HEAD}{BASH}");
    let info = cli::definition();
    out.push_str("\n_tapvs() {\n    local words cur prev word='' i\n    _tapvs_words\n");
    let subs: Vec<_> = info.commands.iter().map(|sub| sub.name).collect();
    let _ = writeln!(
        out,
        "    for ((i = 1; i < ${{#words[@]}} - 1; i++)); do\n        case ${{words[i]}} in\n        \
         ipvsadm | ipvsadm-save | ipvsadm-restore) _tapvs_ipvsadm \"$i\"; return ;;\n        \
         {}) word=${{words[i]}}; break ;;\n        esac\n    done",
        subs.iter().filter(|sub| **sub != "ipvsadm").copied().collect::<Vec<_>>().join(" | ")
    );
    out.push_str("    case $word:$prev in\n");
    for sub in &info.commands {
        for flag in &flags_of(&sub.command) {
            let Some(offer) = flag_offer(flag) else { continue };
            let names: Vec<_> =
                flag.names.iter().map(|name| format!("{}:{name}", sub.name)).collect();
            let _ = writeln!(out, "    {}) {}; return ;;", names.join(" | "), bash_offer(&offer));
        }
    }
    out.push_str("    esac\n    case $word:$cur in\n");
    let flags = |flags: &[Flag]| {
        let names: Vec<_> = flags.iter().flat_map(|flag| flag.names.clone()).collect();
        bash_offer(&Offer::Words(names))
    };
    let _ = writeln!(out, "    :-*) {} ;;", flags(&flags_of(&info)));
    let _ = writeln!(out, "    :*) {} ;;", bash_offer(&words(&subs)));
    for sub in &info.commands {
        if !flags_of(&sub.command).is_empty() {
            let _ = writeln!(out, "    {}:-*) {} ;;", sub.name, flags(&flags_of(&sub.command)));
        }
        let plain = positional(&sub.command);
        match (plain, flags_of(&sub.command).is_empty()) {
            (Offer::Nothing, true) => {}
            (Offer::Nothing, false) => {
                let _ = writeln!(out, "    {}:*) {} ;;", sub.name, flags(&flags_of(&sub.command)));
            }
            (plain, _) => {
                let _ = writeln!(out, "    {}:*) {} ;;", sub.name, bash_offer(&plain));
            }
        }
    }
    out.push_str("    esac\n}\n");
    bash_ipvsadm(&mut out);
    out.push_str(
        "\ncomplete -F _tapvs tapvs\ncomplete -F _tapvs_ipvsadm ipvsadm ipvsadm-save ipvsadm-restore\n",
    );
    out
}

fn bash_ipvsadm(out: &mut String) {
    out.push_str(
        "\n_tapvs_ipvsadm() { # the place of the program among the words; 0 if bash calls\n    \
         local words cur prev command='' at=0 i\n    [[ ${1-} == [0-9] ]] && at=$1\n    _tapvs_words\n    \
         case ${words[at]##*/} in\n",
    );
    let _ = writeln!(out, "    ipvsadm-save) _tapvs_offer '{}'; return ;;", mine("ipvsadm-save"));
    out.push_str("    ipvsadm-restore) COMPREPLY=(); return ;;\n    esac\n    case $prev in\n");
    for (spelling, value, _) in options().filter(|(spelling, ..)| spelling.takes != Takes::Nothing)
    {
        // The value of a cluster's last letter as well.
        let mut patterns = vec![format!("--{}", spelling.long)];
        patterns.extend(spelling.short.map(|letter| format!("-{letter} | -[!-]*{letter}")));
        let offer = bash_offer(&offer_ipvsadm(spelling, value));
        if spelling.takes == Takes::Value {
            let _ = writeln!(out, "    {}) {offer}; return ;;", patterns.join(" | "));
        }
    }
    out.push_str("    esac\n    (( ${#words[@]} > at + 2 )) && command=${words[at + 1]}\n    case $command in\n");
    // `--list` is there twice.
    let all = commands().flat_map(|command| {
        names(command)
            .into_iter()
            .filter(|name| command.opt != Opt::ListToo || !name.starts_with("--"))
    });
    let all: Vec<_> = all.collect();
    let _ = writeln!(out, "    '') {} ;;", bash_offer(&Offer::Words(all)));
    for command in commands().filter(|command| command.opt != Opt::ListToo) {
        let short = match (command.opt, command.short) {
            (Opt::List, _) => "-L* | -l* | ".to_owned(),
            (_, Some(letter)) => format!("-{letter}* | "),
            (_, None) => String::new(),
        };
        let fits = |(option, ..): &(&Spelling, &str, &str)| {
            !option.command && goes_with(command.opt, option.opt).is_some()
        };
        let all: Vec<_> = options().filter(fits).flat_map(|(option, ..)| names(option)).collect();
        let _ =
            writeln!(out, "    {short}--{}) {} ;;", command.long, bash_offer(&Offer::Words(all)));
    }
    out.push_str("    *) COMPREPLY=() ;;\n    esac\n}\n");
}

fn bash_offer(offer: &Offer) -> String {
    match offer {
        Offer::Files => "_tapvs_files -f".to_owned(),
        Offer::Folders => "_tapvs_files -d".to_owned(),
        Offer::Words(words) if words.is_empty() => "COMPREPLY=()".to_owned(),
        Offer::Words(words) => format!("_tapvs_offer '{}'", words.join(" ")),
        Offer::Services(letter) => {
            format!("_tapvs_offer \"$(_tapvs_services {})\"", option(*letter))
        }
        Offer::Servers => "_tapvs_offer \"$(_tapvs_servers)\"".to_owned(),
        Offer::Nothing => "COMPREPLY=()".to_owned(),
    }
}

/// How `ipvsadm -S` writes the option of a letter; SCTP has none.
fn option(letter: char) -> String {
    match letter {
        's' => "--sctp-service".to_owned(),
        _ => format!("-{letter}"),
    }
}

const BASH: &str = r##"
# The line in words as its reader sees them: bash divides at `:` as well.
_tapvs_words() {
    read -ra words <<<"${COMP_LINE:0:COMP_POINT}x"
    cur=${words[-1]%x} prev=''
    (( ${#words[@]} > 1 )) && prev=${words[-2]}
    return 0
}

# Those of $1 that begin as the last word does, less what bash takes for words of their own.
_tapvs_offer() {
    local word head=''
    [[ $COMP_WORDBREAKS == *:* && $cur == *:* ]] && head=${cur%:*}:
    COMPREPLY=()
    for word in $1; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("${word#"$head"}")
    done
    return 0
}

# Files (-f) or folders (-d).
_tapvs_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

# What stands behind the option $1 in what runs.
_tapvs_services() {
    "${words[@]:0:at + 1}" -Sn 2>/dev/null | awk -v option="$1" '
        { for (i = 1; i < NF; i++) if ($i == option && !seen[$(i + 1)]++) print $(i + 1) }'
}

# Servers that run: to be added, those of every service, else those of the service of the line.
_tapvs_servers() {
    local i service=''
    for ((i = at + 1; i < ${#words[@]} - 1; i++)); do
        case ${words[i]} in
        -a* | --add-server) service=''; break ;;
        --sctp-service) service="--sctp-service ${words[i + 1]}" ;;
        --tcp-service | -t | -[!-]*t) service="-t ${words[i + 1]}" ;;
        --udp-service | -u | -[!-]*u) service="-u ${words[i + 1]}" ;;
        --fwmark-service | -f | -[!-]*f) service="-f ${words[i + 1]}" ;;
        esac
    done
    "${words[@]:0:at + 1}" -Sn 2>/dev/null | awk -v service="$service" '
        $1 != "-a" || (service != "" && $2 " " $3 != service) { next }
        { for (i = 4; i < NF; i++) if ($i == "-r" && !seen[$(i + 1)]++) print $(i + 1) }'
}
"##;

/// For zsh.
pub(super) fn zsh() -> String {
    let mut out = format!("#compdef tapvs ipvsadm ipvsadm-save ipvsadm-restore\n{HEAD}{ZSH}");
    let info = cli::definition();
    out.push_str("\n_tapvs_main() {\n    local -a words_of_tapvs\n    words_of_tapvs=(\n");
    for sub in &info.commands {
        let _ = writeln!(
            out,
            "        {}",
            zsh_quoted(&format!("{}:{}", sub.name, first(sub.command.description)))
        );
    }
    out.push_str("    )\n    _arguments -C \\\n");
    for flag in &flags_of(&info) {
        zsh_flag(&mut out, flag);
    }
    out.push_str(
        "        '1: :->word' '*:: :->rest' && return\n    case $state in\n    \
         word) _describe 'word of tapvs' words_of_tapvs ;;\n    rest)\n        case $words[1] in\n",
    );
    for sub in info.commands.iter().filter(|sub| sub.name != "ipvsadm") {
        let _ = writeln!(out, "        {}) _arguments \\", sub.name);
        for flag in &flags_of(&sub.command) {
            zsh_flag(&mut out, flag);
        }
        match sub.command.positionals.first() {
            Some(word) => {
                let action = zsh_action(&positional(&sub.command));
                let _ = writeln!(out, "        '1:{}:{action}' ;;", word.name);
            }
            None => out.push_str("        && return ;;\n"),
        }
    }
    out.push_str(
        "        ipvsadm | ipvsadm-save | ipvsadm-restore) _tapvs_$words[1] ;;\n        esac ;;\n    esac\n}\n",
    );
    zsh_ipvsadm(&mut out);
    let _ = writeln!(
        out,
        "\n_tapvs_ipvsadm-save() {{ _arguments '{}[addresses and ports as numbers]' }}\n\
         _tapvs_ipvsadm-restore() {{ _message 'reads commands from standard input' }}\n\n\
         case $service in\nipvsadm*) _tapvs_$service \"$@\" ;;\n*) _tapvs_main \"$@\" ;;\nesac",
        mine("ipvsadm-save")
    );
    out
}

fn zsh_ipvsadm(out: &mut String) {
    out.push_str("\n_tapvs_ipvsadm() {\n    local -a specs\n    case $words[2] in\n");
    for command in commands().filter(|command| command.opt != Opt::ListToo) {
        let short = match (command.opt, command.short) {
            (Opt::List, _) => "-L* | -l* | ".to_owned(),
            (_, Some(letter)) => format!("-{letter}* | "),
            (_, None) => String::new(),
        };
        let _ = writeln!(out, "    {short}--{}) specs=(", command.long);
        for (option, value, sentence) in options() {
            let same = option.opt == command.opt
                || (option.opt == Opt::ListToo && command.opt == Opt::List);
            if same || (!option.command && goes_with(command.opt, option.opt).is_some()) {
                zsh_option(out, option, value, sentence);
            }
        }
        out.push_str("    ) ;;\n");
    }
    out.push_str("    esac\n    if (( CURRENT == 2 )); then specs=(\n");
    for (option, value, sentence) in options().filter(|(option, ..)| option.command) {
        zsh_option(out, option, value, sentence);
    }
    out.push_str("    ); fi\n    _arguments -s $specs\n}\n");
}

fn zsh_option(out: &mut String, option: &Spelling, value: &str, sentence: &str) {
    let action = zsh_action(&offer_ipvsadm(option, value));
    let value = match option.takes {
        Takes::Nothing => String::new(),
        Takes::Value => format!(":{value}:{action}"),
        Takes::Perhaps => format!("::{value}:{action}"),
    };
    let all = names(option).join(" ");
    for name in names(option) {
        // `--list` is there twice.
        if option.opt == Opt::ListToo && name.starts_with("--") {
            continue;
        }
        let text = format!("({all}){name}[{}]{value}", zsh_text(sentence));
        let _ = writeln!(out, "        {}", zsh_quoted(&text));
    }
}

fn zsh_flag(out: &mut String, flag: &Flag) {
    let value = match (flag.value, flag_offer(flag)) {
        (Some(name), Some(offer)) => {
            let name = if name.contains('|') { "which" } else { name };
            format!(":{name}:{}", zsh_action(&offer))
        }
        _ => String::new(),
    };
    let all = flag.names.join(" ");
    for name in &flag.names {
        let text = format!("({all}){name}[{}]{value}", zsh_text(flag.sentence));
        let _ = writeln!(out, "        {} \\", zsh_quoted(&text));
    }
}

fn zsh_action(offer: &Offer) -> String {
    match offer {
        Offer::Files => "_files".to_owned(),
        Offer::Folders => "_files -/".to_owned(),
        Offer::Words(words) => format!("({})", words.join(" ")),
        Offer::Services(letter) => format!("_tapvs_services {}", option(*letter)),
        Offer::Servers => "_tapvs_services -r".to_owned(),
        Offer::Nothing => " ".to_owned(),
    }
}

fn zsh_text(text: &str) -> String {
    text.replace('[', "\\[").replace(']', "\\]").replace(':', "\\:")
}

fn zsh_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

const ZSH: &str = r##"# Completion of tapvs and ipvsadm for zsh.

# What stands behind the last argument, an option, in what runs.
_tapvs_services() {
    local -a found
    local program=(ipvsadm)
    [[ $service == tapvs ]] && program=(tapvs ipvsadm)
    found=(${(uf)"$(_call_program services $program -Sn 2>/dev/null | awk -v option=$argv[-1] \
        '{ for (i = 1; i < NF; i++) if ($i == option) print $(i + 1) }')"})
    compadd "${(@)argv[1,-2]}" -a found
}
"##;

/// For fish.
pub(super) fn fish() -> String {
    let mut out = format!("# Completion of tapvs and ipvsadm for fish.\n{HEAD}{FISH}");
    let info = cli::definition();
    out.push_str("\ncomplete -c tapvs -f\n");
    for flag in &flags_of(&info) {
        fish_flag(&mut out, "__fish_use_subcommand", flag);
    }
    for sub in &info.commands {
        let _ = writeln!(
            out,
            "complete -c tapvs -n __fish_use_subcommand -a {} -d {}",
            sub.name,
            fish_quoted(first(sub.command.description))
        );
    }
    for sub in info.commands.iter().filter(|sub| sub.name != "ipvsadm") {
        let when = format!("__fish_seen_subcommand_from {}", sub.name);
        for flag in &flags_of(&sub.command) {
            fish_flag(&mut out, &when, flag);
        }
        match positional(&sub.command) {
            Offer::Files => {
                let _ = writeln!(out, "complete -c tapvs -n '{when}' -F");
            }
            Offer::Words(words) => {
                let _ = writeln!(out, "complete -c tapvs -n '{when}' -a '{}'", words.join(" "));
            }
            Offer::Folders | Offer::Services(_) | Offer::Servers | Offer::Nothing => {}
        }
    }
    out.push_str(
        "complete -c tapvs -n '__fish_seen_subcommand_from ipvsadm' -a '(__tapvs_as_ipvsadm)'\n\n\
         complete -c ipvsadm -f\ncomplete -c ipvsadm-restore -f\n",
    );
    let _ = writeln!(
        out,
        "complete -c ipvsadm-save -f -s {} -d 'addresses and ports as numbers'",
        mine("ipvsadm-save").trim_start_matches('-')
    );
    for (option, value, sentence) in options() {
        let when = match option.command {
            true => "__tapvs_no_command".to_owned(),
            false => fish_after(option),
        };
        let short = option.short.map_or(String::new(), |letter| format!(" -s {letter}"));
        let value = match option.takes {
            Takes::Nothing | Takes::Perhaps => String::new(),
            Takes::Value => format!(" -x{}", fish_arguments(&offer_ipvsadm(option, value))),
        };
        let _ = writeln!(
            out,
            "complete -c ipvsadm -n '{when}'{short} -l {} {}-d {}",
            option.long,
            if value.is_empty() { String::new() } else { format!("{} ", value.trim_start()) },
            fish_quoted(sentence)
        );
    }
    out
}

/// The condition that a command was given with which the option goes.
fn fish_after(option: &Spelling) -> String {
    let fits = |command: &&Spelling| goes_with(command.opt, option.opt).is_some();
    let all = commands().filter(fits).flat_map(|command| {
        let short = command.short.map(|letter| format!("-{letter}"));
        short
            .into_iter()
            .chain((command.opt != Opt::ListToo).then(|| format!("--{}", command.long)))
    });
    format!("__tapvs_after {}", all.collect::<Vec<_>>().join(" "))
}

fn fish_flag(out: &mut String, when: &str, flag: &Flag) {
    let names = flag.names.iter().map(|name| match name.strip_prefix("--") {
        Some(long) => format!("-l {long}"),
        None => format!("-s {}", &name[1..]),
    });
    let names: Vec<_> = names.collect();
    let value = match flag_offer(flag) {
        None => String::new(),
        Some(Offer::Files) => " -r -F".to_owned(),
        Some(offer) => format!(" -x{}", fish_arguments(&offer)),
    };
    let _ = writeln!(
        out,
        "complete -c tapvs -n '{when}' {}{value} -d {}",
        names.join(" "),
        fish_quoted(flag.sentence)
    );
}

fn fish_arguments(offer: &Offer) -> String {
    match offer {
        Offer::Words(words) => format!(" -a '{}'", words.join(" ")),
        Offer::Services(letter) => format!(" -a '(__tapvs_services {})'", option(*letter)),
        Offer::Servers => " -a '(__tapvs_services -r)'".to_owned(),
        Offer::Files | Offer::Nothing => String::new(),
        Offer::Folders => " -a '(__fish_complete_directories)'".to_owned(),
    }
}

fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

const FISH: &str = r##"
# No command of ipvsadm has been given yet.
function __tapvs_no_command
    test (count (commandline -opc)) -eq 1
end

# The command of ipvsadm is one of these, perhaps with letters behind it.
function __tapvs_after
    set -l words (commandline -opc)
    for command in $argv
        test "$words[2]" = $command && return 0
        string match -qr -- '^-[^-]$' $command && string match -q -- "$command*" "$words[2]" && return 0
    end
    return 1
end

# What stands behind the option in what runs.
function __tapvs_services
    set -l program ipvsadm
    test (commandline -opc)[1] = tapvs && set program tapvs ipvsadm
    command $program -Sn 2>/dev/null | string match -rga -- " $argv[1] (\S+)" | sort -u
end

function __tapvs_as_ipvsadm
    complete -C (string replace -r -- '^\s*\S+.*?\sipvsadm\s' 'ipvsadm ' (commandline -cp))
end
"##;

/// A description's first sentence, without its full stop.
fn first(text: &str) -> &str {
    text.split(". ").next().unwrap_or(text).trim_end_matches('.')
}
