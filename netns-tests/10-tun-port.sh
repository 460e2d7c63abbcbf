#!/usr/bin/env bash
# A TUN port instead of TAPs: no Ethernet, no ARP; the kernel's routes lead to tapvs and onwards.
#
#   cl 10.77.1.2 ── br-wan 10.77.1.254 ── lb's kernel ── br-lan 10.77.2.254 ──┬── s1 10.77.2.11
#                                           │  ▲                              └── s2 10.77.2.12
#                                      tun0 ▼  │
#                                        [tapvs]  10.77.9.1, VIP 10.77.9.100 and fd77:9::100
#
# The kernel sends 10.77.9.0/24 into tun0, and by a rule whatever the servers answer, because NAT
# must see it. What tapvs writes comes out of tun0 and is routed as if it came from a wire.

V6=yes
. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool

director_host br-wan br-lan
host cl s1 s2
on lb sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0
router lb
wire cl eth0 br-wan 10.77.1.2/24 fd77:1::2/64
ip -n "${PFX}lb" addr add 10.77.1.254/24 dev br-wan
ip -n "${PFX}lb" addr add fd77:1::254/64 dev br-wan nodad
ip -n "${PFX}lb" addr add 10.77.2.254/24 dev br-lan
ip -n "${PFX}lb" addr add fd77:2::254/64 dev br-lan nodad
gateway cl 10.77.1.254 fd77:1::254
for i in 1 2; do
    wire "s$i" eth0 br-lan "10.77.2.1$i/24" "fd77:2::1$i/64"
    gateway "s$i" 10.77.2.254 fd77:2::254
    serve "s$i" "web$i" 8080
    helper "s$i" http "six$i" 8086 ::
done

rules <<'RULES'
ip tuntap add dev tun0 mode tun
ip link set dev tun0 mtu 1500
ip addr add 10.77.9.1/24 dev tun0
ip -6 addr add fd77:9::1/64 dev tun0
ip route add default dev tun0
ip -6 route add default dev tun0
-A -t 10.77.9.100:80 -s rr
-a -t 10.77.9.100:80 -r 10.77.2.11:8080 -m
-a -t 10.77.9.100:80 -r 10.77.2.12:8080 -m
-A -t [fd77:9::100]:80 -s rr
-a -t [fd77:9::100]:80 -r [fd77:2::11]:8086 -m
-a -t [fd77:9::100]:80 -r [fd77:2::12]:8086 -m
RULES
balance "$WORK/rules"
ip -n "${PFX}lb" route add 10.77.9.0/24 dev tun0
ip -n "${PFX}lb" -6 route add fd77:9::/64 dev tun0
ip -n "${PFX}lb" rule add iif br-lan lookup 102
ip -n "${PFX}lb" -6 rule add iif br-lan lookup 102
ip -n "${PFX}lb" route add default dev tun0 table 102
ip -n "${PFX}lb" -6 route add default dev tun0 table 102
capture client cl eth0

same "20 requests by turns" "web1×10 web2×10" "$(get cl 20 http://10.77.9.100/ | shares)"
same "20 requests by turns in IPv6" "six1×10 six2×10" "$(get cl 20 'http://[fd77:9::100]/' | shares)"
echoes "ping to the virtual address" cl 10.77.9.100
echoes "ping to the virtual address in IPv6" cl -6 fd77:9::100
echoes "ping to tapvs itself" cl 10.77.9.1

captured client
same "no reply from a server's own address" 0 "$(frames client 'tcp and (src net 10.77.2.0/24 or src net fd77:2::/64)')"
no_bad_checksum client
finish
