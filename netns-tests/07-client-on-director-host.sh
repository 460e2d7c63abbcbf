#!/usr/bin/env bash
# The client is the director's own host: its bridge has an address and asks the virtual address
# (what the kernel does in ip_vs_local_request and, for the replies, in ip_vs_reply).
#
#   lb: br-wan 10.77.1.9 ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 10.77.2.11
#                         10.77.1.1         10.77.2.1           ├── s2 10.77.2.12
#                    VIP  10.77.1.100:80                        └── s3 10.77.2.13

. "$(dirname "$0")/lib.sh"
needs curl tcpdump ping ethtool

street_nat
for i in 1 2 3; do serve "s$i" "web$i" 8080; done
# The host's kernel hands its own frames to the bridge with their checksums still to be made unless
# told otherwise.
on lb ethtool -K br-wan tx off >/dev/null 2>&1
patient lb br-wan
ip -n "${PFX}lb" addr add 10.77.1.9/24 dev br-wan
ip -n "${PFX}lb" route add 10.77.2.0/24 via 10.77.1.1
balance "$ROOT/examples/nat.rules"
capture own lb br-wan
capture server s1 eth0

get lb 3 http://10.77.1.100/ >/dev/null
same "36 requests of the host itself are shared 3:2:1" "web1×18 web2×12 web3×6" \
    "$(get lb 36 http://10.77.1.100/ | shares)"
echoes "ping from the host to the virtual address" lb 10.77.1.100
same "and a client elsewhere is served as well" "web1×3 web2×2 web3×1" "$(get cl 6 http://10.77.1.100/ | shares)"

captured own server
at_least "the host's replies come from the virtual address" 60 \
    "$(frames own 'tcp and src host 10.77.1.100 and dst host 10.77.1.9')"
at_least "the server sees the host's address" 20 "$(frames server 'tcp and src host 10.77.1.9')"
no_bad_checksum server
finish
