#!/usr/bin/env bash
# What 10,000 services with 5 destinations each cost: `make scale`; docs/scale.md keeps a run of it.
#
#   01-nat's topology; the services beside the one that carries traffic are on a network that nobody asks for.
#
# CPU is user and system time of the whole tapvs, from /proc. What a packet waits meanwhile is told by a ping
# through the director every two milliseconds. SERVICES=n for another number.
# shellcheck disable=SC2317 # the commands are called by `cost` and `waits`

LIMIT=${LIMIT:-300}
. "$(dirname "$0")/lib.sh"
needs ping
services=${SERVICES:-10000}
ticks=$(getconf CLK_TCK)

street_nat
sed -n '/^ip /p' "$ROOT/examples/nat.rules" >"$WORK/rules"
echo 'ip route add local 10.64.0.0/16 dev lo' >>"$WORK/rules"
cp "$WORK/rules" "$WORK/ports"
awk -v n="$services" 'BEGIN {
    for (i = 0; i < n; i++) {
        virt = sprintf("10.64.%d.%d:%d", int(i / 256) % 256, i % 256, 80 + int(i / 65536))
        print "-A -t " virt " -s wlc"
        for (j = 1; j <= 5; j++) print "-a -t " virt " -r 10.77.2." 10 + j ":8080 -m -w " j
    }
}' >"$WORK/services"
export TAPVS_SOCKET="$WORK/tapvs.sock"

# cpu: milliseconds of CPU that the director has used.
cpu() { awk -v t="$ticks" '{ sub(/.*\) /, ""); printf "%d", ($12 + $13) * 1000 / t }' "/proc/$DIRECTOR/stat"; }
# cost WHAT COUNT COMMAND…: runs it so often; CPU of tapvs and time on the wall, for one.
cost() {
    local what=$1 count=$2 begun used i
    shift 2
    used=$(cpu) begun=$EPOCHREALTIME
    for ((i = 0; i < count; i++)); do "$@" >"$WORK/printed" 2>&1 || { cat "$WORK/printed"; die "$what"; }; done
    awk -v what="$what" -v a="$begun" -v b="$EPOCHREALTIME" -v c="$(($(cpu) - used))" -v n="$count" \
        'BEGIN { printf "  %-44s %8.2f ms CPU %8.2f ms\n", what, c / n, (b - a) * 1000 / n }'
}
# waits WHAT COMMAND…: the longest that a packet through the director takes while the command is repeated.
pings() { on cl ping -q -i 0.002 -c 1000 -W 1 10.77.2.12 | awk -F '[/ ]' '/^rtt/ { print $8, $9 }'; }
waits() {
    local what=$1 busy
    shift
    ( while :; do "$@" >/dev/null 2>&1 || exit; done ) &
    busy=$!
    PIDS+=("$busy")
    pings | awk -v what="$what" '{ printf "  %-44s %8s ms mean %8s ms longest\n", what, $1, $2 }'
    stop "$busy"
}
edit() { "$TAPVS" ipvsadm -e -t 10.64.0.7:80 -r 10.77.2.11:8080 -m -w "$((RANDOM % 100))"; }
one_more() { echo "-A -f $(wc -l <"$WORK/rules") -s rr" >>"$WORK/rules"; reload; }

echo "  $("$TAPVS" --version), $(nproc) processors, $(awk -F ': ' '/model name/ { print $2; exit }' /proc/cpuinfo)"
echo "  $services services, 5 destinations each"
cat "$WORK/services" >>"$WORK/rules"
begun=$EPOCHREALTIME
balance "$WORK/rules"
loaded=$(cpu)
awk -v a="$begun" -v b="$EPOCHREALTIME" -v c="$loaded" \
    'BEGIN { printf "  %-44s %8.2f ms CPU %8.2f ms\n", "run: read, load and be ready", c, (b - a) * 1000 }'
"$TAPVS" ipvsadm -Sn >"$WORK/saved"
same "services and destinations" "$((services * 6))" "$(wc -l <"$WORK/saved")"
if [ "$services" -le 10000 ]; then
    if [ "$loaded" -lt 1000 ]; then passed "less than one second of CPU"; else failed "less than one second of CPU"; fi
fi
cost "ipvsadm -C" 1 "$TAPVS" ipvsadm -C
cost "ipvsadm-restore of all" 1 "$TAPVS" ipvsadm-restore <"$WORK/saved"
cost "ipvsadm -Ln" 5 "$TAPVS" ipvsadm -Ln
cost "ipvsadm -Ln of one service" 50 "$TAPVS" ipvsadm -Ln -t 10.64.0.7:80
cost "ipvsadm -Sn" 5 "$TAPVS" ipvsadm -Sn
cost "ipvsadm -e of one server" 100 edit
cost "reload that changes nothing" 5 reload
cost "reload that adds a service" 5 one_more
on cl ping -q -c 3 -i 0.1 10.77.2.12 >/dev/null
waits "a packet, nobody asks" sleep 1
waits "a packet, another program is busy" "$TAPVS" check "$WORK/rules"
waits "a packet, ipvsadm -Ln again and again" "$TAPVS" ipvsadm -Ln
waits "a packet, edits again and again" edit
waits "a packet, reloads again and again" one_more
finish
