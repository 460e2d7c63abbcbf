#!/usr/bin/env bash
# Debian's prometheus-node-exporter scrapes a running tapvs from a directory of files like /proc.
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 10.77.2.11:8080
#                           10.77.1.1         10.77.2.1           ├── s2 10.77.2.12:8080
#                      VIP  10.77.1.100:80                        └── s3 10.77.2.13:8080
#
# Shows: `tapvs proc --into` keeps the files, whole; what is scraped is what ipvsadm counts; when tapvs ends,
# nothing stale is left to scrape, and another tapvs is found again.
# shellcheck disable=SC2317 # the conditions are called by `until_true`

. "$(dirname "$0")/lib.sh"
needs curl prometheus-node-exporter

street_nat
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
export TAPVS_SOCKET="$WORK/tapvs.sock"
balance "$ROOT/examples/nat.rules"
start "$WORK/keeper" ip netns exec "${PFX}lb" "$TAPVS" proc --into "$WORK/proc" --every 1
keeper=$STARTED
until_true grep -qx ready "$WORK/keeper" || die "tapvs proc --into: $(cat "$WORK/keeper")"
same "the files without connections are there" "ip_vs ip_vs_app ip_vs_stats ip_vs_stats_percpu" \
    "$(cd "$WORK/proc/net" && echo *)"
start "$WORK/exporter" ip netns exec "${PFX}lb" prometheus-node-exporter --collector.disable-defaults \
    --collector.ipvs --path.procfs="$WORK/proc" --web.listen-address=127.0.0.1:9100
scrape() { on lb curl -sS -m 60 --noproxy '*' http://127.0.0.1:9100/metrics | grep -v '^#' >"$WORK/scraped"; }
until_true scrape || die "the exporter does not answer: $(cat "$WORK/exporter")"

get cl 24 http://10.77.1.100/ >/dev/null
# Counters are sampled every two seconds, and files written every one.
counted() { "$TAPVS" ipvsadm -Ln --stats --exact | grep -q '^TCP  10.77.1.100:80  *24 '; }
until_true counted || failed "24 connections are counted"
same_files() { [ "$("$TAPVS" proc ip_vs_stats | head -n 3)" = "$(head -n 3 "$WORK/proc/net/ip_vs_stats")" ]; }
until_true same_files || failed "the file follows" "$("$TAPVS" proc ip_vs_stats)" "$(cat "$WORK/proc/net/ip_vs_stats")"
# The last connection's last packets may be counted later than the connection.
settled() { scrape && [ "$(value node_ipvs_incoming_packets_total) $(value node_ipvs_outgoing_packets_total)" = "$(sum 4) $(sum 5)" ]; }
until_true settled

# value NAME [LABEL…]: one scraped value, as a whole number.
value() { grep "^$1" "$WORK/scraped" | awk '{ printf "%.0f", $NF }'; }
# All services together by `ipvsadm --stats --exact`: Conns InPkts OutPkts InBytes OutBytes.
sum() { "$TAPVS" ipvsadm -Ln --stats --exact | awk -v n="$1" '/^(TCP|UDP)/ { s += $n } END { printf "%.0f", s }'; }
same "the collector has read everything" 1 "$(value 'node_scrape_collector_success{collector="ipvs"}')"
same "connections" "$(sum 3)" "$(value node_ipvs_connections_total)"
same "incoming packets" "$(sum 4)" "$(value node_ipvs_incoming_packets_total)"
same "outgoing packets" "$(sum 5)" "$(value node_ipvs_outgoing_packets_total)"
same "incoming bytes" "$(sum 6)" "$(value node_ipvs_incoming_bytes_total)"
same "outgoing bytes" "$(sum 7)" "$(value node_ipvs_outgoing_bytes_total)"
server='{local_address="10.77.1.100",local_mark="",local_port="80",proto="TCP",remote_address="10.77.2.11",remote_port="8080"}'
same "the weight of a server" 3 "$(value "node_ipvs_backend_weight$server")"
same "its inactive connections" "$("$TAPVS" ipvsadm -Ln | awk '$2 == "10.77.2.11:8080" { print $6 }')" \
    "$(value "node_ipvs_backend_connections_inactive$server")"
same "servers of all services" 5 "$(grep -c '^node_ipvs_backend_weight' "$WORK/scraped")"

# Readers and writers meet: not one half file.
half=0
for ((i = 0; i < 300; i++)); do
    [ "$(tail -c 1 "$WORK/proc/net/ip_vs" | od -An -tx1)" = " 0a" ] || half=$((half + 1))
done
same "half files among 300 that were read" 0 "$half"

kill -KILL "$DIRECTOR"
wait "$DIRECTOR" 2>/dev/null
emptied() { grep -q 'no tapvs is running' "$WORK/keeper" && [ -z "$(ls -A "$WORK/proc/net")" ]; }
expect "without a tapvs there are no files" until_true emptied
same "which is said once" 1 "$(grep -c 'no tapvs is running' "$WORK/keeper")"
scrape
same "and nothing stale is scraped" 0 "$(grep -c '^node_ipvs' "$WORK/scraped")"
balance "$ROOT/examples/nat.rules"
expect "another tapvs is found" until_true test -e "$WORK/proc/net/ip_vs"
stop "$keeper"
same "no file outlives its keeper" "" "$(ls -A "$WORK/proc/net")"
finish
