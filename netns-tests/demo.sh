#!/usr/bin/env bash
# Three real servers share the requests of a real client: by NAT, by direct routing, through a tunnel.
# Sets everything up by itself, in network namespaces, and removes everything again.

. "$(dirname "$0")/lib.sh"
needs curl ethtool

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || { bold=; dim=; plain=; }

# chapter TITLE FILE: the title and the drawing at the head of a rules file.
chapter() {
    printf '\n%s=== %s%s   (%s)\n\n' "$bold" "$1" "$plain" "${2#"$ROOT/"}"
    # The second paragraph of the head comment is the drawing.
    awk '/^#$/ { paragraph++; next } /^[^#]|^$/ { exit } paragraph == 1 { sub(/^# ?/, ""); print }' "$2"
    echo
}

# show FILE: the service's lines, the requests, who answered, the table.
show() {
    local total=36 answers
    printf '%s' "$dim"
    grep -E '^ipvsadm .*-t ' "$1" | sed 's/^/  /'
    printf '%s\n' "$plain"
    balance "$1"
    # A wrr service whose servers came one by one begins with one connection to each, as in the
    # kernel; after that first round any six requests in a row are shared 3:2:1.
    answers=$(get cl 3 http://10.77.1.100/ | tr '\n' ' ')
    echo "  first round, one connection to each: $answers"
    echo "  $total requests to http://10.77.1.100/ by curl, weights 3:2:1:"
    get cl "$total" http://10.77.1.100/ | sort | uniq -c | while read -r n name; do
        printf '    %-6s answered %2d times  %s\n' "$name" "$n" "$(printf '█%.0s' $(seq "$n"))"
    done >"$WORK/answers"
    cat "$WORK/answers"
    same "exact shares" "18 12 6" "$(awk '{ print $3 }' "$WORK/answers" | paste -sd' ')" >"$WORK/verdict"
    printf '\n%s  $ tapvs ipvsadm -Ln%s\n' "$dim" "$plain"
    "$TAPVS" ipvsadm -Ln | sed 's/^/  /'
    printf '\n%s  $ tapvs status%s\n' "$dim" "$plain"
    "$TAPVS" status | sed 's/^/  /'
    next_street >"$WORK/checks"
    grep FAIL "$WORK/verdict" "$WORK/checks"
    return 0
}

echo "${bold}tapvs: Linux IPVS in userspace, on TAP devices${plain}"
echo "Every host below is a network namespace with a kernel's own TCP; [ tapvs ] is one process."

file=$ROOT/examples/nat.rules
chapter "NAT" "$file"
street_nat
for i in 1 2 3; do as_told "$file" "s$i" "10.77.2.1$i"; serve "s$i" "web$i" 8080; done
show "$file"

file=$ROOT/examples/dr.rules
chapter "Direct routing" "$file"
street_dr
for i in 1 2 3; do as_told "$file" "s$i" "10.77.1.1$i"; serve "s$i" "web$i" 80; done
show "$file"

file=$ROOT/examples/tun.rules
chapter "Tunnel (IPIP)" "$file"
street_tunnel
for i in 1 2 3; do decap "s$i"; as_told "$file" "s$i" "10.77.3.1$i"; serve "s$i" "web$i" 80; done
show "$file"

echo
if [ "$FAILS" -eq 0 ]; then
    echo "${bold}All shares exact; every frame accounted for; namespaces, devices and processes removed.${plain}"
    echo "Next: make test"
    exit 0
fi
echo "${bold}$FAILS checks failed.${plain}"
exit 1
