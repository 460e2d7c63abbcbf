#!/usr/bin/env bash
# The real server is the director's own host, by NAT and by direct routing
# (what the kernel does in ip_vs_remote_request and ip_vs_local_reply).
#
#   cl 10.77.1.2 ── br-wan 10.77.1.9 ── tap-wan [tapvs] tap-lan ── br-lan 10.77.2.9: the host's own servers
#                                     10.77.1.1         10.77.2.1
#                                VIP  10.77.1.100 (NAT), 10.77.1.101 (direct routing, also on the host's lo)
#
# NAT needs the replies back: what the host says as 10.77.2.9 goes to tapvs by a rule, although the
# host has a shorter way to the client. Direct routing is content with the shorter way.

. "$(dirname "$0")/lib.sh"
needs curl tcpdump ethtool

director_host br-wan br-lan
host cl
wire cl eth0 br-wan 10.77.1.2/24
gateway cl 10.77.1.1
for bridge in br-wan br-lan; do on lb ethtool -K "$bridge" tx off >/dev/null 2>&1; patient lb "$bridge"; done
ip -n "${PFX}lb" addr add 10.77.1.9/24 dev br-wan
ip -n "${PFX}lb" addr add 10.77.2.9/24 dev br-lan
ip -n "${PFX}lb" rule add from 10.77.2.9 lookup 100
ip -n "${PFX}lb" route add default via 10.77.2.1 dev br-lan table 100

rules <<'RULES'
ip tuntap add dev tap-wan mode tap
ip link set dev tap-wan address 02:00:00:00:01:01 mtu 1500 master br-wan
ip addr add 10.77.1.1/24 dev tap-wan
ip tuntap add dev tap-lan mode tap
ip link set dev tap-lan address 02:00:00:00:02:01 mtu 1500 master br-lan
ip addr add 10.77.2.1/24 dev tap-lan
-A -t 10.77.1.100:80 -s rr
-a -t 10.77.1.100:80 -r 10.77.2.9:8080 -m
-A -t 10.77.1.101:80 -s rr
-a -t 10.77.1.101:80 -r 10.77.1.9 -g
RULES
as_told "$WORK/rules" lb 10.77.1.9
helper lb http bynat 8080 10.77.2.9
helper lb http bydr 80 10.77.1.101
balance "$WORK/rules"
capture client cl eth0
capture director lb tap-wan

same "20 requests by NAT" "bynat×20" "$(get cl 20 http://10.77.1.100/ | shares)"
same "20 requests by direct routing" "bydr×20" "$(get cl 20 http://10.77.1.101/ | shares)"

captured client director
at_least "NAT's replies come from its virtual address" 60 "$(frames client 'tcp and src host 10.77.1.100')"
same "none from the server's own address" 0 "$(frames client 'tcp and src net 10.77.2.0/24')"
at_least "direct routing's replies come from its own" 60 "$(frames client 'tcp and src host 10.77.1.101')"
same "and pass the director by" 0 "$(frames director 'tcp and src host 10.77.1.101')"
finish
