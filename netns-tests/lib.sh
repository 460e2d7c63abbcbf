# shellcheck shell=bash
# What every topology needs: namespaces, wires, servers, captures, checks. Sourced, never run.
#
# A test sources this file, builds hosts and wires, starts the director with `balance`, speaks as a
# client, says what must hold with `same`/`expect`/…, and ends with `finish`. Whatever happens
# (success, failure, Ctrl-C, the time limit), the EXIT trap ends each process by the pid under which
# it was started and removes each namespace by the name under which it was made; the names carry
# this process's id, so two runs never meet.
#
# The director's host is the namespace `lb`. It holds the bridges; every other host hangs on one of
# them by a veth pair, and the rules file puts the kernel's ends of tapvs's TAPs into the same
# bridges. Only `lb` ever runs tapvs, and it never routes (but for the TUN test, which says so).
#
#   exit 0 passed · 1 failed · 4 skipped aloud (with CI=true a skip is a failure)

set -u -o pipefail
export LC_ALL=C
# The checks read the account of frames from the log, which is written at this level.
export RUST_LOG=info

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
TAPVS=${TAPVS:-$ROOT/target/debug/tapvs}
LIMIT=${LIMIT:-180}
# Drop reasons that this test allows; a test that expects one sets DROPS before `finish`.
DROPS=${DROPS:-}

# The whole script runs under `timeout`, which also reaches a child that hangs.
if [ -z "${TAPVS_TEST_LIMITED:-}" ]; then
    TAPVS_TEST_LIMITED=1 exec timeout --kill-after=15 "$LIMIT" bash "$0" "$@"
fi
unset TAPVS_TEST_LIMITED

NAME=$(basename "$0" .sh)
PFX=tv$$-
WORK=$(mktemp -d "${TMPDIR:-/tmp}/tapvs-$NAME.XXXXXX")
# Namespaces of the network share the file system: each test has a control socket of its own.
export TAPVS_SOCKET=$WORK/tapvs.sock
PYTHON=$(command -v /usr/bin/python3 || command -v python3 || echo python3)
HOSTS=()
PIDS=()
SCRAP=("$WORK")
CHECKS=0
FAILS=0
DIRECTOR=

# ---- the end, planned first --------------------------------------------------------------------

cleanup() {
    local status=$? pid host
    trap '' HUP INT PIPE TERM
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do stop "$pid"; done
    for host in ${HOSTS[@]+"${HOSTS[@]}"}; do
        # Only what this script started lives in a namespace that this script made.
        for pid in $(ip netns pids "$PFX$host" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
        ip netns del "$PFX$host" 2>/dev/null
    done
    if [ "$status" -ne 0 ] && [ "$status" -ne 4 ]; then
        [ "$status" -ge 124 ] && echo "  FAIL ended by a signal or by the time limit of $LIMIT s"
        leave_logs
    fi
    rm -rf "${SCRAP[@]}"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# Prints the director's log, so that a failure can be read from the test's output alone.
leave_logs() {
    [ -s "$WORK/director.log" ] || return 0
    echo "  --- end of the director's log"
    tail -n 40 "$WORK/director.log" | sed 's/^/  | /'
}

# Ends one process that we started: TERM, two seconds, KILL.
stop() {
    local pid=$1 _
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in {1..40}; do
        kill -0 "$pid" 2>/dev/null || { wait "$pid" 2>/dev/null; return 0; }
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    return 0
}

skip() {
    echo "  SKIP $*"
    [ "${CI:-}" = true ] && { echo "  a skip is a failure where CI=true"; exit 1; }
    exit 4
}

die() { echo "  FAIL $*"; exit 1; }

# ---- what the environment must have --------------------------------------------------------------

# needs TOOL...: skips where a tool, the rights or the device node is missing.
needs() {
    local tool
    [ "$(id -u)" = 0 ] || skip "needs root (namespaces and TAPs)"
    for tool in ip sysctl "$PYTHON" "$@"; do
        command -v "$tool" >/dev/null || skip "needs $tool (make deps installs it)"
    done
    [ -c /dev/net/tun ] || skip "needs /dev/net/tun"
    ip netns add "${PFX}try" 2>/dev/null || skip "needs the right to make network namespaces"
    ip netns del "${PFX}try"
    [ -x "$TAPVS" ] || die "no $TAPVS (make netns builds it)"
}

# ---- hosts and wires -------------------------------------------------------------------------------

# on HOST COMMAND...: runs in that host's namespace.
on() { local host=$1; shift; ip netns exec "$PFX$host" "$@"; }

# A host without wires. IPv6 is on only where the test says V6=yes: a quiet kernel sends nothing by
# itself, so the frame counters speak of the test alone.
host() {
    local host
    for host in "$@"; do
        ip netns add "$PFX$host" || die "cannot make the namespace of $host"
        HOSTS+=("$host")
        if [ "${V6:-no}" = yes ]; then
            on "$host" sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
                net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.default.router_solicitations=0
        else
            on "$host" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        fi
        on "$host" sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        ip -n "$PFX$host" link set lo up
    done
}

# director_host BRIDGE...: the namespace `lb` with these bridges. They forward at once, and their
# frames do not walk through netfilter's hooks (br_netfilter may be built into the kernel).
director_host() {
    local bridge
    host lb
    on lb sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 \
        net.bridge.bridge-nf-call-arptables=0 2>/dev/null
    on lb sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    for bridge in "$@"; do
        ip -n "${PFX}lb" link add name "$bridge" type bridge forward_delay 0 stp_state 0 mcast_snooping 0
        ip -n "${PFX}lb" link set "$bridge" up
    done
}

# wire HOST DEV BRIDGE ADDRESS/LEN...: a veth from the host's DEV to a bridge of the director's
# host. Transmit offload is off at the host's end, so that captures show real checksums. Further
# wires of the same host are further calls.
wire() {
    local host=$1 dev=$2 bridge=$3 peer="$1.$2" address
    shift 3
    ip link add "$dev" netns "$PFX$host" type veth peer name "$peer" netns "${PFX}lb" \
        || die "cannot lay the wire $host:$dev"
    ip -n "${PFX}lb" link set "$peer" master "$bridge" up
    on "$host" ethtool -K "$dev" tx off >/dev/null 2>&1
    ip -n "$PFX$host" link set "$dev" up
    for address in "$@"; do
        case $address in
        *:*) ip -n "$PFX$host" addr add "$address" dev "$dev" nodad ;;
        *) ip -n "$PFX$host" addr add "$address" dev "$dev" ;;
        esac || die "cannot give $host the address $address"
    done
}

# gateway HOST ADDRESS...: the host's default routes, one for each family given.
gateway() {
    local host=$1 via
    shift
    for via in "$@"; do ip -n "$PFX$host" route replace default via "$via" || die "gateway of $host"; done
}

# A host that routes between its wires.
router() {
    on "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0
    [ "${V6:-no}" = yes ] && on "$1" sysctl -qw net.ipv6.conf.all.forwarding=1
    return 0
}

# mac HOST DEV: the link address of a host's wire.
mac() { on "$1" cat "/sys/class/net/$2/address"; }

# until_true SECONDS COMMAND...: waits until the command succeeds, and four times as long as that before it
# is given up: the machine may be busy with something else.
until_true() {
    local rounds=$(($1 * 80)) round
    shift
    for ((round = 0; round < rounds; round++)); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}

# ---- the streets that several tests live in ---------------------------------------------------------
# FAMILY is 4 or 6; `at NET HOST` is the address in that family: 10.77.1.2 or fd77:1::2.

FAMILY=${FAMILY:-4}
at() { if [ "$FAMILY" = 6 ]; then echo "fd77:$1::$2"; else echo "10.77.$1.$2"; fi; }
net() { if [ "$FAMILY" = 6 ]; then echo "$(at "$1" "$2")/64"; else echo "$(at "$1" "$2")/24"; fi; }
# An address as it stands before `:port` in a URL or in an ipvsadm line.
bare() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }

# Two networks, the director between them: client .1.2, servers s1 s2 s3 at .2.11 .2.12 .2.13.
street_nat() {
    local i
    director_host br-wan br-lan
    host cl s1 s2 s3
    wire cl eth0 br-wan "$(net 1 2)"
    gateway cl "$(at 1 1)"
    for i in 1 2 3; do
        wire "s$i" eth0 br-lan "$(net 2 1$i)"
        gateway "s$i" "$(at 2 1)"
    done
}

# One network: client .1.2 and servers s1 s2 s3 at .1.11 .1.12 .1.13 see each other.
street_dr() {
    local i
    director_host br-wan
    host cl s1 s2 s3
    wire cl eth0 br-wan "$(net 1 2)"
    for i in 1 2 3; do wire "s$i" eth0 br-wan "$(net 1 1$i)"; done
}

# Client .1.2; the router rt (.1.254, .2.254, .3.1) leads from the director's inside network .2
# to the servers s1 s2 s3 at .3.11 .3.12 .3.13, and has a way of its own back to the client.
street_tunnel() {
    local i
    director_host br-wan br-lan br-far
    host cl rt s1 s2 s3
    wire cl eth0 br-wan "$(net 1 2)"
    gateway cl "$(at 1 1)"
    wire rt wan br-wan "$(net 1 254)"
    wire rt lan br-lan "$(net 2 254)"
    wire rt far br-far "$(net 3 1)"
    router rt
    for i in 1 2 3; do
        wire "s$i" eth0 br-far "$(net 3 1$i)"
        gateway "s$i" "$(at 3 1)"
    done
}

# next_street: the director ends with its checks, and everything of this street goes.
next_street() {
    local pid host
    end_director
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do stop "$pid"; done
    PIDS=()
    for host in "${HOSTS[@]}"; do ip netns del "$PFX$host"; done
    HOSTS=()
}

# ---- programs ------------------------------------------------------------------------------------------

# start LOG COMMAND...: in the background, remembered; the pid is in $STARTED. (`ip netns exec`
# replaces itself by the command, so the pid is the command's own.)
start() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null &
    STARTED=$!
    PIDS+=("$STARTED")
}

# rules: the rules file of this test, from standard input.
rules() { cat >"$WORK/rules"; }

# balance FILE: starts tapvs on the director's host, with WORKERS threads if that is set, and waits for
# `ready`.
balance() {
    local file=$1
    : >"$WORK/director.out"
    ip netns exec "${PFX}lb" "$TAPVS" run -r "$file" --seed 1 ${WORKERS:+--workers} ${WORKERS:+"$WORKERS"} \
        >"$WORK/director.out" 2>"$WORK/director.log" </dev/null &
    DIRECTOR=$!
    PIDS+=("$DIRECTOR")
    until_true 5 grep -qx ready "$WORK/director.out" || die "tapvs did not say ready"
}

# reload: has the director read its rules again, and waits until that has ended, in whatever way. It looks
# often, since 18-reload does this a thousand times.
reload() {
    local before _
    before=$(reloads)
    kill -HUP "$DIRECTOR"
    for _ in {1..2000}; do
        [ "$(reloads)" -gt "$before" ] && return
        sleep 0.002
    done
    die "a reload does not end"
}
reloads() { grep -c 'reload: done\|rules are the same\|nothing was changed' "$WORK/director.log"; }

# use FILE: puts it in the place of the rules, whole, and has them read again.
use() { cp "$1" "$WORK/next" && mv "$WORK/next" "$WORK/rules" && reload; }

# serve HOST NAME PORT [ADDRESS]: an HTTP server that answers with its own name.
serve() { helper "$1" http "$2" "$3" "${4:-}"; }

# helper HOST KIND NAME PORT [ADDRESS]: http, udp (echo) or dns of host.py; waits until it listens.
helper() {
    local log="$WORK/$1.$2.$4.log" address=${5:-}
    [ -n "$address" ] || { address=0.0.0.0; [ "$FAMILY" = 6 ] && address=::; }
    start "$log" ip netns exec "$PFX$1" "$PYTHON" "$HERE/host.py" "$2" "$3" "$address" "$4"
    until_true 5 grep -q listening "$log" || { cat "$log"; die "$2 on $1 does not listen"; }
}

# as_told FILE HOST ADDRESS: runs on the host the script that tapvs prints for the server ADDRESS.
as_told() {
    "$TAPVS" realserver -r "$1" --server "$3" >"$WORK/$2.sh" 2>"$WORK/$2.err" \
        || { cat "$WORK/$2.err"; die "tapvs realserver --server $3"; }
    [ -s "$WORK/$2.sh" ] || die "tapvs realserver printed nothing for $3"
    on "$2" env PATH="$(dirname "$TAPVS"):$PATH" timeout 5 sh -e "$WORK/$2.sh" >"$WORK/$2.told" 2>&1 \
        || { cat "$WORK/$2.sh" "$WORK/$2.told"; die "the script for $3 failed"; }
}

# decap HOST [OPTION …]: takes tunnels off there by our own binary; waits for `ready`.
decap() {
    start "$WORK/$1.decap" ip netns exec "$PFX$1" "$TAPVS" realserver --decap "${@:2}"
    until_true 5 grep -qx ready "$WORK/$1.decap" || { cat "$WORK/$1.decap"; die "decap on $1 is not ready"; }
}

# get HOST COUNT URL: so many requests one after the other, each a connection of its own (the
# server speaks HTTP/1.0); prints one answer a line.
get() { on "$1" curl -sS -m 5 --noproxy '*' "$3?[1-$2]" 2>&1; }

# shares: how often each line occurs, as `a×3 b×2`, sorted by name.
shares() { sort | uniq -c | awk '{ printf "%s%s×%s", (NR > 1 ? " " : ""), $2, $1 } END { print "" }'; }

# ---- captures ------------------------------------------------------------------------------------------

# capture NAME HOST DEV [FILTER]: from now on; waits until tcpdump listens. In immediate mode each frame takes
# a snapshot's whole size of its buffer, so that needs to be large (KiB).
capture() {
    local name=$1 host=$2 dev=$3
    shift 3
    start "$WORK/$name.tcpdump" ip netns exec "$PFX$host" \
        tcpdump -i "$dev" -n -U --immediate-mode -s 0 -B 65536 -w "$WORK/$name.pcap" "$@"
    declare -g "CAPTURE_${name//-/_}=$STARTED"
    until_true 5 grep -q 'listening on' "$WORK/$name.tcpdump" \
        || { cat "$WORK/$name.tcpdump"; die "tcpdump does not listen on $host:$dev"; }
}

# captured NAME...: ends these captures; the frames are in $WORK/NAME.pcap.
captured() {
    local name pid
    sleep 0.2
    for name in "$@"; do
        pid="CAPTURE_${name//-/_}"
        stop "${!pid}"
        grep -q '^0 packets dropped by kernel' "$WORK/$name.tcpdump" \
            || echo "  note: the capture $name is not whole: $(grep dropped "$WORK/$name.tcpdump")"
    done
}

# frames NAME [FILTER]: how many captured frames pass the filter.
frames() { local name=$1; shift; tcpdump -nr "$WORK/$name.pcap" "$@" 2>/dev/null | wc -l; }

# no_bad_checksum NAME: tcpdump -v finds no wrong checksum, and had something to look at. Packets that
# ICMP errors quote are left out: as in the kernel, the transport checksum inside is not mended.
no_bad_checksum() {
    local bad seen
    tcpdump -nvvr "$WORK/$1.pcap" \
        'not (icmp[icmptype] == icmp-unreach or icmp[icmptype] == icmp-timxceed) and not (icmp6 and ip6[40] < 128)' \
        >"$WORK/$1.txt" 2>/dev/null
    bad=$(grep -ciE 'incorrect|bad (udp )?cksum|wrong' "$WORK/$1.txt")
    seen=$(grep -ciE '\(correct\)|cksum|sum ok' "$WORK/$1.txt")
    same "no bad checksum in the capture at $1" 0 "$bad"
    at_least "checksums were seen there" 1 "$seen"
}

# ---- what must hold ------------------------------------------------------------------------------------

passed() { CHECKS=$((CHECKS + 1)); echo "  ok   $1"; }
failed() {
    CHECKS=$((CHECKS + 1))
    FAILS=$((FAILS + 1))
    echo "  FAIL $1"
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@"
}

# expect WHAT COMMAND...: the command succeeds.
expect() {
    local what=$1 out
    shift
    if out=$("$@" 2>&1); then passed "$what"; else failed "$what" "$*" "$out"; fi
}

# refuse WHAT COMMAND...: the command does not succeed.
refuse() {
    local what=$1 out
    shift
    if out=$("$@" 2>&1); then failed "$what" "$*" "$out"; else passed "$what"; fi
}

# same WHAT WANT GOT
same() { if [ "$2" = "$3" ]; then passed "$1: $3"; else failed "$1" "want: $2" "got:  $3"; fi; }

# at_least WHAT WANT GOT
at_least() { if [ "$3" -ge "$2" ]; then passed "$1: $3"; else failed "$1" "want at least $2" "got $3"; fi; }

# holds WHAT PATTERN FILE: a line of the file matches the extended regular expression.
holds() { if grep -qE -- "$2" "$3"; then passed "$1"; else failed "$1" "no line matches $2 in:" "$(cat "$3")"; fi; }

# lacks WHAT PATTERN FILE
lacks() { if grep -qE -- "$2" "$3"; then failed "$1" "$(grep -E -- "$2" "$3")"; else passed "$1"; fi; }

# ---- the director's own word ---------------------------------------------------------------------------

# table: the listing that SIGUSR1 puts into the log, without the log's own prefix and indentation.
table() {
    local before
    before=$(wc -l <"$WORK/director.log")
    kill -USR1 "$DIRECTOR"
    until_true 3 accounted_after "$before" || die "SIGUSR1 did not log the table"
    tail -n "+$((before + 1))" "$WORK/director.log" | plain_log \
        | sed -n '/IP Virtual Server/,/frames: received/p' | grep -v 'frames: received'
}
accounted_after() { tail -n "+$(($1 + 1))" "$WORK/director.log" | grep -q 'frames: received'; }
plain_log() { sed -E -e 's/^\[[^]]*\] //; t' -e 's/^ {4}//'; }

# finish: ends the director as an operator would, checks that it ended cleanly and that it accounts
# for every frame, and closes the test.
finish() {
    if [ -n "$DIRECTOR" ]; then end_director; fi
    echo "  $CHECKS checks, $FAILS failed"
    [ "$FAILS" -eq 0 ] || exit 1
    exit 0
}

# end_director: SIGTERM, exit code 0, accounting.
end_director() {
    local status _
    kill -TERM "$DIRECTOR" 2>/dev/null
    for _ in {1..100}; do
        kill -0 "$DIRECTOR" 2>/dev/null || break
        sleep 0.05
    done
    if kill -0 "$DIRECTOR" 2>/dev/null; then
        failed "tapvs ends within 5 s of SIGTERM"
        kill -KILL "$DIRECTOR"
    fi
    wait "$DIRECTOR"
    status=$?
    DIRECTOR=
    same "exit code after SIGTERM" 0 "$status"
    lacks "no panic in the log" 'panicked' "$WORK/director.log"
    accounts
}

# accounts: each received frame was forwarded, answered or dropped, and dropped only for reasons
# that this test names in DROPS, or for two that any wire brings: a bridge floods frames for others, and
# IPv6 hosts speak to groups.
accounts() {
    local line received forwarded answered dropped drops reason name sum=0
    line=$(grep -o 'frames: received.*' "$WORK/director.log" | tail -n 1)
    [ -n "$line" ] || { failed "the log ends with the account of frames"; return; }
    number() { sed -nE "s/.*\b$1 ([0-9]+).*/\1/p" <<<"$line"; }
    received=$(number received) forwarded=$(number forwarded)
    answered=$(number answered) dropped=$(number dropped)
    if [ -z "$received" ] || [ -z "$forwarded" ] || [ -z "$answered" ] || [ -z "$dropped" ]; then
        failed "the account of frames can be read" "$line"
        return
    fi
    same "every frame is accounted for" "$received" "$((forwarded + answered + dropped))"
    drops=$(sed -nE 's/.*drops: *//p' <<<"$line" | grep -oE '[a-z0-9-]+=[0-9]+')
    for reason in $drops; do
        name=${reason%=*}
        sum=$((sum + ${reason#*=}))
        case " other-station group-destination $DROPS " in
        *" $name "*) ;;
        *) failed "a frame was dropped for a reason that nobody expected: $reason" "$line" ;;
        esac
    done
    same "every drop has a named reason" "$dropped" "$sum"
}
