#!/usr/bin/env bash
# 1,000 reloads that alternate two rules files while wrk loads the service: not one failed request,
# and no established connection moved.
#
#   01-nat's topology. The second file has another scheduler, persistence, other weights (a
#   server is drained) and one service more.
#
# COUNT=n for another number of reloads.

. "$(dirname "$0")/lib.sh"
needs curl wrk
count=${COUNT:-1000}

street_nat
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
helper s1 tcp echo1 7777
helper s2 tcp echo2 7777
ports() {
    sed -n '/^ip /p' "$ROOT/examples/nat.rules"
    cat <<'RULES'
-A -t 10.77.1.100:7 -s rr
-a -t 10.77.1.100:7 -r 10.77.2.11:7777 -m
-a -t 10.77.1.100:7 -r 10.77.2.12:7777 -m
RULES
}
{
    ports
    cat <<'RULES'
-A -t 10.77.1.100:80 -s rr
-a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m
-a -t 10.77.1.100:80 -r 10.77.2.12:8080 -m
-a -t 10.77.1.100:80 -r 10.77.2.13:8080 -m
RULES
} >"$WORK/one"
{
    ports
    cat <<'RULES'
sysctl -w net.ipv4.vs.expire_quiescent_template=1
-A -t 10.77.1.100:80 -s wlc -p 60
-a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m -w 5
-a -t 10.77.1.100:80 -r 10.77.2.12:8080 -m
-a -t 10.77.1.100:80 -r 10.77.2.13:8080 -m -w 0
-A -u 10.77.1.100:53 -s rr
RULES
} >"$WORK/two"

cp "$WORK/one" "$WORK/rules"
export TAPVS_SOCKET="$WORK/tapvs.sock"
balance "$WORK/rules"

# An established connection, held open through everything.
hold cl 10.77.1.100 7
load cl 10.77.1.100:80
started=$EPOCHREALTIME
for ((i = 0; i < count / 2; i++)); do
    use "$WORK/two"
    use "$WORK/one"
done
awk -v a="$started" -v b="$EPOCHREALTIME" -v n="$count" \
    'BEGIN { printf "       %d reloads in %.1f s\n", n, b - a }'
same "reloads that were done" "$((count / 2 * 2))" "$(grep -c 'reload: done' "$WORK/director.log")"
unload 100

says after || failed "the held connection answers after all reloads"
same "it was answered by one server only" 1 "$(grep -o 'echo[12]' "$WORK/held" | sort -u | wc -l)"
let_go

# The same rules again are no change; rules with a mistake change nothing and say where it is.
use "$WORK/one"
holds "the same rules are said to be the same" 'reload: the rules are the same' "$WORK/director.log"
{ cat "$WORK/two"; echo '-A -t 10.77.1.100:81 -s wlcc'; } >"$WORK/bad"
before=$(table)
use "$WORK/bad"
holds "a mistake is told with its place" 'rules:[0-9]+:[0-9]+: unknown scheduler' "$WORK/director.log"
holds "and changes nothing" 'reload: nothing was changed' "$WORK/director.log"
same "the table is as before" "$(awk '{ print $1, $2, $3, $4 }' <<<"$before")" \
    "$(table | awk '{ print $1, $2, $3, $4 }')"

# Ports, addresses and routes come and go with the file.
{ cat "$WORK/one"; printf 'ip tuntap add dev tap-new mode tap\nip addr add 10.77.9.1/24 dev tap-new\n'; } >"$WORK/more"
use "$WORK/more"
expect "a new port is opened" on lb ip link show tap-new
use "$WORK/one"
refuse "and closed again" on lb ip link show tap-new

# By the control socket, with an answer; and what runs, saved, loads to what runs.
cp "$WORK/more" "$WORK/rules"
"$TAPVS" reload >"$WORK/told"
holds "a reload by the socket tells what comes" '^\+ ip tuntap add dev tap-new mode tap$' "$WORK/told"
expect "and the port is there" on lb ip link show tap-new
expect "the state is saved in the rules' place" "$TAPVS" save -o "$WORK/rules"
holds "with what was filled in" '^ip link set dev tap-new mtu 1500$' "$WORK/rules"
same "and is what runs" unchanged "$("$TAPVS" reload)"
same "the service still answers" web "$(get cl 1 http://10.77.1.100/ | tr -d '0-9\n')"
DROPS="neighbour-failed"
finish
