#!/usr/bin/env bash
# As the kernel tests its own IPVS: three namespaces, a file sent to the virtual address by direct routing,
# NAT and tunnel, compared at the end; here for IPv4 and IPv6, and sent with plain socat at both ends.
#
#   cl .1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ── s1 .2.11     NAT, tunnel
#    │                 .1.1, VIP .1.100   .2.1                  │
#    └───────────────────┴──────────────────────────────────── s1 .1.11    direct routing; the tunnel's replies
#
# Tunnels are taken off by our own binary: the server's kernel may not know how.

V6=yes
. "$(dirname "$0")/lib.sh"
needs socat cmp

"$PYTHON" "$HERE/host.py" noise 1048576 26 >"$WORK/file"

# lay METHOD: three namespaces, and the rules with one server.
lay() {
    local method=$1 vip server=2
    vip=$(bare "$(at 1 100)")
    director_host br-wan br-lan
    host cl s1
    wire cl eth0 br-wan "$(net 1 2)"
    wire s1 eth0 br-lan "$(net 2 11)"
    case $method in
    -g) server=1; wire s1 eth1 br-wan "$(net 1 11)" ;;
    -m) gateway cl "$(at 1 1)"; gateway s1 "$(at 2 1)" ;;
    -i) wire s1 eth1 br-wan "$(net 1 11)" ;;
    esac
    {
        sed -n '/^ip \(tuntap\|link\)/p' "$ROOT/examples/nat.rules"
        echo "ip addr add $(net 1 1) dev tap-wan"
        echo "ip addr add $(net 2 1) dev tap-lan"
        echo "-A -t $vip:1234 -s rr"
        echo "-a -t $vip:1234 -r $(bare "$(at $server 11)"):1234 $method"
    } | rules
    [ "$method" = -m ] || as_told "$WORK/rules" s1 "$(at $server 11)"
    [ "$method" != -i ] || decap s1
}

# send NAME: the file from the client to the virtual address, whole, within the time.
send() {
    local listen=TCP4-LISTEN:1234 connect
    connect=TCP4:$(at 1 100):1234
    [ "$FAMILY" = 4 ] || { listen=TCP6-LISTEN:1234,ipv6only=1; connect="TCP6:$(bare "$(at 1 100)"):1234"; }
    rm -f "$WORK/arrived"
    start "$WORK/listen" ip netns exec "${PFX}s1" socat -u "$listen" "CREATE:$WORK/arrived"
    listening s1 1234
    expect "IPv$FAMILY $1: the file is sent" on cl timeout 300 socat -u "OPEN:$WORK/file" "$connect"
    until_true cmp -s "$WORK/file" "$WORK/arrived"
    expect "IPv$FAMILY $1: it arrives as it was" cmp "$WORK/file" "$WORK/arrived"
}

for FAMILY in 4 6; do
    for way in "-g direct routing" "-m NAT" "-i tunnel"; do
        lay "${way%% *}"
        balance "$WORK/rules"
        send "${way#* }"
        # The tunnel's "fragmentation needed" makes segments smaller.
        DROPS=too-big
        next_street
    done
done
finish
