#!/usr/bin/env bash
# A tunnel to servers behind another router; our own binary takes it off (examples/tun.rules).
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ── rt .2.254 / .3.1 ── br-far ──┬── s1 10.77.3.11
#          │                10.77.1.1         10.77.2.1            │                            ├── s2 10.77.3.12
#          │           VIP  10.77.1.100                            │ .1.254                     └── s3 10.77.3.13
#          └───────────────────── replies, past the director ──────┘
#
# Shows: outer header from the director to the server, inner packet whole; replies do not pass the director.

. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool

street_tunnel
for i in 1 2 3; do
    decap "s$i"
    as_told "$ROOT/examples/tun.rules" "s$i" "10.77.3.1$i"
    serve "s$i" "web$i" 80
done
capture client cl eth0
capture server s1 eth0
balance "$ROOT/examples/tun.rules"
capture lan lb tap-lan
capture wan lb tap-wan

same "one each in the first round" "web1×1 web2×1 web3×1" "$(get cl 3 http://10.77.1.100/ | shares)"
same "36 more requests are shared 3:2:1" "web1×18 web2×12 web3×6" "$(get cl 36 http://10.77.1.100/ | shares)"
echoes "ping to the virtual address" cl 10.77.1.100
table >"$WORK/table"
holds "the table names the server, Tunnel and its weight" '-> 10\.77\.3\.11:80 +Tunnel +3 ' "$WORK/table"

captured client server lan wan
at_least "the server gets IP in IP from the director" 60 \
    "$(frames server 'ip proto 4 and src host 10.77.2.1 and dst host 10.77.3.11')"
at_least "with the request whole inside" 60 \
    "$(frames server 'ip proto 4 and ip[20] = 0x45 and ip[32:4] = 0x0a4d0102 and ip[36:4] = 0x0a4d0164')"
same "no reply passes the director (inside)" 0 "$(frames lan 'src host 10.77.1.100')"
same "no reply passes the director (outside)" 0 "$(frames wan 'tcp and src host 10.77.1.100')"
at_least "replies reach the client from the router's card" 100 \
    "$(frames client "tcp and src host 10.77.1.100 and ether src $(mac rt wan)")"
no_bad_checksum client
no_bad_checksum server
finish
