//! `modprobe ip_vs_ftp` lines become commands.
//!
//! The kernel's FTP helper is a module, and loading it is how an operator asks for it, so that is how
//! it is asked for here. Kept from the kernel: without `ports=` it is port 21; up to eight ports, of
//! which 0 is none; connections that exist already get no helper. Left out on purpose: every other
//! module; tapvs needs none, and their lines are passed over.

use super::command::{Placed, Spots};
use super::complaint::{advice, Fault};
use super::grammar::Word;
use super::host::{host, once};
use super::Command;

/// The port of FTP control connections.
const FTP: u16 = 21;

/// The most ports that the module takes.
const PORTS_MAX: usize = 8;

/// Whether a word names the helper's module.
pub(super) fn is_helper(word: &Word<'_>) -> bool {
    matches!(&*word.text, "ip_vs_ftp" | "ip-vs-ftp")
}

/// The command of a `modprobe` line that names the helper; `program` is the first word.
///
/// # Errors
/// Words that mean nothing here, ports that are none.
pub(super) fn modprobe(program: &Word<'_>, words: &[Word<'_>]) -> Result<Placed, Fault> {
    let (mut ports, mut removes) = (None, program.text.ends_with("rmmod"));
    for word in words {
        match &*word.text {
            "-r" | "--remove" => removes = true,
            "-a" | "-v" | "-q" => {}
            text if is_helper(word) || text.starts_with("ip_vs") => {}
            text => {
                let list = text.strip_prefix("ports=").ok_or_else(|| unknown(word))?;
                once(&mut ports, read_ports(list, word)?, word)?;
            }
        }
    }
    let ports = if removes { Vec::new() } else { ports.unwrap_or_else(|| vec![FTP]) };
    let spots = Spots { object: Some(program.at.clone()), ..Spots::at(program.at.clone()) };
    Ok(Placed { command: Command::SetFtpPorts(ports), spots })
}

fn unknown(word: &Word<'_>) -> Fault {
    const KEYS: &[&str] = &["ports=21", "-r"];
    host(word, format!("`{}` means nothing here in `modprobe ip_vs_ftp`", word.text))
        .expecting(advice("`ports=PORT,…` or `-r`", &word.text, KEYS))
}

fn read_ports(list: &str, word: &Word<'_>) -> Result<Vec<u16>, Fault> {
    let expected = "expected up to eight different ports, as in `ports=21,2121`";
    let wrong = || host(word, format!("`{}` is no list of ports", word.text)).expecting(expected);
    let mut ports: Vec<u16> = Vec::new();
    for part in list.split(',') {
        let port = part.parse().map_err(|_| wrong())?;
        if ports.contains(&port) {
            return Err(wrong());
        }
        if port != 0 {
            ports.push(port);
        }
    }
    match ports.len() {
        1..=PORTS_MAX => Ok(ports),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::load;

    fn ports(text: &str) -> Option<Vec<u16>> {
        load("r", text).ok().map(|config| config.ftp_ports)
    }

    #[test]
    fn the_module_is_loaded_for_port_21_or_the_ports_that_are_given() {
        assert_eq!(ports("modprobe ip_vs\n"), Some(vec![]));
        assert_eq!(ports("sudo modprobe ip_vs_ftp\n"), Some(vec![21]));
        assert_eq!(ports("/sbin/modprobe -a ip_vs ip_vs_ftp\n"), Some(vec![21]));
        assert_eq!(ports("modprobe ip_vs_ftp ports=2121,0,8021\n"), Some(vec![2121, 8021]));
        assert_eq!(ports("modprobe ip_vs_ftp\nmodprobe -r ip_vs_ftp\n"), Some(vec![]));
        assert_eq!(ports("modprobe ip_vs_ftp\nmodprobe ip_vs_ftp\n"), Some(vec![21]));
    }

    #[test]
    fn what_is_no_list_of_ports_is_a_mistake() {
        for list in ["", "0", "x", "21,", "65536", "21,21", "1,2,3,4,5,6,7,8,9", "-1"] {
            assert_eq!(ports(&format!("modprobe ip_vs_ftp ports={list}\n")), None, "{list}");
        }
        assert_eq!(ports("modprobe ip_vs_ftp port=21\n"), None);
        assert_eq!(ports("modprobe ip_vs_ftp ports=21 ports=22\n"), None);
    }

    #[test]
    fn a_module_that_is_loaded_with_other_ports_is_to_be_unloaded_first() {
        assert_eq!(ports("modprobe ip_vs_ftp\nmodprobe ip_vs_ftp ports=2121\n"), None);
        let changed = "modprobe ip_vs_ftp\nmodprobe -r ip_vs_ftp\nmodprobe ip_vs_ftp ports=2121\n";
        assert_eq!(ports(changed), Some(vec![2121]));
    }

    #[test]
    fn the_state_is_written_as_the_line_that_makes_it() {
        for text in ["modprobe ip_vs_ftp\n", "modprobe ip_vs_ftp ports=21,2121\n"] {
            assert_eq!(load("r", text).expect("is right").to_string(), text);
        }
    }
}
