#!/usr/bin/env bash
# ICMP errors that speak of a balanced connection (what the kernel does in ip_vs_forward_icmp and
# in the reply direction): closed ports, TTLs that run out on each hop, a narrow link behind NAT.
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ── rt ── br-far ──── s1 10.77.3.11
#                           10.77.1.1         10.77.2.1            10.77.2.254 / 10.77.3.1, MTU 1400 towards s1
#                      VIP  10.77.1.100

. "$(dirname "$0")/lib.sh"
needs curl tcpdump ethtool

director_host br-wan br-lan br-far
host cl rt s1
wire cl eth0 br-wan 10.77.1.2/24
gateway cl 10.77.1.1
wire rt lan br-lan 10.77.2.254/24
wire rt far br-far 10.77.3.1/24
router rt
gateway rt 10.77.2.1
wire s1 eth0 br-far 10.77.3.11/24
gateway s1 10.77.3.1
ip -n "${PFX}rt" link set far mtu 1400
# Every error is wanted at once.
for h in rt s1; do on $h sysctl -qw net.ipv4.icmp_ratelimit=0; done

rules <<'RULES'
ip tuntap add dev tap-wan mode tap
ip link set dev tap-wan address 02:00:00:00:01:01 mtu 1500 master br-wan
ip addr add 10.77.1.1/24 dev tap-wan
ip tuntap add dev tap-lan mode tap
ip link set dev tap-lan address 02:00:00:00:02:01 mtu 1500 master br-lan
ip addr add 10.77.2.1/24 dev tap-lan
ip route add 10.77.3.0/24 via 10.77.2.254
# Nobody listens on 5399.
-A -u 10.77.1.100:5353 -s rr
-a -u 10.77.1.100:5353 -r 10.77.3.11:5399 -m
-A -u 10.77.1.100:7 -s rr
-a -u 10.77.1.100:7 -r 10.77.3.11:7777 -m
-A -t 10.77.1.100:80 -s rr
-a -t 10.77.1.100:80 -r 10.77.3.11:8080 -m
-A -t 10.77.1.100:81 -s rr
-A -u 10.77.1.100:81 -s rr
RULES
serve s1 web1 8080
helper s1 udp echo1 7777
balance "$WORK/rules"
capture client cl eth0
probe() { on cl "$PYTHON" "$HERE/host.py" probe "$@"; }

same "a closed port behind NAT" "error 3 3 from 10.77.1.100 about 10.77.1.100:5353" "$(probe 64 10.77.1.100 5353)"
same "TTL 1 ends at the director" "error 11 0 from 10.77.1.100 about 10.77.1.100:7" "$(probe 1 10.77.1.100 7)"
same "TTL 2 ends at the router behind NAT" "error 11 0 from 10.77.1.100 about 10.77.1.100:7" "$(probe 2 10.77.1.100 7)"
same "TTL 3 reaches the server" "reply echo1: xxxxx" "$(probe 3 10.77.1.100 7)"
same "a service without servers" "error 3 3 from 10.77.1.100 about 10.77.1.100:81" "$(probe 64 10.77.1.100 81)"
same "TTL 1 towards the server's own address" "error 11 0 from 10.77.1.1 about 10.77.3.11:7777" \
    "$(probe 1 10.77.3.11 7777)"
same "a datagram too big for the narrow link" "error 3 4 from 10.77.1.100 about 10.77.1.100:7 mtu 1400" \
    "$(probe 64 10.77.1.100 7 1440)"
same "the same size once the client knows" "1400" \
    "$(on cl ip route get 10.77.1.100 | sed -nE 's/.*mtu ([0-9]+).*/\1/p')"
on cl ip route flush cache

# TCP finds the narrow link by itself: a megabyte upwards, whole.
"$PYTHON" "$HERE/host.py" noise 1000000 9 >"$WORK/noise"
same "a megabyte through the narrow link" "$(sha256sum <"$WORK/noise" | cut -d' ' -f1)" \
    "$(on cl curl -sS -m 100 -T "$WORK/noise" http://10.77.1.100/ 2>&1)"

captured client
same "no server and no router shows its address" 0 \
    "$(frames client 'src net 10.77.3.0/24 or src host 10.77.2.254')"
no_bad_checksum client
DROPS="ttl-exceeded no-destination"
finish
