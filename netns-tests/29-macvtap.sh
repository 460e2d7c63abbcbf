#!/usr/bin/env bash
# macvtap ports: tapvs sits on the real ports themselves, no bridge between.
#
#   cl 10.77.1.2 ── w0 ◀ mvt-wan [tapvs] mvt-lan ▶ l0 ── s1 10.77.2.11, fd77:2::11
#                        10.77.1.1      10.77.2.1
#                    VIP 10.77.1.100, fd77:1::100
#
# mvt-wan is made by tapvs and goes with it; mvt-lan was there before and stays. On the way in and out
# there is offload as on a TAP, so that a bulk transfer is checked as well.

V6=yes
. "$(dirname "$0")/lib.sh"
needs curl ping ethtool

director_host
host cl s1
lay() { # HOST DEV-IN-LB ADDRESS...
    local host=$1 peer=$2 address
    shift 2
    ip link add eth0 netns "$PFX$host" type veth peer name "$peer" netns "${PFX}lb" || die "wire of $host"
    ip -n "${PFX}lb" link set "$peer" up
    ip -n "$PFX$host" link set eth0 up
    patient "$host" eth0
    for address in "$@"; do ip -n "$PFX$host" addr add "$address" dev eth0; done
}
lay cl w0 10.77.1.2/24 fd77:1::2/64
lay s1 l0 10.77.2.11/24 fd77:2::11/64
gateway cl 10.77.1.1 fd77:1::1
gateway s1 10.77.2.1 fd77:2::1
ip -n "${PFX}lb" link add link l0 name mvt-lan type macvtap mode bridge 2>/dev/null \
    || skip "needs macvtap in the kernel"
serve s1 web1 8080
helper s1 http six1 8086 ::
head -c 50000000 /dev/urandom >"$WORK/bulk"
start "$WORK/bulk.log" ip netns exec "${PFX}s1" "$PYTHON" -m http.server -d "$WORK" 8000
listening s1 8000

rules <<'RULES'
ip link add link w0 name mvt-wan type macvtap mode passthru
ip link set dev mvt-wan address 02:00:00:00:01:01 mtu 1500
ip addr add 10.77.1.1/24 dev mvt-wan
ip -6 addr add fd77:1::1/64 dev mvt-wan
ip link add link l0 name mvt-lan type macvtap mode bridge
ip addr add 10.77.2.1/24 dev mvt-lan
ip -6 addr add fd77:2::1/64 dev mvt-lan
-A -t 10.77.1.100:80 -s rr
-a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m
-A -t 10.77.1.100:8000 -s rr
-a -t 10.77.1.100:8000 -r 10.77.2.11:8000 -m
-A -t [fd77:1::100]:80 -s rr
-a -t [fd77:1::100]:80 -r [fd77:2::11]:8086 -m
RULES
was=$(mac lb w0)
lan=$(mac lb mvt-lan)
balance "$WORK/rules"

same "20 requests" "web1×20" "$(get cl 20 http://10.77.1.100/ | shares)"
same "20 requests in IPv6, neighbours found by multicast" "six1×20" "$(get cl 20 'http://[fd77:1::100]/' | shares)"
echoes "ping to the virtual address" cl 10.77.1.100
echoes "ping to tapvs itself in IPv6" cl -6 fd77:1::1
sum=$(sha256sum <"$WORK/bulk")
same "50 MB arrive as they left" "$sum" "$(on cl curl -sS -m 300 --noproxy '*' http://10.77.1.100:8000/bulk | sha256sum)"
same "the MAC is the one of the rules" 02:00:00:00:01:01 "$(mac lb mvt-wan)"
on cl ip neigh show 10.77.1.100 >"$WORK/neigh"
holds "the client knows the virtual address by it" 'lladdr 02:00:00:00:01:01' "$WORK/neigh"
on s1 ip neigh show 10.77.2.1 >"$WORK/neigh"
holds "a port without a MAC in the rules keeps its device's" "lladdr $lan" "$WORK/neigh"

end_director
refuse "the device that tapvs made is gone" ip -n "${PFX}lb" link show mvt-wan
expect "the one that was there stays" ip -n "${PFX}lb" link show mvt-lan
same "the real port has its own MAC again" "$was" "$(mac lb w0)"

# Killed, it can take nothing away; the next one knows what was made.
balance "$WORK/rules"
kill -KILL "$DIRECTOR"
wait "$DIRECTOR" 2>/dev/null
expect "what a killed one made is left" ip -n "${PFX}lb" link show mvt-wan
printf 'ip tuntap add dev mvt-lan mode tap\n' >"$WORK/no-tap"
on lb "$TAPVS" run -r "$WORK/no-tap" 2>"$WORK/err"
holds "a TAP of that name is refused with its cure" 'is a macvtap; .ip link del mvt-lan. removes it' "$WORK/err"
balance "$WORK/rules"
holds "the next one says so" 'mvt-wan: a killed tapvs left it behind' "$WORK/director.log"
holds "and of the operator's that it stays" 'mvt-lan: it was there before us, and will stay' "$WORK/director.log"
same "it works" "web1×5" "$(get cl 5 http://10.77.1.100/ | shares)"
on lb timeout 60 "$TAPVS" run -r "$WORK/rules" --socket "$WORK/second.sock" 2>"$WORK/err"
same "a second one: exit code" 1 "$?"
holds "it says who holds the port" 'opening mvt-wan.*another tapvs holds it' "$WORK/err"
on lb ip link del mvt-wan
same "a device that went is made again by a reload" '~ port mvt-wan: opened again' "$("$TAPVS" reload 2>&1)"
same "and works" "web1×5" "$(get cl 5 http://10.77.1.100/ | shares)"
end_director
refuse "at the end the left-over is gone" ip -n "${PFX}lb" link show mvt-wan
expect "the operator's is not" ip -n "${PFX}lb" link show mvt-lan
same "the real port has its own MAC" "$was" "$(mac lb w0)"

ip -n "${PFX}lb" link set l0 down
balance "$WORK/rules"
holds "a real port that is down is told of" 'l0 is down, so mvt-lan carries nothing' "$WORK/director.log"
lacks "and no spanning tree is, without a bridge" 'spanning tree' "$WORK/director.log"
end_director

sed -i '1s/w0/none0/' "$WORK/rules"
refuse "a real port that is not there stops the start" on lb "$TAPVS" run -r "$WORK/rules"
on lb "$TAPVS" run -r "$WORK/rules" 2>"$WORK/err"
holds "and is named, with its cure" 'making mvt-wan on none0.*ip link' "$WORK/err"
finish
