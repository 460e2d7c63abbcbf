#!/usr/bin/env bash
# A service by firewall mark for two ports, over GRE and GUE, taken off by our own binary. Topology as in 03.
#
# Shows: the marks of iptables lines group ports 80 and 8080; GRE with a checksum, GUE with one and without.

. "$(dirname "$0")/lib.sh"
needs curl tcpdump ethtool

rules="$WORK/marks.rules"
grep -v ipvsadm "$ROOT/examples/tun.rules" >"$rules"
cat >>"$rules" <<'END'
ip route add local 10.77.1.100/32 dev lo
iptables -t mangle -A PREROUTING -d 10.77.1.100 -p tcp -m multiport --dports 80,8080 -j MARK --set-mark 7
-A -f 7 -s rr
-a -f 7 -r 10.77.3.11 -i --tun-type gre --tun-csum
-a -f 7 -r 10.77.3.12 -i --tun-type gue --tun-port 6080
-a -f 7 -r 10.77.3.13 -i --tun-type gue --tun-port 6081 --tun-csum
END

street_tunnel
decap s1
decap s2 --gue-port 6080
decap s3 --gue-port 6081
for i in 1 2 3; do
    on "s$i" ip addr add 10.77.1.100/32 dev lo
    serve "s$i" "web$i" 80
    serve "s$i" "alt$i" 8080
done
capture gre s1 eth0
capture gue s3 eth0
balance "$rules"

same "port 80 is shared" "web1×4 web2×4 web3×4" "$(get cl 12 http://10.77.1.100/ | shares)"
same "port 8080 as well, in the same round" "alt1×4 alt2×4 alt3×4" \
    "$(get cl 12 http://10.77.1.100:8080/ | shares)"
captured gre gue
at_least "GRE with the checksum bit" 20 "$(frames gre 'ip proto 47 and ip[20] = 0x80')"
at_least "GUE from the local port range" 20 \
    "$(frames gue 'udp dst port 6081 and udp[0:2] >= 32768 and udp[0:2] < 60999 and udp[6:2] != 0')"
no_bad_checksum gue
finish
