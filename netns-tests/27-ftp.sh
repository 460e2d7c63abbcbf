#!/usr/bin/env bash
# FTP through NAT: active and passive, IPv4 and IPv6, a real server and real clients.
#
#   cl 10.77.1.2 ── br-wan ── tap-wan [tapvs] tap-lan ── br-lan ──┬── s1 10.77.2.11:21  vsftpd
#      fd77:1::2            10.77.1.1         10.77.2.1           └── s2 10.77.2.12:2121 vsftpd
#                      VIP  10.77.1.100:21, [fd77:1::100]:21
#
# Shows: PASV, EPSV, PORT and EPRT by curl and lftp, files in both directions compared at the end, data
# connections at the server of their control connection, checksums, and offloaded segments. The virtual
# address is written longer than a server's, so that every answer to PASV moves what follows it.

V6=yes
. "$(dirname "$0")/lib.sh"
needs curl tcpdump ethtool vsftpd lftp

director_host br-wan br-lan
host cl s1 s2
wire cl eth0 br-wan 10.77.1.2/24 fd77:1::2/64
gateway cl 10.77.1.1 fd77:1::1
for i in 1 2; do
    wire "s$i" eth0 br-lan "10.77.2.1$i/24" "fd77:2::1$i/64"
    gateway "s$i" 10.77.2.1 fd77:2::1
done

# ftpd HOST PORT: vsftpd for anybody; the file `who` tells the host, and what is put goes to `in`.
ftpd() {
    local home="$WORK/$1.ftp" account=ftp
    getent passwd ftp >/dev/null || account=nobody
    mkdir -p "$home/in" "$WORK/$1.empty"
    echo "$1" >"$home/who"
    cp "$WORK/file" "$home/file"
    chmod 755 "$WORK" "$home" "$WORK/$1.empty"
    chmod 644 "$home/who" "$home/file"
    chown "$account" "$home/in"
    cat >"$WORK/$1.conf" <<END
background=NO
listen=NO
listen_ipv6=YES
listen_port=$2
ftp_data_port=$(($2 - 1))
connect_from_port_20=YES
anonymous_enable=YES
no_anon_password=YES
ftp_username=$account
anon_root=$home
write_enable=YES
anon_upload_enable=YES
anon_umask=022
local_enable=NO
secure_chroot_dir=$WORK/$1.empty
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
END
    chown root "$WORK/$1.conf"
    start "$WORK/$1.log" ip netns exec "$PFX$1" vsftpd "$WORK/$1.conf"
    until_true on "$1" bash -c ": </dev/tcp/::1/$2" || { cat "$WORK/$1.log"; die "vsftpd on $1"; }
}

head -c 1500000 /dev/urandom >"$WORK/file"
ftpd s1 21
ftpd s2 2121
rules <<'END'
ip tuntap add dev tap-wan mode tap
ip link set dev tap-wan master br-wan
ip addr add 10.77.1.1/24 dev tap-wan
ip addr add fd77:1::1/64 dev tap-wan
ip tuntap add dev tap-lan mode tap
ip link set dev tap-lan master br-lan
ip addr add 10.77.2.1/24 dev tap-lan
ip addr add fd77:2::1/64 dev tap-lan
modprobe ip_vs_ftp
-A -t 10.77.1.100:21 -s rr
-a -t 10.77.1.100:21 -r 10.77.2.11:21 -m
-a -t 10.77.1.100:21 -r 10.77.2.12:2121 -m
-A -t [fd77:1::100]:21 -s rr
-a -t [fd77:1::100]:21 -r [fd77:2::11]:21 -m
-a -t [fd77:1::100]:21 -r [fd77:2::12]:2121 -m
END
export TAPVS_SOCKET="$WORK/tapvs.sock"
balance "$WORK/rules"

FTP4=ftp://10.77.1.100
FTP6="ftp://[fd77:1::100]"
fetch() { on cl curl -sS -m 100 -g --noproxy '*' "$@"; }
sum() { sha256sum | cut -d ' ' -f 1; }
WANT=$(sum <"$WORK/file")

# modes WHAT: the file by every way of asking for a data connection.
modes() {
    local url
    for url in "$FTP4" "$FTP6"; do
        same "$1: EPSV, $url" "$WANT" "$(fetch "$url/file" | sum)"
        same "$1: EPRT, $url" "$WANT" "$(fetch -P - "$url/file" | sum)"
    done
    same "$1: PASV" "$WANT" "$(fetch --disable-epsv "$FTP4/file" | sum)"
    same "$1: PORT" "$WANT" "$(fetch --disable-eprt -P - "$FTP4/file" | sum)"
}

capture client cl eth0
capture server s1 eth0
modes "curl gets"
same "control connections by turns, each with its data" "s1×4 s2×4" \
    "$(for _ in 1 2; do
        fetch --disable-epsv "$FTP4/who"; fetch --disable-epsv "$FTP4/who"
        fetch -P - "$FTP4/who"; fetch -P - "$FTP4/who"
    done | shares)"
captured client server
same "the client never sees a server's own address" 0 "$(frames client 'src net 10.77.2.0/24 or src net fd77:2::/64')"
same "nor does it read one" 0 "$(tcpdump -nAr "$WORK/client.pcap" 2>/dev/null | grep -c '227.*10,77,2,')"
at_least "but the virtual address" 5 "$(tcpdump -nAr "$WORK/client.pcap" 2>/dev/null | grep -c '227.*10,77,1,100,')"
at_least "active data come from port 20 of the virtual address" 4 \
    "$(frames client 'src host 10.77.1.100 and src port 20 and tcp[tcpflags] & tcp-syn != 0')"
no_bad_checksum client
no_bad_checksum server

# Both servers have what was put to either before it is got back.
put=0
for way in '--ftp-pasv' '--disable-epsv' '-P -' '--disable-eprt -P -'; do
    for _ in 1 2; do
        put=$((put + 1))
        # shellcheck disable=SC2086 # an option and its value
        expect "curl puts: $way" fetch $way -T "$WORK/file" "$FTP4/in/file$put"
    done
done
for way in '--ftp-pasv' '-P -'; do
    put=$((put + 1))
    # shellcheck disable=SC2086 # an option and its value
    expect "curl puts: $way, IPv6" fetch $way -T "$WORK/file" "$FTP6/in/file$put"
done
same "what was put is what arrived" "$WANT×$put" "$(cat_all() {
    for file in "$WORK"/s?.ftp/in/*; do sum <"$file"; done
}; cat_all | shares)"

# lftp keeps one control connection for many transfers, so answers of different lengths follow each other.
for url in "$FTP4" "$FTP6"; do
    for passive in on off; do
        on cl lftp -c "set net:timeout 100; set net:max-retries 1; set ftp:passive-mode $passive; \
            set ftp:prefer-epsv no; set cmd:fail-exit yes; set xfer:clobber on; open $url; \
            ls; get file -o $WORK/got1; ls; get file -o $WORK/got2; put $WORK/file -o in/lftp$put; \
            get in/lftp$put -o $WORK/got3; ls in" >"$WORK/lftp.out" 2>&1 \
            || failed "lftp, passive $passive, $url" "$(cat "$WORK/lftp.out")"
        put=$((put + 1))
        same "lftp, passive $passive, $url" "$WANT×3" "$(for n in 1 2 3; do sum <"$WORK/got$n"; done | shares)"
        rm -f "$WORK"/got?
    done
done

# With offload a segment's checksum is half a sum, and many are one frame.
for name in cl s1 s2; do on "$name" ethtool -K eth0 tx on tso on >/dev/null 2>&1; done
modes "offloaded"

# To each server, for those from before may have been forgotten.
same "active ones go to both" "s1×1 s2×1" "$(for _ in 1 2; do fetch -P - "$FTP4/who"; done | shares)"
"$TAPVS" ipvsadm -Lnc >"$WORK/conns"
holds "active data connections are listed" '10\.77\.1\.2:[0-9]+ +10\.77\.1\.100:20 +10\.77\.2\.11:20$' "$WORK/conns"
holds "and one below the server's own port" '10\.77\.1\.100:20 +10\.77\.2\.12:2120$' "$WORK/conns"
"$TAPVS" proc ip_vs_app >"$WORK/apps"
holds "the helper is shown as the kernel's is" '^TCP  21      [1-9][0-9]* +ftp' "$WORK/apps"

# Without the helper the same transfer fails.
sed -i '/modprobe/d' "$WORK/rules"
reload
"$TAPVS" proc ip_vs_app >"$WORK/apps"
lacks "the helper goes with its line" ftp "$WORK/apps"
refuse "without the helper nobody comes through" fetch --disable-epsv -m 3 "$FTP4/who"
"$TAPVS" check --lint "$WORK/rules" >"$WORK/lint"
holds "which the lint tells" 'rules:9: .*modprobe ip_vs_ftp.*\[ftp-helper\]' "$WORK/lint"
finish
