#!/usr/bin/env bash
# 500 MB through each method, summed at both ends: up and down through NAT, up through direct routing
# and the tunnel (their downward half never sees the director). iperf3 has a word too.
#
#   01-nat's, 02-dr's and 03-tunnel's topologies with one server, one after the other, by the same rules.
#
# BULK=bytes for another size.

. "$(dirname "$0")/lib.sh"
needs curl iperf3 ethtool sha256sum

size=${BULK:-500000000}
# In memory where there is room, so that the disk has no say.
BULK=$WORK/bulk
if [ -w /dev/shm ] && [ "$(df -B1 --output=avail /dev/shm | tail -n 1)" -gt $((size + 100000000)) ]; then
    BULK=$(mktemp /dev/shm/tapvs-bulk.XXXXXX)
    SCRAP+=("$BULK")
fi
export BULK
"$PYTHON" "$HERE/host.py" noise "$size" 500 >"$BULK"
sum=$(sha256sum <"$BULK" | cut -d' ' -f1)

# carried WHAT SECONDS: prints the rate; a fact, not a check.
carried() { awk -v w="$1" -v s="$2" -v b="$size" 'BEGIN { printf "       %s: %.1f s, %.2f Gbit/s\n", w, s, b * 8 / s / 1e9 }'; }

up() {
    local started=$EPOCHREALTIME got
    got=$(on cl curl -sS -m 900 -T "$BULK" "$2" 2>&1)
    carried "$1" "$(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')"
    same "$1: $size bytes upwards arrive whole" "$sum" "$got"
}

down() {
    local started=$EPOCHREALTIME got
    got=$(on cl curl -sS -m 900 "$2/file" 2>&1 | sha256sum | cut -d' ' -f1)
    carried "$1" "$(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')"
    same "$1: $size bytes downwards arrive whole" "$sum" "$got"
}

# Captures and checksums are not wanted here, so the hosts may use what their cards can do.
with_offload() { local h; for h in "$@"; do on "$h" ethtool -K eth0 tx on >/dev/null 2>&1; done; }

one_server() { sed -E '/^-|^ipvsadm/{/10\.77\.[123]\.1[23]/d}' "$ROOT/examples/$1" | rules; }

street_nat
one_server nat.rules
cat >>"$WORK/rules" <<'RULES'
-A -t 10.77.1.100:5201 -s rr
-a -t 10.77.1.100:5201 -r 10.77.2.11:5201 -m
RULES
with_offload cl s1
serve s1 web1 8080
balance "$WORK/rules"
up NAT http://10.77.1.100/
down NAT http://10.77.1.100
streams "iperf3 through NAT" cl s1 10.77.1.100 -n 250M
streams "iperf3 -R through NAT" cl s1 10.77.1.100 -n 250M -R
next_street

street_dr
one_server dr.rules
with_offload cl s1
as_told "$WORK/rules" s1 10.77.1.11
serve s1 web1 80
balance "$WORK/rules"
up "direct routing" http://10.77.1.100/
next_street

street_tunnel
one_server tun.rules
with_offload cl s1
decap s1
as_told "$WORK/rules" s1 10.77.3.11
serve s1 web1 80
balance "$WORK/rules"
up tunnel http://10.77.1.100/
# The client learns by "fragmentation needed" that the tunnel takes twenty bytes.
DROPS="too-big"
finish
