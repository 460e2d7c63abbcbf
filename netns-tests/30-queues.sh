#!/usr/bin/env bash
# Two workers, a queue of every port each: streams both ways, short connections and datagrams at once,
# while the rules are read again and a port comes and goes. Nothing is altered, lost from the account, or
# scheduled out of turn.
#
#   01-nat's topology; tap-one is a persistent TAP of the operator's with a single queue.

. "$(dirname "$0")/lib.sh"
needs curl iperf3 ethtool socat wrk

street_nat
for h in cl s1; do on "$h" ethtool -K eth0 tx on >/dev/null 2>&1; done
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
helper s1 udp echo 9
ip -n "${PFX}lb" tuntap add dev tap-one mode tap
{
    sed -n '/^ip /p' "$ROOT/examples/nat.rules"
    cat <<'RULES'
ip tuntap add dev tap-one mode tap
ip link set dev tap-one master br-one
ip addr add 10.77.3.1/24 dev tap-one
-A -t 10.77.1.100:80 -s rr
-a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m
-a -t 10.77.1.100:80 -r 10.77.2.12:8080 -m
-a -t 10.77.1.100:80 -r 10.77.2.13:8080 -m
-A -t 10.77.1.100:5201 -s rr
-a -t 10.77.1.100:5201 -r 10.77.2.11:5201 -m
-A -u 10.77.1.100:9 -s rr
-a -u 10.77.1.100:9 -r 10.77.2.11:9 -m
RULES
} >"$WORK/one"
{
    cat "$WORK/one"
    cat <<'RULES'
ip tuntap add dev tap-new mode tap
ip addr add 10.77.9.1/24 dev tap-new
-A -u 10.77.1.100:53 -s rr
RULES
} >"$WORK/two"
cp "$WORK/one" "$WORK/rules"
# A host of its own behind the port with one queue.
ip -n "${PFX}lb" link add name br-one type bridge forward_delay 0 stp_state 0 mcast_snooping 0
ip -n "${PFX}lb" link set br-one up
host far
wire far eth0 br-one 10.77.3.2/24
gateway far 10.77.3.1
WORKERS=2
balance "$WORK/rules"

holds "a port of ours has two queues" 'tap-wan: 2 queues' "$WORK/director.log"
holds "one that was made with one has one" 'tap-one: one queue, which one worker reads' "$WORK/director.log"
# threads: the director's own; the kernel's helpers of a ring stand beside them.
threads() { grep -Lx 'iou-.*' "/proc/$DIRECTOR/task"/*/comm | xargs -n 1 dirname; }
same "there are two threads" 2 "$(threads | wc -l)"

# Each server in turn, whichever worker a connection comes to.
same "300 connections go round" "web1×100 web2×100 web3×100" "$(get cl 300 http://10.77.1.100/ | shares)"
# What comes by the port with one queue leaves by both queues of the others, and back.
same "from behind the port with one queue" "web1×10 web2×10 web3×10" \
    "$(get far 30 http://10.77.1.100/ | shares)"

load cl 10.77.1.100:80 -c 16 -H 'Connection: close'
start "$WORK/iperf3" ip netns exec "${PFX}s1" iperf3 -s -1
up_server=$STARTED
listening s1 5201
start "$WORK/up" ip netns exec "${PFX}cl" iperf3 -c 10.77.1.100 -t 3 -f m -P 8
up=$STARTED
for i in 1 2 3 4 5; do
    use "$WORK/two"
    expect "a new port is opened ($i)" on lb ip link show tap-new
    use "$WORK/one"
    refuse "and closed again ($i)" on lb ip link show tap-new
done
wait "$up"
same "eight streams upwards: exit code" 0 "$?"
until_true gone "$up_server"
streams "eight streams downwards" cl s1 10.77.1.100 -n 250M -P 8 -R
unload 500
# The answer is the question after `echo: `; with its last byte socat ends.
echoed=$(for i in {10..29}; do echo "datagram $i" | on cl socat -t 60 - UDP:10.77.1.100:9,readbytes=18; done | grep -c datagram)
same "datagrams that came back" 20 "$echoed"

# Both workers had their share, as the kernel counts what each thread ran.
for task in $(threads); do
    at_least "thread ${task##*/} has worked (ms)" 20 "$(awk '{ print int($1 / 1000000) }' "$task/schedstat")"
done
DROPS="neighbour-failed"
finish
