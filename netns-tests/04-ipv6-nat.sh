#!/usr/bin/env bash
# NAT in IPv6: two networks, the director is the servers' gateway (examples/ipv6.rules).
#
#   cl fd77:1::2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 [fd77:2::11]:8080
#                           fd77:1::1         fd77:2::1           └── s2 [fd77:2::12]:8080
#                      VIP  [fd77:1::100]:80
#
# Shows: round robin, port mapping, neighbour discovery both ways, ping, checksums over the pseudo header.

V6=yes FAMILY=6
. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool dig

street_nat
for i in 1 2; do
    as_told "$ROOT/examples/ipv6.rules" "s$i" "fd77:2::1$i"
    serve "s$i" "web$i" 8080
    helper "s$i" dns "dns$i" 5353
done
capture client cl eth0
capture server s1 eth0
balance "$ROOT/examples/ipv6.rules"

same "20 requests by turns" "web1×10 web2×10" "$(get cl 20 'http://[fd77:1::100]/' | shares)"
echoes "ping to the virtual address" cl -6 fd77:1::100
echoes "ping to the director itself" cl -6 fd77:1::1
echoes "ping through the director to a server" cl -6 fd77:2::12
echoes "ping from a server to its gateway" s1 -6 fd77:2::1
for _ in {1..10}; do on cl dig +short +time=60 +tries=1 @fd77:1::100 TXT who.test; done >"$WORK/dig"
same "10 questions by turns" '"dns1"×5 "dns2"×5' "$(shares <"$WORK/dig")"

captured client server
at_least "replies at the client come from the virtual address" 40 \
    "$(frames client 'ip6 and tcp and src host fd77:1::100 and src port 80')"
same "none comes from a server's own address" 0 "$(frames client 'tcp and src net fd77:2::/64')"
same "the server never sees the virtual address" 0 "$(frames server 'tcp and host fd77:1::100')"
no_bad_checksum client
no_bad_checksum server
# Every IPv6 host says to groups what it listens to (MLD); that is not for the director.
finish
