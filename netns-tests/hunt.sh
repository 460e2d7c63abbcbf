#!/usr/bin/env bash
# Everything that may meet, at once, for HUNT seconds (60 unless told): several workers, connections, datagrams
# from many ports, reloads by signal and by socket, a port that comes and goes, `-C`, `-R`, edits, listings and
# saves of all kinds, clients that hang up. Afterwards it still balances, its account adds up, and memory,
# descriptors and threads are as many as after the first seconds.
#
#   01-nat's topology. Run by hand, best with a debug build: `netns-tests/hunt.sh`, `HUNT=600 WORKERS=3 …`.
# shellcheck disable=SC2317 # the commands are called by `again`

LIMIT=${LIMIT:-$((${HUNT:-60} + 180))}
. "$(dirname "$0")/lib.sh"
needs curl socat
seconds=${HUNT:-60}
WORKERS=${WORKERS:-2}

street_nat
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
helper s1 udp echo 9
sed -n '/^ip /p' "$ROOT/examples/nat.rules" >"$WORK/ports"
services() {
    cat <<'RULES'
-A -t 10.77.1.100:80 -s rr
-a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m
-a -t 10.77.1.100:80 -r 10.77.2.12:8080 -m
-a -t 10.77.1.100:80 -r 10.77.2.13:8080 -m
-A -u 10.77.1.100:9 -s wrr -p 5
-a -u 10.77.1.100:9 -r 10.77.2.11:9 -m
RULES
    awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) {
        virt = sprintf("10.64.%d.%d:80", i / 250, i % 250 + 1)
        print "-A -t " virt " -s " (i % 3 ? "wrr" : "sh")
        for (j = 1; j <= 3; j++) print "-a -t " virt " -r 10.77.2.1" j ":8080 -m -w " j } }'
}
{ cat "$WORK/ports"; services 300; } >"$WORK/one"
{
    cat "$WORK/ports"
    printf '%s\n' 'ip tuntap add dev tap-new mode tap' 'ip addr add 10.77.9.1/24 dev tap-new' \
        'ip route add 10.99.0.0/16 via 10.77.2.11' 'net.ipv4.vs.expire_nodest_conn = 1'
    services 500
} >"$WORK/two"
services 400 >"$WORK/restore"
cp "$WORK/one" "$WORK/rules"
balance "$WORK/rules"

# again COMMAND…: until the hunt is over, whatever comes of it.
again() {
    (
        trap 'exit 0' TERM
        while :; do "$@" >/dev/null 2>&1; sleep 0.0"$((RANDOM % 10))"; done
    ) &
    PIDS+=("$!")
    HUNTERS+=("$!")
}
HUNTERS=()
asks() { "$TAPVS" ipvsadm "$@"; }
swap() { cp "$WORK/$1" "$WORK/next.$1" && mv "$WORK/next.$1" "$WORK/rules" && kill -HUP "$DIRECTOR"; }
datagrams() { for _ in {1..40}; do echo x | timeout 1 ip netns exec "${PFX}cl" socat -t 0.05 - UDP:10.77.1.100:9; done; }
web() { get cl 40 http://10.77.1.100/; }
edits() { for w in {1..9}; do asks -e -t 10.64.0.7:80 -r 10.77.2.11:8080 -m -w "$w"; done; }
hangs_up() { printf '\000\000\000\011services' | timeout 0.05 socat -t 0.01 - "UNIX:$TAPVS_SOCKET"; }
clear_it() { sleep 2; asks -C; }
again web; again web; again datagrams; again swap one; again swap two
again "$TAPVS" reload
restore() { asks -R <"$WORK/restore"; }
again restore; again clear_it; again edits; again hangs_up
again asks -Ln; again asks -Lcn; again asks -Ln --stats; again asks -Sn; again "$TAPVS" save; again "$TAPVS" status
again asks -Z; again kill -USR1 "$DIRECTOR"

look() {
    echo "$(awk '/^VmRSS/ { print $2 }' "/proc/$DIRECTOR/status")" \
        "$(find "/proc/$DIRECTOR/fd" -mindepth 1 | wc -l)" "$(find "/proc/$DIRECTOR/task" -mindepth 1 -maxdepth 1 | wc -l)"
}
sleep $((seconds / 3))
echo "  KiB, descriptors, threads while they are at it: $(look)"
sleep $((seconds - seconds / 3))
echo "  KiB, descriptors, threads while they are at it: $(look)"
for pid in "${HUNTERS[@]}"; do stop "$pid"; done
until_true "$TAPVS" status || failed "it answers"
use "$WORK/one"
sleep 1
read -r memory descriptors threads < <(look)
echo "  KiB, descriptors, threads afterwards: $memory $descriptors $threads"
expect "memory is below 64 MiB: $memory KiB" [ "$memory" -lt 65536 ]
expect "descriptors are few: $descriptors" [ "$descriptors" -lt 40 ]
same "threads" "$WORKERS" "$threads"
"$TAPVS" save >"$WORK/saved"
same "services are those of the file" "$(grep -c '^-A' "$WORK/one")" "$(grep -c '^-A' "$WORK/saved")"
same "it balances" "web1×10 web2×10 web3×10" "$(get cl 30 http://10.77.1.100/ | shares)"
lacks "no panic" 'panicked' "$WORK/director.log"
echo "  $(grep -c 'reload: done' "$WORK/director.log") reloads; $("$TAPVS" status | head -n 1)"
DROPS="neighbour-failed neighbour-queue no-destination destination-gone local-unwanted no-route port-refused \
    rate-limited error-forbidden forwarding-off table-full no-connection transport-unreachable martian ttl-exceeded"
finish
