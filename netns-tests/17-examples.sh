#!/usr/bin/env bash
# Every file of examples/ parses, and those that no other test runs are run here: mixed.rules and
# the worked examples of the articles, each in the network that its drawing shows.
#
#   cl ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ── real servers

V6=yes
. "$(dirname "$0")/lib.sh"
needs curl ethtool

director_host
for file in "$ROOT"/examples/*.rules; do
    expect "check $(basename "$file")" on lb "$TAPVS" check "$file"
done
ip netns del "${PFX}lb"
HOSTS=()

# ---- mixed.rules: three methods in one IPv4 service, two in one IPv6 service
mixed=$ROOT/examples/mixed.rules
director_host br-wan br-lan br-far
host cl rt nat dr tun
wire cl eth0 br-wan 10.77.1.2/24 fd77:1::2/64
gateway cl 10.77.1.1 fd77:1::1
wire rt wan br-wan 10.77.1.254/24 fd77:1::254/64
wire rt lan br-lan 10.77.2.254/24 fd77:2::254/64
wire rt far br-far 10.77.3.1/24 fd77:3::1/64
router rt
wire nat eth0 br-lan 10.77.2.11/24 fd77:2::11/64
gateway nat 10.77.2.1 fd77:2::1
wire dr eth0 br-wan 10.77.1.12/24
wire tun eth0 br-far 10.77.3.11/24 fd77:3::11/64
gateway tun 10.77.3.1 fd77:3::1
as_told "$mixed" dr 10.77.1.12
decap tun
as_told "$mixed" tun 10.77.3.11
for h in nat dr tun; do helper "$h" http "$h" 80 ::; done
balance "$mixed"
same "mixed.rules: three methods by turns" "dr×5 nat×5 tun×5" "$(get cl 15 http://10.77.1.100/ | shares)"
same "mixed.rules: IPv6 by NAT and by 6in4" "nat×5 tun×5" "$(get cl 10 'http://[fd77:1::100]/' | shares)"
next_street

# ---- the articles
article() { echo "$ROOT/examples/article-$1.rules"; }

rules=$(article dr-192.168.0.10)
director_host br-lan
host cl s1 s2
wire cl eth0 br-lan 192.168.0.200/24
wire s1 eth0 br-lan 192.168.0.101/24
wire s2 eth0 br-lan 222.117.155.123/32
ip -n "${PFX}s2" route add 192.168.0.0/24 dev eth0 src 222.117.155.123
as_told "$rules" s1 192.168.0.101
as_told "$rules" s2 222.117.155.123
for i in 1 2; do serve "s$i" "web$i" 80; done
balance "$rules"
get cl 6 http://192.168.0.10/ >"$WORK/got"
same "VIP 192.168.0.10: every request answered" 6 "$(grep -cx 'web[12]' "$WORK/got")"
same "and, by -p300, by one server" 1 "$(sort -u "$WORK/got" | wc -l)"
table >"$WORK/table"
holds "and it shows as persistent" '^TCP +192\.168\.0\.10:80 wrr persistent 300' "$WORK/table"
next_street

rules=$(article nat-211.47.13.234)
director_host br-wan br-lan
host cl s1 s2
wire cl eth0 br-wan 211.47.13.1/24
for i in 1 2; do
    wire "s$i" eth0 br-lan "10.0.0.10$i/24"
    # What the guide warns of: another gateway, which has to go.
    gateway "s$i" 10.0.0.1
    as_told "$rules" "s$i" "10.0.0.10$i"
    serve "s$i" "web$i" 8080
done
balance "$rules"
get cl 12 http://211.47.13.234/ >"$WORK/got"
same "VIP 211.47.13.234: every request answered" 12 "$(grep -cx 'web[12]' "$WORK/got")"
next_street

rules=$(article dr-123.234.1.101)
director_host br-lan
host cl s1
wire cl eth0 br-lan 123.234.1.200/24
wire s1 eth0 br-lan 123.234.1.111/24
as_told "$rules" s1 123.234.1.111
serve s1 web1 80
balance "$rules"
same "VIP 123.234.1.101: every request answered" "web1×5" "$(get cl 5 http://123.234.1.101/ | shares)"
next_street

rules=$(article l2dsr-192.168.10.100)
director_host br-lan
host cl s1 s2 s3
wire cl eth0 br-lan 192.168.10.200/24
for i in 1 2 3; do
    wire "s$i" eth0 br-lan "192.168.10.$i/24"
    as_told "$rules" "s$i" "192.168.10.$i"
    serve "s$i" "web$i" 80
done
balance "$rules"
same "VIP 192.168.10.100: by turns" "web1×3 web2×3 web3×3" "$(get cl 9 http://192.168.10.100/ | shares)"
finish
