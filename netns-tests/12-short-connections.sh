#!/usr/bin/env bash
# 2,000 short connections in a row by each method, and not one failure.
#
#   01-nat's, 02-dr's and 03-tunnel's topologies, one after the other, by the same rules.
#
# COUNT=n for another number.

. "$(dirname "$0")/lib.sh"
needs curl ethtool
count=${COUNT:-2000}

# short METHOD: each request on a connection of its own; all must answer 200 from the virtual address.
short() {
    local started=$EPOCHREALTIME
    on cl curl -sS -m 100 --noproxy '*' --retry 0 -o /dev/null -w '%{http_code} %{num_connects}\n' \
        "http://10.77.1.100/?[1-$count]" >"$WORK/short" 2>"$WORK/short.err"
    same "$1: $count short connections, each answered" "$count" "$(grep -cx '200 1' "$WORK/short")"
    same "$1: not one error" "" "$(sort -u "$WORK/short.err" | head -n 3)"
    awk -v a="$started" -v b="$EPOCHREALTIME" -v n="$count" \
        'BEGIN { printf "       %.1f s, %.0f connections/s\n", b - a, n / (b - a) }'
}


street_nat
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
balance "$ROOT/examples/nat.rules"
short NAT
next_street

street_dr
for i in 1 2 3; do
    as_told "$ROOT/examples/dr.rules" "s$i" "10.77.1.1$i"
    serve "s$i" "web$i" 80
done
balance "$ROOT/examples/dr.rules"
short "direct routing"
next_street

street_tunnel
for i in 1 2 3; do
    decap "s$i"
    as_told "$ROOT/examples/tun.rules" "s$i" "10.77.3.1$i"
    serve "s$i" "web$i" 80
done
balance "$ROOT/examples/tun.rules"
short tunnel
finish
