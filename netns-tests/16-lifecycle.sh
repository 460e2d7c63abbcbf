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

on lb timeout 5 "$TAPVS" run -r "$WORK/rules" >"$WORK/second.out" 2>"$WORK/second.err"
same "a second tapvs on the same TAP: exit code" 1 "$?"
holds "it names the device" 'tap-wan' "$WORK/second.err"
holds "and the reason" '[Bb]usy' "$WORK/second.err"
lacks "it was never ready" 'ready' "$WORK/second.out"
link tap-wan >"$WORK/link"; link tap-keep >>"$WORK/link"
holds "the first one's port is untouched" 'tap-wan: .*[<,]UP.*mtu 1450 .*master br-wan' "$WORK/link"
holds "and the other one's" 'tap-keep: .*[<,]UP.*mtu 1450 .*master br-keep' "$WORK/link"
expect "and works" on cl ping -c 1 -W 1 10.77.1.100

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

# A rules file that is good and cannot be done: the bridge is missing. Nothing stays behind.
sed 's/br-keep/br-none/' "$WORK/rules" >"$WORK/no-bridge"
on lb timeout 5 "$TAPVS" run -r "$WORK/no-bridge" >"$WORK/second.out" 2>"$WORK/second.err"
same "a missing bridge: exit code" 1 "$?"
holds "it is named" 'br-none' "$WORK/second.err"
refuse "and the TAP that was made is gone" link tap-wan
same "and the persistent one as it was" "$before" "$(state tap-keep)"
finish
