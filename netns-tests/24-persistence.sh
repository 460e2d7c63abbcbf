#!/usr/bin/env bash
# Persistence with real clients, IPv4 and then IPv6: who stays with which server, and for how long.
#
#   cl .1.2 ┐                                          ┌── s1 .2.11
#           ├ br-wan ── tap-wan [tapvs] tap-lan ── br-lan ── s2 .2.12
#   c2 .1.3 ┘          .1.1             .2.1           └── s3 .2.13
#                 VIP  .1.100, .1.101               10.77.1.2 is .1.2, and so is fd77:1::2
#
# Shows: -p by client; -M: clients of one network together; port 0: every port of the address; a drained
# server keeps who is its own; the template goes when its time is over, and the next server is taken.

V6=yes
. "$(dirname "$0")/lib.sh"
needs curl
export TAPVS_SOCKET="$WORK/tapvs.sock"

# asks COUNT PORT [HOST [VIP]]: who answered.
asks() { get "${3:-cl}" "$1" "http://$(bare "$(at 1 "${4:-100}")"):$2/" | shares; }
# question PORT: who answers a datagram, by its name.
question() { on cl "$PYTHON" "$HERE/host.py" probe 64 "$(at 1 100)" "$1" | sed -n 's/^reply \(.*\): .*/\1/p'; }
# Templates speak of no port of the client's.
templates() { "$TAPVS" ipvsadm -Lnc | awk '$1 == "TCP" && $4 ~ /:0$/' | wc -l; }
# shellcheck disable=SC2317 # `until_true` calls it
is_over() { local all; all=$("$TAPVS" ipvsadm -Lnc) && ! grep -q '^UDP.*:5354 ' <<<"$all"; }

persistence() {
    local i vip any mask
    FAMILY=$1 mask=$2
    echo "  IPv$FAMILY"
    street_nat
    host c2
    wire c2 eth0 br-wan "$(net 1 3)"
    gateway c2 "$(at 1 1)"
    for i in 1 2 3; do
        serve "s$i" "web$i" 8080
        serve "s$i" "web$i" 8081
        helper "s$i" udp "web$i" 5353
    done
    vip=$(bare "$(at 1 100)") any=$(bare "$(at 1 101)")
    {
        sed -n '/^ip \(tuntap\|link\)/p' "$ROOT/examples/nat.rules"
        echo "ip addr add $(net 1 1) dev tap-wan"
        echo "ip addr add $(net 2 1) dev tap-lan"
        echo "-A -t $vip:8080 -s rr -p 300"
        echo "-A -t $vip:8081 -s rr -p 300 -M $mask"
        echo "-A -t $any:0 -s rr -p 300"
        echo "-A -u $vip:5353 -s rr -p 300"
        echo "-A -u $vip:5354 -s rr -p 2"
        for i in 1 2 3; do
            echo "-a -t $vip:8080 -r $(bare "$(at 2 1$i)"):8080 -m"
            echo "-a -t $vip:8081 -r $(bare "$(at 2 1$i)"):8081 -m"
            echo "-a -t $any:0 -r $(bare "$(at 2 1$i)"):0 -m"
            echo "-a -u $vip:5353 -r $(bare "$(at 2 1$i)"):5353 -m"
            echo "-a -u $vip:5354 -r $(bare "$(at 2 1$i)"):5353 -m"
        done
    } >"$WORK/rules"
    balance "$WORK/rules"
    "$TAPVS" ipvsadm --set 0 0 1
    stay
    group
    expire
    next_street
}

stay() {
    local mine theirs drained
    mine=$(asks 1 8080) theirs=$(asks 1 8080 c2)
    same "a client stays with its server" "${mine%×*}×6" "$(asks 6 8080)"
    same "another with another" "${theirs%×*}×6" "$(asks 6 8080 c2)"
    refuse "they are two servers" test "$mine" = "$theirs"
    same "two templates" 2 "$(templates)"
    drained=${mine#web} drained=${drained%×*}
    expect "the server is drained" "$TAPVS" ipvsadm -e -t "$(bare "$(at 1 100)"):8080" \
        -r "$(bare "$(at 2 "1$drained")"):8080" -m -w 0
    same "and keeps who is its own" "${mine%×*}×4" "$(asks 4 8080)"
    same "whose weight is 0" "$(bare "$(at 2 "1$drained")"):8080" \
        "$("$TAPVS" ipvsadm -Ln -t "$(bare "$(at 1 100)"):8080" | awk '$4 == 0 { print $2 }')"
}

group() {
    local mine both
    mine=$(asks 1 8081)
    same "one network, one server" "${mine%×*}×4" "$(asks 4 8081 c2)"
    both=$(asks 1 8080 cl 101)
    same "every port of an address leads to one server" "${both%×*}×4" "$(asks 4 8081 cl 101)"
}

expire() {
    local first
    first=$(question 5353)
    same "datagrams stay as well" "$first $first" "$(question 5353) $(question 5353)"
    first=$(question 5354)
    expect "the template goes when its time is over" until_true is_over
    case $(question 5354) in
    "$first" | '') failed "then the next server is taken" ;;
    *) passed "then the next server is taken" ;;
    esac
}

persistence 4 255.255.255.0
persistence 6 64
finish
