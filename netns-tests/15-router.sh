#!/usr/bin/env bash
# Plain routing between two networks, no service at all, and no bridge: each TAP is moved into the
# namespace of the host that it serves, and tapvs is the wire between them.
#
#   cl tap-a 10.77.1.2, fd77:1::2 ── [tapvs]  10.77.1.1 fd77:1::1 / 10.77.2.1 fd77:2::1 ── s1 tap-b 10.77.2.11, fd77:2::11

V6=yes
. "$(dirname "$0")/lib.sh"
needs curl ping tcpdump

director_host
host cl s1
rules <<'RULES'
ip tuntap add dev tap-a mode tap
ip addr add 10.77.1.1/24 dev tap-a
ip -6 addr add fd77:1::1/64 dev tap-a
ip tuntap add dev tap-b mode tap
ip addr add 10.77.2.1/24 dev tap-b
ip -6 addr add fd77:2::1/64 dev tap-b
RULES
balance "$WORK/rules"

# settle HOST DEV NET LAST: the kernel's end of a TAP becomes the host's only card.
settle() {
    ip -n "${PFX}lb" link set "$2" netns "$PFX$1" || die "cannot move $2"
    # What is captured there is to have the checksums of a wire.
    on "$1" ethtool -K "$2" tx off >/dev/null 2>&1
    ip -n "$PFX$1" link set "$2" up
    ip -n "$PFX$1" addr add "10.77.$3.$4/24" dev "$2"
    ip -n "$PFX$1" addr add "fd77:$3::$4/64" dev "$2" nodad
    patient "$1" "$2"
    gateway "$1" "10.77.$3.1" "fd77:$3::1"
}
settle cl tap-a 1 2
settle s1 tap-b 2 11
serve s1 web1 80
helper s1 http six1 86 ::
helper s1 udp echo1 7
capture client cl tap-a

probe() { on cl "$PYTHON" "$HERE/host.py" probe "$@"; }
same "requests are routed" "web1×5" "$(get cl 5 http://10.77.2.11/ | shares)"
same "and in IPv6" "six1×5" "$(get cl 5 'http://[fd77:2::11]:86/' | shares)"
echoes "ping through" cl 10.77.2.11
echoes "ping through in IPv6" cl -6 fd77:2::11
echoes "ping with fragments through" cl -s 4000 10.77.2.11
echoes "ping with fragments through in IPv6" cl -6 -s 4000 fd77:2::11
echoes "ping the far address of the router" cl 10.77.2.1
echoes "ping with fragments to the router" cl -s 4000 10.77.1.1
same "TTL 1 ends here" "error 11 0 from 10.77.1.1 about 10.77.2.11:7" "$(probe 1 10.77.2.11 7)"
same "TTL 2 arrives" "reply echo1: xxxxx" "$(probe 2 10.77.2.11 7)"
same "hop limit 1 ends here" "error 3 0 from fd77:1::1 about fd77:2::11:7" "$(probe 1 fd77:2::11 7)"
same "no route" "error 3 0 from 10.77.1.1 about 192.0.2.1:7" "$(probe 64 192.0.2.1 7)"
same "no route in IPv6" "error 1 0 from fd77:1::1 about 2001:db8::1:7" "$(probe 64 2001:db8::1 7)"
same "nobody at that address" "error 3 1 from 10.77.1.1 about 10.77.2.99:7" "$(probe 64 10.77.2.99 7)"
same "no such port at the router" "error 3 3 from 10.77.1.1 about 10.77.1.1:7" "$(probe 64 10.77.1.1 7)"

captured client
no_bad_checksum client
DROPS="ttl-exceeded no-route neighbour-failed"
finish
