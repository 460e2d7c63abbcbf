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
start "$WORK/iperf3" ip netns exec "${PFX}s1" iperf3 -s
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
same "there are two threads" 2 "$(find "/proc/$DIRECTOR/task" -mindepth 1 -maxdepth 1 | wc -l)"

# Each server in turn, whichever worker a connection comes to.
same "300 connections go round" "web1×100 web2×100 web3×100" "$(get cl 300 http://10.77.1.100/ | shares)"
# What comes by the port with one queue leaves by both queues of the others, and back.
same "from behind the port with one queue" "web1×10 web2×10 web3×10" \
    "$(get far 30 http://10.77.1.100/ | shares)"

on cl wrk -t 1 -c 16 -d 6s --timeout 5s -H 'Connection: close' http://10.77.1.100/ >"$WORK/wrk" 2>&1 &
load=$!
PIDS+=("$load")
on cl iperf3 -c 10.77.1.100 -t 3 -f m -P 8 >"$WORK/up" 2>&1 &
up=$!
PIDS+=("$up")
for i in 1 2 3 4 5; do
    use "$WORK/two"
    expect "a new port is opened ($i)" on lb ip link show tap-new
    use "$WORK/one"
    refuse "and closed again ($i)" on lb ip link show tap-new
done
wait "$up"
same "eight streams upwards: exit code" 0 "$?"
expect "eight streams downwards" on cl iperf3 -c 10.77.1.100 -t 2 -f m -P 8 -R
wait "$load"
lacks "no failed request" 'Socket errors|Non-2xx' "$WORK/wrk"
at_least "requests meanwhile" 500 "$(awk '/requests in/ { print $1 }' "$WORK/wrk")"
echoed=$(for i in {1..20}; do echo "datagram $i" | on cl timeout 2 socat -t 0.2 - UDP:10.77.1.100:9; done | grep -c datagram)
same "datagrams that came back" 20 "$echoed"

# Both workers had their share, as the kernel counts what each thread ran.
for task in "/proc/$DIRECTOR/task"/*; do
    at_least "thread ${task##*/} has worked (ms)" 20 "$(awk '{ print int($1 / 1000000) }' "$task/schedstat")"
done
DROPS="neighbour-failed"
finish
