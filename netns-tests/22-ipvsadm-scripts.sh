#!/usr/bin/env bash
# Debian's own scripts around ipvsadm run unchanged, with tapvs in the place of ipvsadm itself.
#
#   lb [tapvs] tap-lan, which leads nowhere
#
# Shows: ipvsadm-save and ipvsadm-restore; the service script's start, stop, restart, reload, status, rate,
# save and load by its own configuration; `watch ipvsadm -Ln` while the table changes.

. "$(dirname "$0")/lib.sh"
needs ipvsadm ipvsadm-save unshare watch script
service=/etc/init.d/ipvsadm
[ -x "$service" ] || skip "needs $service (Debian's package ipvsadm)"

host lb
export TAPVS TAPVS_SOCKET="$WORK/tapvs.sock" ETC="$WORK/etc"
mkdir "$ETC"
echo "ip tuntap add dev tap-lan mode tap" >"$WORK/rules"
balance "$WORK/rules"
# alike WHAT WANT GOT: of texts that nobody wants to read when they are right.
alike() { if [ "$2" = "$3" ]; then passed "$1"; else failed "$1" "want: $2" "got:  $3"; fi; }
tool() { on lb "$HERE/as-ipvsadm" "$@"; }

cat >"$WORK/some" <<'RULES'
-A -t 10.77.1.100:80 -s wrr
-a -t 10.77.1.100:80 -r 10.77.2.11:8080 -m -w 3
-a -t 10.77.1.100:80 -r 10.77.2.12:8080 -m -w 1
-A -u 10.77.1.100:53 -s rr -o
-a -u 10.77.1.100:53 -r 10.77.2.11:53 -g -w 1
-A -t [fd77:1::100]:443 -s wlc -p 300 -M 64
-a -t [fd77:1::100]:443 -r [fd77:2::11]:443 -i -w 1 --tun-type ipip
-A -f 7 -s sh -b sh-port
-a -f 7 -r 10.77.2.11:0 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
RULES

# ---- ipvsadm-save and ipvsadm-restore ------------------------------------------------------------------

grep -q 'Script Author' "$(command -v ipvsadm-save)" || die "ipvsadm-save is not Debian's script"
expect "ipvsadm-restore reads rules" tool sh -c "exec ipvsadm-restore <'$WORK/some'"
tool ipvsadm-save -n >"$WORK/saved"
alike "ipvsadm-save writes every service and server" "$(cut -d' ' -f1-5 "$WORK/some" | sort)" \
    "$(cut -d' ' -f1-5 "$WORK/saved" | sort)"
{ echo "# a comment"; cat "$WORK/saved"; } >"$WORK/commented"
for _ in 1 2 3; do tool sh -c "exec ipvsadm-restore <'$WORK/commented'" || failed "ipvsadm-restore"; done
alike "what was restored is what was saved" "$(cat "$WORK/saved")" "$(tool ipvsadm-save -n)"
refuse "ipvsadm-save refuses what it does not know" tool ipvsadm-save -x

# ---- the service script --------------------------------------------------------------------------------

mkdir "$ETC/default"
cat >"$ETC/default/ipvsadm" <<'CONF'
AUTO="true"
DAEMON="both"
IFACE="tap-lan"
SYNCID="7"
CONF
cp "$WORK/commented" "$ETC/ipvsadm.rules"
serves() { tool "$service" "$@"; }

"$TAPVS" ipvsadm -C
expect "start" serves start
alike "loads the rules" "$(cat "$WORK/saved")" "$("$TAPVS" ipvsadm -Sn)"
"$TAPVS" ipvsadm -L --daemon >"$WORK/daemon"
holds "and starts the master" '^master sync daemon \(mcast=tap-lan, syncid=7' "$WORK/daemon"
holds "and the backup" '^backup sync daemon \(mcast=tap-lan, syncid=7' "$WORK/daemon"
serves status >"$WORK/status" 2>&1
alike "status lists" "$("$TAPVS" ipvsadm -Ln)" "$(cat "$WORK/status")"
serves rate >"$WORK/rate" 2>&1
alike "rate lists rates" "$("$TAPVS" ipvsadm -Ln --rate)" "$(cat "$WORK/rate")"
expect "restart" serves restart
alike "has the rules again" "$(cat "$WORK/saved")" "$("$TAPVS" ipvsadm -Sn)"
"$TAPVS" ipvsadm -D -f 7
"$TAPVS" ipvsadm -Sn >"$WORK/less"
expect "save" serves save
alike "writes what runs" "$(echo '# ipvsadm.rules'; cat "$WORK/less")" "$(cat "$ETC/ipvsadm.rules")"
"$TAPVS" ipvsadm -C
expect "load" serves load
alike "reads it" "$(cat "$WORK/less")" "$("$TAPVS" ipvsadm -Sn)"
expect "reload" serves reload
alike "reads it too" "$(cat "$WORK/less")" "$("$TAPVS" ipvsadm -Sn)"
expect "stop" serves stop
alike "clears the table" "" "$("$TAPVS" ipvsadm -Sn)"
alike "and ends the daemons" "" "$("$TAPVS" ipvsadm -L --daemon)"

# ---- watch ---------------------------------------------------------------------------------------------

# watch wants a terminal, which script gives it; what it prints is the screen's bytes.
# --foreground: a command behind timeout may not set the terminal up where $SHELL, which script starts, stays its leader.
start "$WORK/watch.out" ip netns exec "${PFX}lb" "$HERE/as-ipvsadm" env TERM=xterm \
    script -qfc "stty cols 100 rows 30; timeout --foreground 600 watch -n 0.5 -t ipvsadm -Ln" "$WORK/watch"
until_true grep -q 'RemoteAddress:Port' "$WORK/watch" || failed "watch shows the listing" "$(cat "$WORK/watch.out")"
"$TAPVS" ipvsadm -A -t 10.77.1.100:8081 -s rr
expect "watch shows what changes" until_true grep -q '10\.77\.1\.100:8081 rr' "$WORK/watch"
lacks "and nothing else" 'rror|cannot|denied' "$WORK/watch"
stop "$STARTED"
finish
