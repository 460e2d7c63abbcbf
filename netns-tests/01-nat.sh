#!/usr/bin/env bash
# NAT with two networks: the director is the servers' gateway (examples/nat.rules).
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 10.77.2.11:8080  weight 3
#                           10.77.1.1         10.77.2.1           ├── s2 10.77.2.12:8080  weight 2
#                      VIP  10.77.1.100:80                        └── s3 10.77.2.13:8080  weight 1
#
# Shows: the kernel's exact order of wrr, port mapping, ping, who speaks to whom, real checksums.

. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool

street_nat
for i in 1 2 3; do
    as_told "$ROOT/examples/nat.rules" "s$i" "10.77.2.1$i"
    serve "s$i" "web$i" 8080
done
capture client cl eth0
capture server s1 eth0
balance "$ROOT/examples/nat.rules"

# The kernel begins a service whose servers were added one by one with one connection to each,
# newest first; then come the weighted cycles: s1, s2 s1, s3 s2 s1.
same "the first 15 connections in wrr's order" 321121321121321 "$(get cl 15 http://10.77.1.100/ | tr -d 'web\n')"
same "36 more requests are shared 3:2:1" "web1×18 web2×12 web3×6" "$(get cl 36 http://10.77.1.100/ | shares)"

echoes "ping to the virtual address" cl 10.77.1.100
echoes "ping to the director itself" cl 10.77.1.1
echoes "ping through the director to a server" cl 10.77.2.12
echoes "ping from a server to its gateway" s1 10.77.2.1

table >"$WORK/table"
holds "the table names the service" '^TCP +10\.77\.1\.100:80 wrr' "$WORK/table"
holds "the table names the server, Masq and its weight" '-> 10\.77\.2\.11:8080 +Masq +3 ' "$WORK/table"

captured client server
at_least "replies at the client come from the virtual address" 100 \
    "$(frames client 'tcp and src host 10.77.1.100 and src port 80')"
same "none comes from a server's own address" 0 "$(frames client 'tcp and src net 10.77.2.0/24')"
at_least "the server sees the client's own address" 20 \
    "$(frames server 'tcp and src host 10.77.1.2 and dst host 10.77.2.11 and dst port 8080')"
same "the server never sees the virtual address" 0 "$(frames server 'host 10.77.1.100')"
no_bad_checksum client
no_bad_checksum server
finish
