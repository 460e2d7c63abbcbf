//! Every command of the articles that operators learn from: it has its meaning, or it is explained and
//! passed over, or it is a slip of the pen and complained about.

use tapvs::config::rules::{read, Read};
use tapvs::config::Config;

const COMMANDS: &str = include_str!("literature/commands.txt");

/// What the articles take for granted.
const BEFORE: &str = "\
ip tuntap add dev eth0 mode tap
ip tuntap add dev ens33 mode tap
ip addr add 192.168.0.2/24 dev ens33
ip addr add 192.168.0.10/24 dev ens33
";

/// What one command takes for granted beside that.
fn setting(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let service = words.iter().position(|word| *word == "-t").and_then(|at| words.get(at + 1));
    match service {
        Some(service) if words.contains(&"-a") => format!("{BEFORE}-A -t {service} -p\n"),
        _ if command.contains("route del") => {
            format!("{BEFORE}ip route add default via 192.168.0.1\n")
        }
        _ if command.contains("gw 10.0.0.234") => {
            format!("{BEFORE}ip addr add 10.0.0.2/24 dev eth0\n")
        }
        _ if command.contains("ip_forward = 1") || command.contains("echo 1") => {
            format!("{BEFORE}net.ipv4.ip_forward = 0\n")
        }
        _ if command.ends_with("-C") => format!("{BEFORE}-A -f 1\n"),
        _ => BEFORE.to_owned(),
    }
}

/// The kind of a command, from what it does to the state and what is said about it.
fn kind(command: &str) -> &'static str {
    let before = setting(command);
    let old = read("r", &before).unwrap_or_else(|all| panic!("{}", all[0])).config;
    match read("r", &format!("{before}{command}\n")) {
        Err(all) if all.iter().all(|c| c.expected.is_some()) || all.len() == 1 => "complaint",
        Err(_) => "a complaint without advice",
        Ok(Read { config, asides, .. }) => match (config == old, asides.len()) {
            (false, 0) => "meaning",
            (true, 1) => "explained",
            (true, 0) => "nothing at all",
            _ => "several things",
        },
    }
}

#[test]
fn every_command_of_the_articles_has_its_meaning_or_is_explained() {
    let mut wrong = Vec::new();
    let lines = COMMANDS.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    let all: Vec<_> = lines.filter_map(|line| line.split_once(char::is_whitespace)).collect();
    for (wanted, command) in &all {
        let found = kind(command.trim_start());
        if found != *wanted {
            wrong.push(format!("{command}: {found}, wants {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(all.len() > 50, "{} commands", all.len());
}

/// The director's part of the how-to and the real server's, pasted one behind the other.
const HOW_TO: &str = "\
ip tuntap add dev eth0 mode tap
># ifconfig eth0 123.234.1.102 netmask 255.255.255.0 up
># ifconfig eth0:1 123.234.1.101 netmask 255.255.255.0 up
># echo 1 >/proc/sys/net/ipv4/ip_forward
># ipvsadm -A -t 123.234.1.101:80 -s rr
># echo 1 >/proc/sys/net/ipv4/conf/lo/arp_ignore
># ifconfig lo:0 123.234.1.101 netmask 255.255.255.255 up
># ifconfig
># route add -host 123.234.1.101 dev lo:0
># ipvsadm -a -t 123.234.1.101:80 -r 123.234.1.111 -g
># watch n -1 ipvsadm -Ln
";

#[test]
fn an_article_can_be_pasted_and_says_what_its_rules_say() {
    let Read { config, asides, .. } = read("r", HOW_TO).unwrap_or_else(|all| panic!("{}", all[0]));
    let same = "ip tuntap add dev eth0 mode tap\nip addr add 123.234.1.102/24 dev eth0\n\
        ip addr add 123.234.1.101/24 dev eth0\n-A -t 123.234.1.101:80 -s rr\n\
        -a -t 123.234.1.101:80 -r 123.234.1.111\n";
    let wanted: Config = read("r", same).expect("is right").config;
    assert_eq!(config, wanted);
    let told: Vec<_> = asides.iter().map(|aside| (aside.line, aside.real_server)).collect();
    assert_eq!(told, [(6, true), (7, true), (8, false), (9, true), (11, false)]);
    assert!(asides[1].text.contains("`tapvs realserver -r FILE`"), "{}", asides[1].text);
}

#[test]
fn the_real_servers_address_is_not_put_in_the_directors_place() {
    let text = format!("{HOW_TO}ifconfig eth0 123.234.1.111 netmask 255.255.255.0 up\n");
    let all = read("r", &text).expect_err("the second address");
    assert_eq!((all.len(), all[0].line), (1, 12));
    assert!(all[0].to_string().contains("`ifconfig eth0:1` adds one"), "{}", all[0]);
}
