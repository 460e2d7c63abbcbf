#!/usr/bin/env bash
# Tunnels with IPv6: 6in6 (examples/ipv6.rules) and 6in4 (an IPv6 service, a server reached by IPv4).
#
#   cl fd77:1::2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ── rt ::254 ── br-far ──┬── s1 fd77:3::11, 10.77.3.11
#          │                fd77:1::1         fd77:2::1             │                   └── s2 fd77:3::12
#          │           VIP  fd77:1::102       10.77.2.1             │
#          └───────────────── replies, past the director ───────────┘

V6=yes FAMILY=6
. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool

street_tunnel
ip -n "${PFX}rt" addr add 10.77.2.254/24 dev lan
ip -n "${PFX}rt" addr add 10.77.3.1/24 dev far
ip -n "${PFX}s1" addr add 10.77.3.11/24 dev eth0
for i in 1 2; do
    decap "s$i"
    as_told "$ROOT/examples/ipv6.rules" "s$i" "fd77:3::1$i"
    serve "s$i" "web$i" 80
done
helper s1 http sixinfour 8046

{
    cat "$ROOT/examples/ipv6.rules"
    cat <<'RULES'
ip addr add 10.77.2.1/24 dev tap-lan
ip route add 10.77.3.0/24 via 10.77.2.254
-A -t [fd77:1::102]:8046 -s rr
-a -t [fd77:1::102]:8046 -r 10.77.3.11:8046 -i
RULES
} | rules
capture client cl eth0
capture server s1 eth0
balance "$WORK/rules"
capture lan lb tap-lan

same "20 requests by turns through 6in6" "web1×10 web2×10" "$(get cl 20 'http://[fd77:1::102]/' | shares)"
same "10 requests through 6in4" "sixinfour×10" "$(get cl 10 'http://[fd77:1::102]:8046/' | shares)"
echoes "ping to the virtual address" cl -6 fd77:1::102

captured client server lan
at_least "the server gets IPv6 in IPv6 from the director" 20 \
    "$(frames server 'ip6[6] = 41 and src host fd77:2::1 and dst host fd77:3::11')"
at_least "and IPv6 in IPv4" 20 "$(frames server 'ip proto 41 and src host 10.77.2.1 and dst host 10.77.3.11')"
same "no reply passes the director" 0 "$(frames lan 'ip6 and src host fd77:1::102')"
at_least "replies reach the client from the router's card" 40 \
    "$(frames client "tcp and src host fd77:1::102 and ether src $(mac rt wan)")"
no_bad_checksum client
finish
