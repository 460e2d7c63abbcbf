#!/usr/bin/env bash
# The articles' group: HTTP and HTTPS of one site as one service by a firewall mark, from one rules file, by
# direct routing and persistence, for IPv4 and IPv6.
#
#   cl .1.2 ┐          ┌── tap-wan [tapvs]  .1.1, VIP .1.100
#   c2 .1.3 ├─ br-wan ─┼── s1 .1.11 ┐
#   c3 .1.4 ┘          ├── s2 .1.12 ├ HTTP on 80 and HTTPS on 443; the VIP on lo
#                      └── s3 .1.13 ┘        10.77.1.2 is .1.2, and so is fd77:1::2
#
# Shows: a client gets http and https from one server, several clients are spread, a port without a mark is
# not in the group, another address neither, and a mark by source puts one client elsewhere.

V6=yes
. "$(dirname "$0")/lib.sh"
needs curl openssl
export TAPVS_SOCKET="$WORK/tapvs.sock" CERT="$WORK/cert.pem"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tapvs \
    -keyout "$WORK/key" -out "$WORK/cert" 2>"$WORK/openssl" || die "$(cat "$WORK/openssl")"
cat "$WORK/key" "$WORK/cert" >"$CERT"

# asks HOST SCHEME COUNT: who answered.
asks() { on "$1" curl -sSk -m 60 --noproxy '*' "$2://$(bare "$(at 1 100)")/?[1-$3]" 2>&1 | shares; }

marked_group() {
    local i table mark=$2 six=${3:-} vip mine theirs
    FAMILY=$1
    echo "  IPv$FAMILY"
    table=iptables
    [ "$FAMILY" = 4 ] || table=ip6tables
    vip=$(at 1 100)
    street_dr
    host c2 c3
    wire c2 eth0 br-wan "$(net 1 3)"
    wire c3 eth0 br-wan "$(net 1 4)"
    {
        echo "ip tuntap add dev tap-wan mode tap"
        echo "ip link set dev tap-wan master br-wan"
        echo "ip addr add $(net 1 1) dev tap-wan"
        echo "ip addr add $vip dev tap-wan"
        echo "$table -t mangle -A PREROUTING -i tap-wan -p tcp -d $vip --dport 80 -j MARK --set-mark $mark"
        echo "$table -t mangle -A PREROUTING -i tap-wan -p tcp -d $vip --dport 443 -j MARK --set-mark $mark"
        echo "$table -t mangle -A PREROUTING -p tcp -s $(at 1 4) -d $vip -m multiport --dports 80,443 -j MARK --set-mark 0x77"
        # shellcheck disable=SC2086 # nothing, or -6
        {
            echo "ipvsadm -A -f $mark" $six "-s rr -p 600"
            for i in 1 2; do echo "ipvsadm -a -f $mark" $six "-r $(at 1 1$i) -g"; done
            echo "ipvsadm -A -f 119" $six "-s rr"
            echo "ipvsadm -a -f 119" $six "-r $(at 1 13) -g"
        }
    } | rules
    for i in 1 2 3; do
        on "s$i" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
        ip -n "${PFX}s$i" addr add "$vip/$([ "$FAMILY" = 4 ] && echo 32 || echo 128)" dev lo
        serve "s$i" "web$i" 80
        helper "s$i" https "web$i" 443
    done
    serve s1 outside 8080
    balance "$WORK/rules"
    expect "the mark has its service" grep -q "^FWM  $mark " <("$TAPVS" ipvsadm -Ln)

    mine=$(asks cl http 1) theirs=$(asks c2 https 1)
    same "https goes where http went" "${mine%×*}×5" "$(asks cl https 5)"
    same "and http again" "${mine%×*}×5" "$(asks cl http 5)"
    same "another client, who began with https, gets http there" "${theirs%×*}×5" "$(asks c2 http 5)"
    refuse "two clients are spread" test "$mine" = "$theirs"
    same "who is marked by its source is served elsewhere" "web3×2 web3×2" "$(asks c3 http 2) $(asks c3 https 2)"
    refuse "a port without a mark is not in the group" on cl curl -sS -m 2 --noproxy '*' "http://$(bare "$vip"):8080/"
    refuse "another address neither" on cl curl -sS -m 2 --noproxy '*' "http://$(bare "$(at 1 1)")/"
    "$TAPVS" ipvsadm -Lnc >"$WORK/conns"
    same "one template a client" 2 "$(grep -c '^IP ' "$WORK/conns")"
    next_street
}

marked_group 4 1
marked_group 6 2 -6
finish
