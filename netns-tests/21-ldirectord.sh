#!/usr/bin/env bash
# Debian's ldirectord, unchanged, keeps the table of a running tapvs: it checks the servers by HTTP.
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 10.77.2.11:8080
#                           10.77.1.1         10.77.2.1      │    ├── s2 10.77.2.12:8080
#                      VIP  10.77.1.100:80        10.77.2.254│    └── s3 10.77.2.13:8080  the sorry server
#                                                       ldirectord
#
# ldirectord runs in the director's namespace and sees the servers by the bridge's own address; what it
# runs as /sbin/ipvsadm is tapvs. Shows, under load: a killed server goes (after how long is printed) and
# no request fails after that; it comes back; without any server the sorry server answers; a quiescent
# service drains instead; the end of ldirectord removes what it made.

# shellcheck disable=SC2317 # the conditions are called by `waits`

. "$(dirname "$0")/lib.sh"
needs curl wrk ldirectord ipvsadm unshare

# Seconds: how often, and for how long at most, ldirectord asks a server. One that is slow is not to be taken for
# dead, and one that is dead refuses at once.
interval=1 patience=60

street_nat
on lb ip addr add 10.77.2.254/24 dev br-lan
for i in 1 2; do
    serve "s$i" "web$i" 8080
    declare "web$i=$STARTED"
done
serve s3 sorry 8080
sed -n '/^ip /p' "$ROOT/examples/nat.rules" >"$WORK/rules"
export TAPVS TAPVS_SOCKET="$WORK/tapvs.sock"
balance "$WORK/rules"

# checks QUIESCENT: ldirectord with a configuration of this test.
checks() {
    cat >"$WORK/tapvs.cf" <<CF
checkinterval=$interval
checktimeout=$patience
negotiatetimeout=$patience
autoreload=no
quiescent=$1
supervised=yes
logfile="$WORK/ldirectord.log"
virtual=10.77.1.100:80
	real=10.77.2.11:8080 masq 2
	real=10.77.2.12:8080 masq 2
	fallback=10.77.2.13:8080 masq
	service=http
	scheduler=rr
	protocol=tcp
	checktype=negotiate
	request="index.html"
	receive="web[12]"
CF
    start "$WORK/ldirectord.out" ip netns exec "${PFX}lb" "$HERE/as-ipvsadm" ldirectord "$WORK/tapvs.cf" start
    director_of_checks=$STARTED
}
# look COMMAND…: whether it holds of the table as it is now. Each condition is of one and the same listing.
look() { LISTING=$("$TAPVS" ipvsadm -Ln) && "$@"; }
# weight N: the weight of server N there, nothing if it is not in the table.
weight() { awk -v at="10.77.2.1$1:8080" '$2 == at { print $4 }' <<<"$LISTING"; }
is_out() { [ "$(weight "$1")" = "" ]; }
is_in() { [ "$(weight "$1")" = 2 ]; }
# As it starts, ldirectord puts each server in and takes it out again; after that its checks decide.
is_started() { grep -q 'Resetting soft failure count' "$WORK/ldirectord.out"; }
stood_down() { [ "$(weight 3)" = "" ] || [ "$(weight 3)" = 0 ]; }
stands_in() { is_out 1 && is_out 2 && [ "$(weight 3)" = 1 ]; }
is_drained() { [ "$(weight "$1")" = 0 ]; }
# end_checks: ends ldirectord, which looks at signals between two checks, and tidies up.
end_checks() {
    kill -TERM "$director_of_checks"
    until_true gone "$director_of_checks" || failed "ldirectord ends"
}
# waits WHAT COMMAND...: until the table is so; says after how long.
waits() {
    local what=$1 begun=$EPOCHREALTIME
    shift
    until_true look "$@" || { failed "$what" "$("$TAPVS" ipvsadm -Ln)"; return; }
    passed "$what after $(awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }') s"
}
# The witness: a request after the other through everything, until it is let go. Each says that it begins and what
# came of it; what happens meanwhile is noted between them, so that no clock is needed to tell what was first.
witness() {
    local answer
    while [ ! -e "$WORK/let-go" ]; do
        note begins
        answer=$(on cl curl -s -m 60 --noproxy '*' http://10.77.1.100/) || answer=failed
        note "ends $answer"
    done
}
note() { echo "$*" >>"$WORK/witness"; }
# begun_after NOTE: what came of the requests that began after it.
begun_after() { awk -v note="$1" '$0 == note { on = 1 } on && $1 == "begins" { own = 1 } own && $1 == "ends" { print $2 }' "$WORK/witness"; }
has_seen() { [ "$(begun_after out | wc -l)" -ge "$1" ]; }

checks no
until_true is_started
waits "both servers are put into the table" eval 'is_in 1 && is_in 2 && stood_down'
same "and share the requests" "web1×4 web2×4" "$(get cl 8 http://10.77.1.100/ | shares)"

witness 2>"$WORK/witness.err" &
seer=$!
PIDS+=("$seer")
load cl 10.77.1.100:80
note killed
# shellcheck disable=SC2154 # declared above
kill -KILL "$web1"
wait "$web1" 2>/dev/null
waits "the killed server is out" is_out 1
note out
stop "$LOAD"
until_true has_seen 20
touch "$WORK/let-go"
until_true gone "$seer"
load cl 10.77.1.100:80
unload 50
same "one server answers" "web2×6" "$(get cl 6 http://10.77.1.100/ | shares)"
at_least "requests after it was out" 20 "$(begun_after out | wc -l)"
same "failed ones among them" 0 "$(begun_after out | grep -c failed)"
same "failed ones before the kill" 0 "$(sed '/^killed$/,$d' "$WORK/witness" | grep -c failed)"

serve s1 web1 8080
web1=$STARTED
waits "the restarted server is back" is_in 1
same "and gets its share" "web1×4 web2×4" "$(get cl 8 http://10.77.1.100/ | shares)"

stop "$web1"
# shellcheck disable=SC2154 # declared above
stop "$web2"
waits "without servers, the sorry server stands in" stands_in
same "and answers" "sorry×4" "$(get cl 4 http://10.77.1.100/ | shares)"
serve s2 web2 8080
waits "it goes when there is a server" eval 'is_in 2 && stood_down'
same "which answers" "web2×4" "$(get cl 4 http://10.77.1.100/ | shares)"

end_checks
same "the end of ldirectord removes the service" "" "$("$TAPVS" ipvsadm -Sn)"

checks yes
until_true is_started
waits "a quiescent service has its server" eval 'is_drained 1 && is_in 2 && stood_down'
same "and its drained one gets nothing" "web2×4" "$(get cl 4 http://10.77.1.100/ | shares)"
serve s1 web1 8080
waits "whose weight comes back" is_in 1
same "with its share" "web1×2 web2×2" "$(get cl 4 http://10.77.1.100/ | shares)"
end_checks
# Connections that were open when their server was taken out.
DROPS=destination-gone
finish
