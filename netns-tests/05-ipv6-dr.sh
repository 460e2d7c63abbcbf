#!/usr/bin/env bash
# Direct routing in IPv6, in one network (examples/ipv6.rules).
#
#                          ┌── tap-wan [tapvs]  fd77:1::1, VIP fd77:1::101
#   cl fd77:1::2 ── br-wan ┼── s1 fd77:1::11 ┐
#                          └── s2 fd77:1::12 ┴ VIP on lo: Linux does not solicit or answer for it
#
# Shows: round robin; only the director answers for the virtual address; replies pass it by.

V6=yes FAMILY=6
. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool

street_dr
# The rules file's inside port wants its bridge, though nobody lives there in this test.
ip -n "${PFX}lb" link add name br-lan type bridge forward_delay 0 mcast_snooping 0
ip -n "${PFX}lb" link set br-lan up
for i in 1 2; do
    as_told "$ROOT/examples/ipv6.rules" "s$i" "fd77:1::1$i"
    serve "s$i" "web$i" 80
done
capture client cl eth0
capture server s1 eth0
balance "$ROOT/examples/ipv6.rules"
capture director lb tap-wan

same "20 requests by turns" "web1×10 web2×10" "$(get cl 20 'http://[fd77:1::101]/' | shares)"
echoes "ping to the virtual address" cl -6 fd77:1::101

captured client server director
director_mac=02:00:00:00:01:01
same "only the director advertises the virtual address" 0 \
    "$(frames client "icmp6 and ip6[40] = 136 and ip6[48:4] = 0xfd770001 and ip6[60:4] = 0x00000101 and not ether src $director_mac")"
at_least "it does so" 1 \
    "$(frames client "icmp6 and ip6[40] = 136 and ip6[48:4] = 0xfd770001 and ip6[60:4] = 0x00000101 and ether src $director_mac")"
at_least "requests pass the director" 40 "$(frames director 'tcp and dst host fd77:1::101 and dst port 80')"
same "no reply passes the director" 0 "$(frames director 'tcp and src host fd77:1::101')"
at_least "the server gets both addresses as they were, hop limit 63" 20 \
    "$(frames server "tcp and src host fd77:1::2 and dst host fd77:1::101 and ip6[7] = 63 and ether src $director_mac")"
no_bad_checksum client
no_bad_checksum server
finish
