#!/usr/bin/env bash
# UDP services: dig and socat through NAT, then through direct routing.
#
#   01-nat's and 02-dr's topologies, one after the other, by the same rules (port 53 of the VIP).

. "$(dirname "$0")/lib.sh"
needs dig socat tcpdump ethtool

ask() { local i; for ((i = 0; i < $1; i++)); do on cl dig +short +time=60 +tries=1 @10.77.1.100 TXT who.test; done; }

street_nat
{
    cat "$ROOT/examples/nat.rules"
    echo "-A -u 10.77.1.100:7 -s rr"
    echo "-a -u 10.77.1.100:7 -r 10.77.2.13:7777 -m"
} | rules
for i in 1 2; do helper "s$i" dns "dns$i" 5353; done
helper s3 udp echo3 7777
balance "$WORK/rules"
capture client cl eth0
capture server s1 eth0
same "10 questions by turns (NAT)" '"dns1"×5 "dns2"×5' "$(ask 10 | shares)"
# socat ends with the last byte of the answer, whenever that comes.
same "socat gets its own words back" "echo3: hello" \
    "$(on cl sh -c 'printf hello | socat -t 60 - UDP4:10.77.1.100:7,readbytes=12')"
# 4,000 bytes leave the client as three fragments; a service sees them whole.
same "a datagram in fragments comes back whole" 4007 \
    "$(on cl sh -c 'head -c 4000 /dev/zero | socat -t 60 -b 8000 - UDP4:10.77.1.100:7,readbytes=4007 | wc -c')"
table >"$WORK/table"
holds "the table names the UDP service" '^UDP +10\.77\.1\.100:53 rr' "$WORK/table"
captured client server
no_bad_checksum client
no_bad_checksum server
next_street

street_dr
for i in 1 2; do
    as_told "$ROOT/examples/dr.rules" "s$i" "10.77.1.1$i"
    helper "s$i" dns "dns$i" 53
done
balance "$ROOT/examples/dr.rules"
capture director lb tap-wan
same "10 questions by turns (direct routing)" '"dns1"×5 "dns2"×5' "$(ask 10 | shares)"
captured director
same "no reply passes the director" 0 "$(frames director 'udp and src host 10.77.1.100')"
finish
