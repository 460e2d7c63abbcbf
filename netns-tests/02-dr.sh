#!/usr/bin/env bash
# Direct routing in one network, with the ARP problem solved as the articles say (examples/dr.rules).
#
#                          ┌── tap-wan [tapvs]  10.77.1.1, VIP 10.77.1.100
#   cl 10.77.1.2 ── br-wan ┼── s1 10.77.1.11  weight 3 ┐
#                          ├── s2 10.77.1.12  weight 2 ├ VIP on lo, arp_ignore 1, arp_announce 2
#                          └── s3 10.77.1.13  weight 1 ┘
#
# Shows: only the director answers ARP for the virtual address; replies do not pass the director;
# the IP header's addresses are untouched and its TTL falls by one.

. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool

street_dr
for i in 1 2 3; do
    as_told "$ROOT/examples/dr.rules" "s$i" "10.77.1.1$i"
    serve "s$i" "web$i" 80
done
capture client cl eth0
capture server s1 eth0
balance "$ROOT/examples/dr.rules"
capture director lb tap-wan

# Three to pass the first round of a fresh wrr service (see 01-nat), then six whole cycles.
same "one each in the first round" "web1×1 web2×1 web3×1" "$(get cl 3 http://10.77.1.100/ | shares)"
same "36 more requests are shared 3:2:1" "web1×18 web2×12 web3×6" "$(get cl 36 http://10.77.1.100/ | shares)"
echoes "ping to the virtual address" cl 10.77.1.100

on cl ip neigh flush all
same "and after the client forgot its neighbours" "web1×3 web2×2 web3×1" "$(get cl 6 http://10.77.1.100/ | shares)"
table >"$WORK/table"
holds "the table names the server, Route and its weight" '-> 10\.77\.1\.11:80 +Route +3 ' "$WORK/table"

captured client server director
director_mac=02:00:00:00:01:01
at_least "the director answers ARP for the virtual address" 2 \
    "$(frames client "arp[6:2] = 2 and src host 10.77.1.100 and ether src $director_mac")"
same "nobody else does" 0 "$(frames client "arp[6:2] = 2 and src host 10.77.1.100 and not ether src $director_mac")"
at_least "requests pass the director" 90 "$(frames director 'tcp and dst host 10.77.1.100 and dst port 80')"
same "no reply passes the director" 0 "$(frames director 'tcp and src host 10.77.1.100')"
at_least "replies reach the client straight from a server's card" 60 \
    "$(frames client "tcp and src host 10.77.1.100 and ether src $(mac s1 eth0)")"
same "no reply comes from the director's card" 0 \
    "$(frames client "tcp and src host 10.77.1.100 and ether src $director_mac")"
at_least "the server gets it with both addresses as they were, by the director's card, TTL 63" 60 \
    "$(frames server "tcp and src host 10.77.1.2 and dst host 10.77.1.100 and ip[8] = 63 and ether src $director_mac")"
no_bad_checksum client
no_bad_checksum server
# A bridge floods what it has no port for yet; then the director sees frames for other stations.
finish
