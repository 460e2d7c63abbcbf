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
# What else may stand in somebody's environment has no say: rights, places, proxies.
umask 022
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
unset http_proxy https_proxy ftp_proxy all_proxy HTTPS_PROXY FTP_PROXY ALL_PROXY RUNTIME_DIRECTORY

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
TAPVS=${TAPVS:-$ROOT/target/debug/tapvs}
# Seconds. For what hangs, not for what is slow: the slowest machine needs less.
LIMIT=${LIMIT:-1200}
# Drop reasons that this test allows; a test that expects one sets DROPS before `finish`.
DROPS=${DROPS:-}

# The whole script runs under `timeout`, which also reaches a child that hangs.
if [ -z "${TAPVS_TEST_LIMITED:-}" ]; then
    TAPVS_TEST_LIMITED=1 exec timeout --kill-after=15 "$LIMIT" bash "$0" "$@"
fi
unset TAPVS_TEST_LIMITED

NAME=$(basename "$0" .sh)
PFX=tv$$-
# open_to_all DIR: whether anybody may walk into it.
open_to_all() {
    local dir
    dir=$(readlink -e "$1") || return 1
    while case $(stat -c %A "$dir") in *[xt]) [ "$dir" != / ] ;; *) return 1 ;; esac; do dir=$(dirname "$dir"); done
}
# The path of a socket is short, and others than root come here; a TMPDIR that cannot have both is not asked.
TMPDIR=${TMPDIR:-/tmp}
{ [ "${#TMPDIR}" -le 40 ] && open_to_all "$TMPDIR"; } || TMPDIR=/tmp
export TMPDIR
WORK=$(mktemp -d "$TMPDIR/tapvs-$NAME.XXXXXX") || exit 1
# Nobody's configuration of curl or lftp.
export HOME=$WORK
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

# Ends one process that we started: TERM, and KILL if half a minute later it is still there. One that has ended
# and been waited for may have left its number to somebody else's.
stop() {
    local pid=$1 _
    grep -qsx "PPid:[[:space:]]*$$" "/proc/$pid/status" || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in {1..600}; do
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
            on "$host" sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 \
                net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
                net.ipv6.conf.default.accept_ra=0 net.ipv6.conf.default.router_solicitations=0
        else
            on "$host" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        fi
        # A namespace begins with what the machine's own IPv4 was told.
        on "$host" sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.{all,default}.{rp_filter,arp_ignore,arp_announce}=0
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
    patient "$host" "$dev"
    for address in "$@"; do
        case $address in
        *:*) ip -n "$PFX$host" addr add "$address" dev "$dev" nodad ;;
        *) ip -n "$PFX$host" addr add "$address" dev "$dev" ;;
        esac || die "cannot give $host the address $address"
    done
}

# patient HOST DEV: a director that the machine holds up for some seconds is no neighbour that is gone.
patient() { on "$1" sysctl -eqw net.ipv{4,6}.neigh."$2".mcast_{re,}solicit=60; }

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

# until_true COMMAND...: waits until the command succeeds; only what never happens is given up, after a minute
# and more: the machine may be busy with something else. What is waited for must not hold for a moment too early.
until_true() {
    local _
    for _ in {1..1200}; do
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
    # What an earlier one said would be taken for this one's word.
    : >"$log"
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
    until_true is_said_or_over || die "tapvs did not say ready"
    grep -qx ready "$WORK/director.out" || die "tapvs ended before it was ready"
    # What leaves a port of a bridge before the kernel has heard of it is lost.
    until_true on lb sh -c '! grep -qsvx 3 /sys/class/net/*/brport/state' || die "a port of a bridge carries nothing"
}
is_said_or_over() { grep -qx ready "$WORK/director.out" || gone "$DIRECTOR"; }
# gone PID: whether one that we started has ended.
gone() { ! kill -0 "$1" 2>/dev/null; }

# reload: has the director read its rules again, and waits until that has ended, in whatever way. It looks
# often, since 18-reload does this a thousand times.
reload() {
    local before _
    before=$(reloads)
    kill -HUP "$DIRECTOR"
    for _ in {1..30000}; do
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
    until_true grep -q listening "$log" || { cat "$log"; die "$2 on $1 does not listen"; }
}

# as_told FILE HOST ADDRESS: runs on the host the script that tapvs prints for the server ADDRESS.
as_told() {
    "$TAPVS" realserver -r "$1" --server "$3" >"$WORK/$2.sh" 2>"$WORK/$2.err" \
        || { cat "$WORK/$2.err"; die "tapvs realserver --server $3"; }
    [ -s "$WORK/$2.sh" ] || die "tapvs realserver printed nothing for $3"
    on "$2" env PATH="$(dirname "$TAPVS"):$PATH" timeout 60 sh -e "$WORK/$2.sh" >"$WORK/$2.told" 2>&1 \
        || { cat "$WORK/$2.sh" "$WORK/$2.told"; die "the script for $3 failed"; }
}

# decap HOST [OPTION …]: takes tunnels off there by our own binary; waits for `ready`.
decap() {
    start "$WORK/$1.decap" ip netns exec "$PFX$1" "$TAPVS" realserver --decap "${@:2}"
    until_true grep -qx ready "$WORK/$1.decap" || { cat "$WORK/$1.decap"; die "decap on $1 is not ready"; }
}

# listening HOST PORT: waits until somebody on the host listens at the TCP port.
listening() { until_true listens "$@" || die "nobody on $1 listens at $2"; }
# A state of 0A is LISTEN.
listens() { on "$1" grep -qsE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$2") [0-9A-F:]+ 0A " /proc/net/tcp /proc/net/tcp6; }

# get HOST COUNT URL: so many requests one after the other, each a connection of its own (the
# server speaks HTTP/1.0); prints one answer a line.
get() { on "$1" curl -sS -m 60 --noproxy '*' "$3?[1-$2]" 2>&1; }

# hold HOST ADDRESS PORT: a connection to a tcp echo of host.py that stays open until `let_go`. What is answered
# comes to $WORK/held.
hold() {
    mkfifo "$WORK/hold"
    : >"$WORK/held"
    ip netns exec "$PFX$1" "$PYTHON" "$HERE/host.py" talk "$2" "$3" <"$WORK/hold" >"$WORK/held" 2>&1 &
    HELD=$!
    PIDS+=("$HELD")
    exec 7>"$WORK/hold"
    says before || die "the held connection does not answer: $(cat "$WORK/held")"
}
# says WORD: over the connection that is held; whether it is answered.
says() { echo "$1" >&7 && until_true is_answered "$1" && grep -q "$1" "$WORK/held"; }
is_answered() { grep -q "$1" "$WORK/held" || gone "$HELD"; }
let_go() { exec 7>&-; }

# echoes WHAT HOST [OPTION …] ADDRESS: a ping is answered, whenever.
echoes() { expect "$1" on "$2" ping -c 1 -W 60 "${@:3}"; }

# streams WHAT HOST SERVER ADDRESS [OPTION …]: iperf3 from the host to the address, at a listener of its own on
# the server; one that has just served may still be busy with that.
streams() {
    local listener
    start "$WORK/iperf3" ip netns exec "$PFX$3" iperf3 -s -1
    listener=$STARTED
    listening "$3" 5201
    expect "$1" on "$2" iperf3 -c "${@:4}" -f m
    until_true gone "$listener" || failed "the listener of $1 ends"
}

# load HOST SERVICE [OPTION …]: wrk asks the service (ADDRESS:PORT) until `unload`, eight requests at a time;
# goes on when the first have come. Until then and while it is counted, hardly anybody else may ask.
load() {
    LOADED=$(connections)
    start "$WORK/wrk" ip netns exec "$PFX$1" wrk -t 1 -c 8 -d 3600s --timeout 60s "${@:3}" "http://$2/"
    LOAD=$STARTED
    until_true has_loaded 1 || die "wrk does not begin: $(cat "$WORK/wrk")"
}
# unload COUNT: ends it when there were at least so many requests, and it sums up; none may have failed.
unload() {
    # What is under way is a connection and no request yet.
    until_true has_loaded $(($1 + 64)) || failed "there were $1 requests"
    until_true is_unloaded || die "wrk does not end"
    lacks "no request failed" 'Socket errors|Non-2xx|unable' "$WORK/wrk"
    at_least "requests meanwhile" "$1" "$(awk '/requests in/ { print $1 }' "$WORK/wrk")"
}
is_unloaded() { kill -INT "$LOAD"; gone "$LOAD"; }
has_loaded() { [ "$(connections)" -ge $((LOADED + $1)) ]; }
# connections: how many the director has had until this moment.
connections() { "$TAPVS" proc --json ip_vs_stats | sed -n 's/.*"live":{"connections":\([0-9]*\),.*/\1/p'; }

# shares: how often each line occurs, as `a×3 b×2`, sorted by name.
shares() { sort | uniq -c | awk '{ printf "%s%s×%s", (NR > 1 ? " " : ""), $2, $1 } END { print "" }'; }

# ---- captures ------------------------------------------------------------------------------------------

# capture NAME HOST DEV [FILTER]: from now on; waits until tcpdump listens. Its buffer (KiB) has room for all that
# a test sends, should it not come to read meanwhile; in immediate mode there would be room for few frames.
capture() {
    local name=$1 host=$2 dev=$3
    shift 3
    start "$WORK/$name.tcpdump" ip netns exec "$PFX$host" \
        tcpdump -i "$dev" -n -U -s 0 -B 65536 -w "$WORK/$name.pcap" "$@"
    declare -g "CAPTURE_${name//-/_}=$STARTED"
    until_true grep -q 'listening on' "$WORK/$name.tcpdump" \
        || { cat "$WORK/$name.tcpdump"; die "tcpdump does not listen on $host:$dev"; }
    until_true answers_usr1 "$STARTED" || die "tcpdump on $host:$dev does not tell how far it is"
}
answers_usr1() { (($(sed -n 's/^SigCgt:[[:space:]]*/0x/p' "/proc/$1/status") & 0x200)); }

# captured NAME...: ends these captures when all that has come until now is written; the frames are in
# $WORK/NAME.pcap.
captured() {
    local name pid
    for name in "$@"; do
        pid="CAPTURE_${name//-/_}"
        until_true is_written "$name" "${!pid}" || die "the capture $name does not end: $(cat "$WORK/$name.tcpdump")"
        stop "${!pid}"
        grep -q '^0 packets dropped by kernel' "$WORK/$name.tcpdump" \
            || echo "  note: the capture $name is not whole: $(grep dropped "$WORK/$name.tcpdump")"
    done
}

# is_written NAME PID: whether tcpdump, asked now, has written as many frames as the kernel has for it.
is_written() {
    local log=$WORK/$1.tcpdump before _
    before=$(grep -c 'dropped by kernel' "$log")
    kill -USR1 "$2"
    for _ in {1..100}; do
        [ "$(grep -c 'dropped by kernel' "$log")" -gt "$before" ] && break
        sleep 0.02
    done
    sed -n 's/^tcpdump: \([0-9]*\) packets* captured, \([0-9]*\) packets* received.*, \([0-9]*\) packets* dropped by kernel.*/\1 \2 \3/p' \
        "$log" | awk 'END { exit !(NR && $1 + $3 >= $2) }'
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
    until_true accounted_after "$before" || die "SIGUSR1 did not log the table"
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
    local status
    kill -TERM "$DIRECTOR" 2>/dev/null
    if ! until_true gone "$DIRECTOR"; then
        failed "tapvs ends after SIGTERM"
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
