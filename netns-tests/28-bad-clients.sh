#!/usr/bin/env bash
# Whatever clients do at the control socket, packets flow: not one failed request.
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 10.77.2.11:8080
#                           10.77.1.1         10.77.2.1           ├── s2 10.77.2.12:8080
#                      VIP  10.77.1.100:80                        └── s3 10.77.2.13:8080
#
# Under load, with a thousand more services to be listed: clients that never read, that speak nonsense, that go
# in the middle of an answer, that may not, that are wrong, many at once; rules with a mistake. At the end the
# director is killed while it is asked.

. "$(dirname "$0")/lib.sh"
needs curl wrk socat setpriv unshare ipvsadm

street_nat
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
{
    sed '/^ipvsadm -A -t/s/wrr/rr/' "$ROOT/examples/nat.rules"
    for ((i = 0; i < 1000; i++)); do
        echo "-A -u 10.77.1.101:$((1000 + i)) -s rr"
        echo "-a -u 10.77.1.101:$((1000 + i)) -r 10.77.2.11:53 -m"
    done
} >"$WORK/rules"
export TAPVS TAPVS_SOCKET="$WORK/tapvs.sock"
balance "$WORK/rules"
saved() { "$TAPVS" ipvsadm -Sn | sha256sum; }
before=$(saved)
load cl 10.77.1.100:80

# told WHAT CODE PATTERN COMMAND…: the exit code, and one line that says why.
told() {
    local what=$1 code=$2 pattern=$3 out status
    shift 3
    out=$("$@" 2>&1 >/dev/null </dev/null)
    status=$?
    if [ "$status" = "$code" ] && grep -qE -- "$pattern" <<<"$out"; then passed "$what"
    else failed "$what" "want $code, $pattern" "got $status, $out"; fi
}
told "a service that is not there" 255 '^No such service$' "$TAPVS" ipvsadm -D -t 10.77.1.100:9
told "one that is there" 255 '^Service already exists$' "$TAPVS" ipvsadm -A -t 10.77.1.100:80
told "a server that is there" 255 '^Destination already exists$' \
    "$TAPVS" ipvsadm -a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m
told "an option where it is illegal" 2 "^Illegal 'weight' option" "$TAPVS" ipvsadm -A -t 10.77.1.100:9 -w 1
told "no socket" 2 "no tapvs is running at $WORK/nowhere" env TAPVS_SOCKET="$WORK/nowhere" "$TAPVS" ipvsadm -Ln
# In the place of Debian's ipvsadm, which anybody may run wherever ours was built.
told "a socket that is not ours" 2 'Permission denied \(you must be root\)' \
    "$HERE/as-ipvsadm" setpriv --reuid 65534 --regid 65534 --clear-groups ipvsadm -C

start "$WORK/deaf" "$PYTHON" "$HERE/host.py" deaf "$TAPVS_SOCKET" 20
until_true grep -q listening "$WORK/deaf" || die "the deaf do not begin"
for _ in {1..20}; do head -c 100000 /dev/urandom | timeout 1 socat -u - "UNIX-CONNECT:$TAPVS_SOCKET" 2>/dev/null; done
for _ in {1..20}; do "$TAPVS" ipvsadm -Ln | head -n 1; done >"$WORK/heads"
same "a reader that has seen enough, beside twenty that never read" 20 "$(grep -c '^IP Virtual Server' "$WORK/heads")"
for _ in {1..20}; do
    "$TAPVS" ipvsadm -Ln >/dev/null &
    gone=$!
    kill -KILL "$gone"
    wait "$gone" 2>/dev/null
done
many=()
for i in 1 2 3 4 5 6 7 8; do
    "$TAPVS" ipvsadm -A -f "$i" -s rr &
    many+=("$!")
done
for i in "${many[@]}"; do wait "$i" || failed "many at once"; done
same "eight at once, and each was done" 8 "$("$TAPVS" ipvsadm -Sn | grep -c '^-A -f')"
for i in 1 2 3 4 5 6 7 8; do "$TAPVS" ipvsadm -D -f "$i"; done
cp "$WORK/rules" "$WORK/good"
echo '-A -t 10.77.1.100:81 -s wlcc' >>"$WORK/rules"
reload
holds "a mistake is told" 'reload: nothing was changed' "$WORK/director.log"
expect "after all that the table is as it was" test "$before" = "$(saved)"
unload 200

# shellcheck disable=SC2317 # `until_true` calls it
has_knocked() { grep -qE " 02 +[0-9]+ $TAPVS_SOCKET(\.new)?$" /proc/net/unix; }
kill -STOP "$DIRECTOR"
"$TAPVS" ipvsadm -Ln >"$WORK/orphan.out" 2>"$WORK/orphan.err" &
orphan=$!
# A connection that the director has not taken yet stands beside the socket itself.
until_true has_knocked || failed "it is asked"
kill -KILL "$DIRECTOR"
wait "$DIRECTOR" 2>/dev/null
DIRECTOR=
wait "$orphan"
same "its director dies: exit code" 2 "$?"
same "one line" "ended in the middle of its answer" "$(sed 's/.*tapvs.sock //' "$WORK/orphan.err")"
same "and nothing that could be taken for an answer" 0 "$(wc -c <"$WORK/orphan.out")"
finish
