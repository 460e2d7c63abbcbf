#!/usr/bin/env bash
# What `tapvs status` and the log tell of mistakes that everybody makes once.
#
#                          ┌── tap-wan [tapvs]  10.77.1.1, VIP 10.77.1.100
#   cl 10.77.1.2 ── br-wan ┼── s1 10.77.1.11  as `tapvs realserver` tells
#                          ├── s2 10.77.1.12  VIP on lo, and no arp_ignore
#                          └── s3 10.77.1.13  no VIP
#
# Shows: the server that answers ARP for the virtual address is named as soon as tapvs starts; servers to which
# connections go in vain, by direct routing and by NAT past their gateway, and a router that does not answer, are
# named; so is a port that is down, outside of its bridge, or in one that is down; JSON says the same.

. "$(dirname "$0")/lib.sh"
needs curl ethtool

# status WORD...: what is told now, in $WORK/status and, as JSON, in $WORK/json.
status() { "$TAPVS" status >"$WORK/status" && "$TAPVS" status --json >"$WORK/json"; }
# tells TEXT: once it is asked often enough, a line has it.
tells() { until_true told "$1"; holds "status tells: $1" "$1" "$WORK/status"; }
# shellcheck disable=SC2317  # called by until_true
told() { status && grep -qE -- "$1" "$WORK/status"; }
# json EXPRESSION: of the status `s`.
json() { "$PYTHON" -c "import json,sys; s = json.load(open(sys.argv[1])); print($1)" "$WORK/json"; }

street_dr
cat "$ROOT/examples/dr.rules" >"$WORK/rules"
as_told "$WORK/rules" s1 10.77.1.11
ip -n "${PFX}s2" addr add 10.77.1.100/32 dev lo
for i in 1 2 3; do serve "s$i" "web$i" 80; done
balance "$WORK/rules"
claims="$(mac s2 eth0) also claims our address 10.77.1.100"
until_true grep -q "$claims" "$WORK/director.log"
holds "the log names the server that answers ARP" "$claims" "$WORK/director.log"
same "and no other one" 1 "$(grep -c 'also claims' "$WORK/director.log")"
tells "$(mac s2 eth0) on tap-wan claimed our address 10.77.1.100"
same "JSON names it as well" "[('10.77.1.100', '$(mac s2 eth0)', 'tap-wan')]" \
    "$(json '[(d["address"], d["mac"], d["port"]) for d in s["disputed"]]')"

# The client believes the director, as if the server's answer had come first.
on cl ip neigh replace 10.77.1.100 lladdr 02:00:00:00:01:01 dev eth0
for _ in 1 2 3; do on cl curl -s -m 1 http://10.77.1.100/ >/dev/null; done
tells 'connections to the server 10\.77\.1\.13:80 of .-t 10\.77\.1\.100:80. are not established, 1 in'
lacks "the others establish theirs" 'server 10\.77\.1\.1[12]:80' "$WORK/status"
same "JSON says so" "[('-t 10.77.1.100:80', '10.77.1.13', 'route', False)]" \
    "$(json '[(v["service"], v["address"], v["method"], v["silent"]) for v in s["unestablished"]]')"

lb() { ip -n "${PFX}lb" "$@"; }
lb link set tap-wan down
tells 'port tap-wan is down; .ip link set tap-wan up.'
lb link set tap-wan up
lb link set tap-wan nomaster
tells 'port tap-wan is not in bridge br-wan'
lb link set tap-wan master br-wan
lb link set br-wan down
tells 'bridge br-wan is down'
same "JSON says so" "[('tap-wan', 'bridge-down')]" "$(json '[(p["port"], p["code"]) for p in s["ports"]]')"
lb link set br-wan up
status
same "nothing is wrong with it now" "[]" "$(json 's["ports"]')"
next_street

street_nat
{ cat "$ROOT/examples/nat.rules"; echo "ip route add default via 10.77.1.254"; } >"$WORK/rules"
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
gateway s2 10.77.2.254
balance "$WORK/rules"
for _ in 1 2 3; do on cl curl -s -m 1 http://10.77.1.100/ >/dev/null; done
tells 'server 10\.77\.2\.12:8080 of .* not established, 1 in .* nothing came back through tapvs'
same "JSON calls it silent" "['10.77.2.12']" "$(json '[v["address"] for v in s["unestablished"] if v["silent"]]')"
# A client behind the router that is not there.
ip -n "${PFX}cl" addr add 10.99.0.2/32 dev lo
for _ in 1 2 3; do on cl curl -s -m 1 --interface 10.99.0.2 http://10.77.1.100/ >/dev/null; done
DROPS="neighbour-failed"
tells 'the router 10\.77\.1\.254 on tap-wan (does not answer|has not been asked for)'
same "JSON names it, and no server" True \
    "$(json 'all(u["next"] == "10.77.1.254" and u["server"] is None for u in s["unreached"]) and s["unreached"] != []')"
# What still waits for that router is given up before the account is made.
# shellcheck disable=SC2317  # called by until_true
nothing_waits() { status && [ "$(json 's["frames"]["waiting"]')" = 0 ]; }
until_true nothing_waits
finish
