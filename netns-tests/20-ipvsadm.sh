#!/usr/bin/env bash
# The operator's hands under traffic: ipvsadm asks and changes a running director (examples/nat.rules).
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 10.77.2.11:8080
#                           10.77.1.1         10.77.2.1           ├── s2 10.77.2.12:8080
#                      VIP  10.77.1.100:80, later :81 too         └── s3 10.77.2.13:8080
#
# Shows: connections, counters and rates while they move, -Z, a service made, drained and unmade by
# hand, a daemon on a port, that save and restore under traffic lose no connection that lives.

. "$(dirname "$0")/lib.sh"
needs curl

street_nat
for i in 1 2 3; do
    as_told "$ROOT/examples/nat.rules" "s$i" "10.77.2.1$i"
    serve "s$i" "web$i" 8080
done
export TAPVS_SOCKET="$WORK/tapvs.sock"
balance "$ROOT/examples/nat.rules"
ipvsadm() { "$TAPVS" ipvsadm "$@"; }
web=-t\ 10.77.1.100:80

same "the socket is its owner's alone" 600 "$(stat -c %a "$TAPVS_SOCKET")"
get cl 12 http://10.77.1.100/ >/dev/null
# The last one's end may still be under way.
# shellcheck disable=SC2317 # `until_true` calls it
all_ended() {
    ipvsadm -Lnc >"$WORK/conns"
    [ "$(grep -c '^TCP 0[01]:[0-9][0-9]  [A-Z_]* *10.77.1.2:' "$WORK/conns")" = 12 ]
}
expect "connections are listed, one a line" until_true all_ended
# shellcheck disable=SC2086,SC2317 # two words; `until_true` calls it
counted() { ipvsadm -Ln $web --stats >"$WORK/stats" && grep -q '^TCP  10.77.1.100:80  *12 ' "$WORK/stats"; }
until_true counted
holds "connections are counted" '^TCP  10\.77\.1\.100:80 +12 ' "$WORK/stats"
same "servers' counts add up to the service's" \
    "$(awk '/^TCP/ { print $3, $4, $5 }' "$WORK/stats")" \
    "$(awk '/->.*:8080/ { c += $3; i += $4; o += $5 } END { print c, i, o }' "$WORK/stats")"
# They fall by themselves where nobody asks.
# shellcheck disable=SC2086,SC2317 # two words; `until_true` calls it
moves() { get cl 3 http://10.77.1.100/ && ipvsadm -Ln $web --rate | grep -q '^TCP  10\.77\.1\.100:80  *[1-9]'; }
expect "rates move" until_true moves
"$TAPVS" proc ip_vs_stats >"$WORK/total"
holds "the whole is counted" '^ +C  ' "$WORK/total"
# shellcheck disable=SC2086,SC2317 # two words; `until_true` calls it
zeroed() { ipvsadm -Z && [ "$(ipvsadm -Ln $web --stats | awk '/^TCP/ { print $3, $6 }')" = "0 0" ]; }
expect "zero is zero, when the last connection has ended" until_true zeroed

expect "a service is made by hand" ipvsadm -A -t 10.77.1.100:81 -s rr
expect "and given a server" ipvsadm -a -t 10.77.1.100:81 -r 10.77.2.12:8080 -m
same "which serves at once" "web2×3" "$(get cl 3 http://10.77.1.100:81/ | shares)"
expect "another joins" ipvsadm -a -t 10.77.1.100:81 -r 10.77.2.13:8080 -m
expect "the first is drained" ipvsadm -e -t 10.77.1.100:81 -r 10.77.2.12:8080 -m -w 0
same "and gets nothing new" "web3×3" "$(get cl 3 http://10.77.1.100:81/ | shares)"
expect "the service goes" ipvsadm -D -t 10.77.1.100:81
refuse "and nobody answers there" on cl curl -sS -m 2 --noproxy '*' http://10.77.1.100:81/

expect "a daemon is noted" ipvsadm --start-daemon master --mcast-interface tap-lan --syncid 9
same "and shown" "master sync daemon (mcast=tap-lan, syncid=9, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)" \
    "$(ipvsadm -L --daemon)"
same "it cannot run twice" "Daemon has already run" \
    "$(ipvsadm --start-daemon master --mcast-interface tap-lan 2>&1)"
expect "it is stopped" ipvsadm --stop-daemon master

helper s1 tcp echo1 7777
ipvsadm -A -t 10.77.1.100:7 -s rr
ipvsadm -a -t 10.77.1.100:7 -r 10.77.2.11:7777 -m
hold cl 10.77.1.100 7
ipvsadm -Sn >"$WORK/saved"
for _ in 1 2 3; do
    "$TAPVS" ipvsadm-restore <"$WORK/saved" || failed "restore"
done
same "what was restored is what was saved" "$(cat "$WORK/saved")" "$(ipvsadm -Sn)"
says after || failed "a connection outlives it" "$(cat "$WORK/held")"
let_go
finish
