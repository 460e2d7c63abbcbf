#!/usr/bin/env bash
# A mistake in each position of the rules: one clear message, exit code 3, nothing created.
#
#   lb: br-wan, and no frame anywhere

. "$(dirname "$0")/lib.sh"
needs ip

director_host br-wan

# with LINE: a good file with this line in the middle (it is line 5).
with() {
    rules <<RULES
ip tuntap add dev tap-wan mode tap
ip link set dev tap-wan master br-wan
ip addr add 10.77.1.1/24 dev tap-wan
-A -t 10.77.1.100:80 -s rr
$1
-a -t 10.77.1.100:80 -r 10.77.1.11:80 -g
RULES
}

# bad WHAT WORD LINE: `check` and `run` refuse the line with exit code 3 and name line and word.
bad() {
    local what=$1 word=$2 status
    with "$3"
    on lb timeout 60 "$TAPVS" check "$WORK/rules" >"$WORK/check.out" 2>"$WORK/check.err"
    same "$what: check's exit code" 3 "$?"
    holds "$what: names file, line and column" 'rules:5:[0-9]+' "$WORK/check.err"
    if grep -qiF -- "$word" "$WORK/check.err"; then
        passed "$what: says \"$word\""
    else
        failed "$what: says \"$word\"" "$(cat "$WORK/check.err")"
    fi
    on lb timeout 60 "$TAPVS" run -r "$WORK/rules" >"$WORK/run.out" 2>"$WORK/run.err"
    status=$?
    same "$what: run's exit code" 3 "$status"
    lacks "$what: never ready" ready "$WORK/run.out"
    refuse "$what: no device" on lb ip link show tap-wan
}

with '# nothing wrong here'
expect "the file without a mistake is good" on lb "$TAPVS" check "$WORK/rules"
refuse "and checking it makes no device" on lb ip link show tap-wan

bad "unknown option"        "--persistent" "-A -t 10.77.1.101:80 --persistant 300"
bad "unknown short option"  "-q"          "-A -t 10.77.1.101:80 -q"
bad "unknown scheduler"     "wrr"         "-A -t 10.77.1.101:80 -s wwr"
bad "bad address"           "10.77.1.300" "-A -t 10.77.1.300:80 -s rr"
bad "bad port"              "65536"       "-A -t 10.77.1.101:65536 -s rr"
bad "port on a mark"        "7:80"        "-A -f 7:80 -s rr"
bad "weight out of range"   "2147483647"  "-a -t 10.77.1.100:80 -r 10.77.1.12:80 -g -w 2147483648"
bad "weight below zero"     "-1"          "-a -t 10.77.1.100:80 -r 10.77.1.12:80 -g -w -1"
bad "no such service"       "Service not defined" "-a -t 10.77.1.102:80 -r 10.77.1.12:80 -g"
bad "service twice"         "already"     "-A -t 10.77.1.100:80 -s rr"
bad "port 0, not persistent" "-p"         "-A -t 10.77.1.101:0 -s rr"
bad "missing argument"      "-t"          "-A -t"
bad "missing scheduler"     "-s"          "-A -t 10.77.1.101:80 -s"
bad "typographic dash"      "–"           "ipvsadm –A –t 10.77.1.101:80 –s wlc"
bad "no such device"        "tap-lan"     "ip addr add 10.77.2.1/24 dev tap-lan"
bad "unknown command"       "ip"          "ipp addr add 10.77.2.1/24 dev tap-wan"
bad "unknown sysctl"        "net.ipv4.vs.expire_nodest_conn" "sysctl -w net.ipv4.vs.expire_nodest_con=1"
bad "prefix too long"       "33"          "ip addr add 10.77.2.1/33 dev tap-wan"
bad "not even a command"    "hello"       "hello"

with "-A -t 10.77.1.101:80 -s wwr
-A -t 10.77.1.300:80"
on lb "$TAPVS" check "$WORK/rules" >/dev/null 2>"$WORK/check.err"
holds "two bad lines: the first is reported" 'rules:5:' "$WORK/check.err"
holds "two bad lines: and the second" 'rules:6:' "$WORK/check.err"

on lb "$TAPVS" check "$WORK/nowhere" >/dev/null 2>"$WORK/check.err"
refuse "a file that is not there" test "$?" -eq 0
holds "is named" 'nowhere' "$WORK/check.err"
finish
