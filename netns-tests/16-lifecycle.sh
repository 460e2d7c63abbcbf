#!/usr/bin/env bash
# From start to end: what tapvs makes it takes away, what it finds it leaves as it was.
#
#   lb: br-wan ── tap-wan [tapvs] tap-keep ── (a persistent TAP of the operator's, down, MTU 1400, no bridge)

. "$(dirname "$0")/lib.sh"
needs ping ethtool

director_host br-wan br-keep
host cl
wire cl eth0 br-wan 10.77.1.2/24
ip -n "${PFX}lb" tuntap add dev tap-keep mode tap
ip -n "${PFX}lb" link set dev tap-keep mtu 1400
rules <<'RULES'
ip tuntap add dev tap-wan mode tap
ip link set dev tap-wan mtu 1450 master br-wan
ip addr add 10.77.1.1/24 dev tap-wan
ip tuntap add dev tap-keep mode tap
ip link set dev tap-keep mtu 1450 master br-keep
ip addr add 10.77.5.1/24 dev tap-keep
-A -t 10.77.1.100:80 -s wrr
-a -t 10.77.1.100:80 -r 10.77.1.11:80 -g -w 7
-A -u 10.77.1.100:53 -s rr
RULES
link() { on lb ip -o link show dev "$1"; }
# state DEV: what an operator could have set: flags, MTU, bridge.
state() { link "$1" | sed -E 's/^[0-9]+: //; s/ qdisc [a-z_]+//; s/,?LOWER_UP//; s/,?NO-CARRIER//; s/ state [A-Z]+//; s/ link.*//'; }
before=$(state tap-keep)

balance "$WORK/rules"
link tap-wan >"$WORK/link"; link tap-keep >>"$WORK/link"
holds "the kernel's end is up, with the MTU, in its bridge" 'tap-wan: .*[<,]UP.*mtu 1450 .*master br-wan' "$WORK/link"
holds "so is that of the persistent TAP" 'tap-keep: .*[<,]UP.*mtu 1450 .*master br-keep' "$WORK/link"

table >"$WORK/table"
cat >"$WORK/want" <<'WANT'
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.77.1.100:80 wrr
  -> 10.77.1.11:80                Route   7      0          0         
UDP  10.77.1.100:53 rr
WANT
same "the table by SIGUSR1" "$(tail -n +2 "$WORK/want" | sed 's/ *$//')" "$(tail -n +2 "$WORK/table" | sed 's/ *$//')"

# second [OPTION …]: another tapvs with the same rules, on a control socket of its own.
second() {
    on lb timeout 60 "$TAPVS" run -r "$WORK/rules" --socket "$WORK/second.sock" "$@" \
        >"$WORK/second.out" 2>"$WORK/second.err"
}
second
same "a second tapvs on the same TAP: exit code" 1 "$?"
holds "it names the device, and the reason" \
    'opening tap-wan: Device or resource busy \(another tapvs holds it\)' "$WORK/second.err"
lacks "it gives no account, since nothing ran" 'received 0' "$WORK/second.err"
lacks "it was never ready" 'ready' "$WORK/second.out"
link tap-wan >"$WORK/link"; link tap-keep >>"$WORK/link"
holds "the first one's port is untouched" 'tap-wan: .*[<,]UP.*mtu 1450 .*master br-wan' "$WORK/link"
holds "and the other one's" 'tap-keep: .*[<,]UP.*mtu 1450 .*master br-keep' "$WORK/link"
echoes "and works" cl 10.77.1.100

end_director
refuse "after SIGTERM its own TAP is gone" link tap-wan
same "the persistent one is as it was" "$before" "$(state tap-keep)"
same "no port left in br-keep" "" "$(on lb ip -o link show master br-keep)"

balance "$WORK/rules"
kill -INT "$DIRECTOR"
wait "$DIRECTOR"
same "SIGINT ends it as cleanly: exit code" 0 "$?"
DIRECTOR=
refuse "and its TAP is gone" link tap-wan
same "and the persistent one as it was" "$before" "$(state tap-keep)"

# Queues enough for two are no invitation: two would share the frames.
WORKERS=2
balance "$WORK/rules"
second --workers 2
same "a second tapvs on a TAP of many queues: exit code" 1 "$?"
holds "it names the device, and who holds it" 'opening tap-wan.*another tapvs holds it' "$WORK/second.err"
for i in {1..10}; do echoes "every answer still comes ($i)" cl 10.77.1.100; done
# At the default place, which hosts in other network namespaces share, another one that answers is no
# reason to stop: no port is held twice.
mkdir "$WORK/run"
# another NAME: one without rules at that place.
another() {
    start "$WORK/$1.out" ip netns exec "${PFX}lb" \
        env -u TAPVS_SOCKET RUNTIME_DIRECTORY="$WORK/run" "$TAPVS" run -r /dev/null
}
third() {
    another third
    third=$STARTED
    until_true grep -qx ready "$WORK/third.out" || die "tapvs without rules is not ready"
}
third
another fourth
until_true grep -qx ready "$WORK/fourth.out" || die "a second one at the default socket does not run"
holds "a second one at the default socket runs without, and says why, and what helps" \
    'another tapvs answers there.*--socket' "$WORK/fourth.out"
stop "$STARTED"
# It waits two seconds; on a machine where the first one takes longer to end, that shows the next time.
for _ in 1 2 3 4 5; do
    another fourth
    until_true grep -q 'another process has it; waiting' "$WORK/fourth.out" || die "nobody is waited for"
    stop "$third"
    until_true grep -qx ready "$WORK/fourth.out" || die "after the wait it does not run"
    grep -q 'another tapvs answers there' "$WORK/fourth.out" || break
    stop "$STARTED"
    third
done
lacks "one that is just ending is waited for" 'another tapvs answers there' "$WORK/fourth.out"
stop "$STARTED"

# shellcheck disable=SC2317 # until_true calls it
gone_twice() { [ "$(grep -c 'tap-wan: the device is gone' "$WORK/director.log")" = 2 ]; }
# lose DEV: the device goes, and a reload brings it back.
lose() {
    on lb ip link del "$1"
    until_true grep -q "port $1: the device is gone" "$WORK/director.log" || failed "that $1 is gone is told"
    same "a reload opens $1 again ($WORKERS workers)" "~ port $1: opened again" "$("$TAPVS" reload 2>&1)"
    same "the next one finds nothing to do" unchanged "$("$TAPVS" reload)"
}
# changed WHAT COMMAND...: somebody changes a device, which is told; a reload puts it right.
changed() {
    local what=$1
    shift
    on lb "$@"
    until_true grep -q "port tap-wan: its device.*$what" "$WORK/director.log" || failed "that it is $what is told"
    same "a reload puts right what is $what ($WORKERS workers)" "~ port tap-wan: put right" "$("$TAPVS" reload 2>&1)"
    same "and the next one finds nothing" unchanged "$("$TAPVS" reload)"
    expect "it works" on cl ping -c 2 -i 0.2 -W 1 10.77.1.100
}
for WORKERS in 2 1; do
    [ "$WORKERS" = 2 ] || balance "$WORK/rules"
    changed "down" ip link set tap-wan down
    changed "not in bridge br-wan" ip link set tap-wan nomaster
    changed "MTU is 1300" ip link set tap-wan mtu 1300
    on lb ip link del br-wan
    until_true grep -q 'not in bridge br-wan any more' "$WORK/director.log" || failed "that its bridge is gone is told"
    "$TAPVS" reload >"$WORK/told" 2>&1
    same "a reload without the bridge is refused" 3 "$?"
    holds "and says why" 'putting tap-wan into bridge br-wan: No such device' "$WORK/told"
    on lb ip link add br-wan type bridge forward_delay 0
    on lb ip link set br-wan up
    on lb ip link set cl.eth0 master br-wan
    same "with it the next one can" "~ port tap-wan: put right" "$("$TAPVS" reload 2>&1)"
    expect "and it works" on cl ping -c 2 -i 0.2 -W 1 10.77.1.100
    lose tap-wan
    echoes "it works again" cl 10.77.1.100
    same "there is a queue for each worker" "$((WORKERS - 1))" "$(grep -c 'tap-wan: 2 queues' <(tail -n 30 "$WORK/director.log" | sed '1,/device is gone/d'))"
    lose tap-keep
    on lb ip link del tap-wan
    on lb ip link add tap-wan type bridge
    until_true gone_twice || failed "that it is gone again is told"
    "$TAPVS" reload >"$WORK/told" 2>&1
    same "a reload that cannot is refused ($WORKERS workers)" 3 "$?"
    holds "and names the device" 'opening tap-wan' "$WORK/told"
    on lb ip link del tap-wan
    same "the next one can" '~ port tap-wan: opened again' "$("$TAPVS" reload 2>&1)"
    echoes "and it works" cl 10.77.1.100
    # Killed, and started in the same moment.
    kill -KILL "$DIRECTOR"
    balance "$WORK/rules"
    echoes "after kill -9 the next one works at once" cl 10.77.1.100
    on lb ip link del tap-wan
    on lb ip link del tap-keep
    wait "$DIRECTOR"
    same "without any port it ends: exit code" 1 "$?"
    DIRECTOR=
    holds "and says why" 'no port is left' "$WORK/director.log"
done
unset WORKERS
ip -n "${PFX}lb" tuntap add dev tap-keep mode tap
ip -n "${PFX}lb" link set dev tap-keep mtu 1400

# A thousand addresses are announced: each frame takes a page or two, and not the buffer of a super-frame.
{
    echo "ip tuntap add dev tap-wan mode tap"
    echo "ip link set dev tap-wan master br-wan"
    echo "ip addr add 10.78.0.1/16 dev tap-wan"
    for i in $(seq 1000); do
        virt=10.78.$((i / 250 + 1)).$((i % 250 + 1)):80
        printf '%s\n' "-A -t $virt -s rr" "-a -t $virt -r 10.78.9.1:80 -g"
    done
} >"$WORK/many"
balance "$WORK/many"
kib=$(awk '/^RssAnon/ { print $2 }' "/proc/$DIRECTOR/status")
expect "1,000 services take less than 16 MiB (they take $kib KiB)" [ "$kib" -lt 16384 ]
"$TAPVS" status >"$WORK/status"
holds "who cannot be reached is told" 'the server 10.78.9.1 on tap-wan' "$WORK/status"
kill "$DIRECTOR"
wait "$DIRECTOR"
DIRECTOR=

# A rules file that is good and cannot be done: the bridge is missing. Nothing stays behind.
sed 's/br-keep/br-none/' "$WORK/rules" >"$WORK/no-bridge"
on lb timeout 60 "$TAPVS" run -r "$WORK/no-bridge" >"$WORK/second.out" 2>"$WORK/second.err"
same "a missing bridge: exit code" 1 "$?"
holds "it is named" 'br-none' "$WORK/second.err"
refuse "and the TAP that was made is gone" link tap-wan
same "and the persistent one as it was" "$before" "$(state tap-keep)"
finish
