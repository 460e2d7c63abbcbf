# Completion of tapvs and ipvsadm for bash.
# Made by `make docs` from the definitions of the program; not to be edited.

# The line in words as its reader sees them: bash divides at `:` as well.
_tapvs_words() {
    read -ra words <<<"${COMP_LINE:0:COMP_POINT}x"
    cur=${words[-1]%x} prev=''
    (( ${#words[@]} > 1 )) && prev=${words[-2]}
    return 0
}

# Those of $1 that begin as the last word does, less what bash takes for words of their own.
_tapvs_offer() {
    local word head=''
    [[ $COMP_WORDBREAKS == *:* && $cur == *:* ]] && head=${cur%:*}:
    COMPREPLY=()
    for word in $1; do
        [[ $word == "$cur"* ]] && COMPREPLY+=("${word#"$head"}")
    done
    return 0
}

# Files (-f) or folders (-d).
_tapvs_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

# What stands behind the option $1 in what runs.
_tapvs_services() {
    "${words[@]:0:at + 1}" -Sn 2>/dev/null | awk -v option="$1" '
        { for (i = 1; i < NF; i++) if ($i == option && !seen[$(i + 1)]++) print $(i + 1) }'
}

# Servers that run: to be added, those of every service, else those of the service of the line.
_tapvs_servers() {
    local i service=''
    for ((i = at + 1; i < ${#words[@]} - 1; i++)); do
        case ${words[i]} in
        -a* | --add-server) service=''; break ;;
        --sctp-service) service="--sctp-service ${words[i + 1]}" ;;
        --tcp-service | -t | -[!-]*t) service="-t ${words[i + 1]}" ;;
        --udp-service | -u | -[!-]*u) service="-u ${words[i + 1]}" ;;
        --fwmark-service | -f | -[!-]*f) service="-f ${words[i + 1]}" ;;
        esac
    done
    "${words[@]:0:at + 1}" -Sn 2>/dev/null | awk -v service="$service" '
        $1 != "-a" || (service != "" && $2 " " $3 != service) { next }
        { for (i = 4; i < NF; i++) if ($i == "-r" && !seen[$(i + 1)]++) print $(i + 1) }'
}

_tapvs() {
    local words cur prev word='' i
    _tapvs_words
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        case ${words[i]} in
        ipvsadm | ipvsadm-save | ipvsadm-restore) _tapvs_ipvsadm "$i"; return ;;
        run | check | realserver | reload | save | status | proc) word=${words[i]}; break ;;
        esac
    done
    case $word:$prev in
    run:-r | run:--rules) _tapvs_files -f; return ;;
    run:--socket) _tapvs_files -f; return ;;
    run:--engine) _tapvs_offer 'auto drain'; return ;;
    run:--workers) COMPREPLY=(); return ;;
    run:--seed) COMPREPLY=(); return ;;
    realserver:-r | realserver:--rules) _tapvs_files -f; return ;;
    realserver:--server) COMPREPLY=(); return ;;
    realserver:--gue-port) COMPREPLY=(); return ;;
    realserver:--tun) COMPREPLY=(); return ;;
    reload:--socket) _tapvs_files -f; return ;;
    save:-o | save:--output) _tapvs_files -f; return ;;
    save:--socket) _tapvs_files -f; return ;;
    status:--socket) _tapvs_files -f; return ;;
    proc:--socket) _tapvs_files -f; return ;;
    proc:--into) _tapvs_files -d; return ;;
    proc:--every) COMPREPLY=(); return ;;
    esac
    case $word:$cur in
    :-*) _tapvs_offer '-V --version -v --verbose -q --quiet -h --help' ;;
    :*) _tapvs_offer 'run check realserver reload save status ipvsadm proc' ;;
    run:-*) _tapvs_offer '-r --rules --watch --socket --engine --workers --seed -v --verbose -q --quiet -h --help' ;;
    run:*) _tapvs_files -f ;;
    check:-*) _tapvs_offer '--lint --json -v --verbose -q --quiet -h --help' ;;
    check:*) _tapvs_files -f ;;
    realserver:-*) _tapvs_offer '-r --rules --server --decap --gue-port --tun -v --verbose -q --quiet -h --help' ;;
    realserver:*) _tapvs_files -f ;;
    reload:-*) _tapvs_offer '--socket -h --help' ;;
    reload:*) _tapvs_offer '--socket -h --help' ;;
    save:-*) _tapvs_offer '-o --output --socket -h --help' ;;
    save:*) _tapvs_offer '-o --output --socket -h --help' ;;
    status:-*) _tapvs_offer '--json --socket -h --help' ;;
    status:*) _tapvs_offer '--json --socket -h --help' ;;
    proc:-*) _tapvs_offer '--json --socket --into --every -h --help' ;;
    proc:*) _tapvs_offer 'ip_vs ip_vs_conn ip_vs_conn_sync ip_vs_stats ip_vs_stats_percpu ip_vs_app' ;;
    esac
}

_tapvs_ipvsadm() { # the place of the program among the words; 0 if bash calls
    local words cur prev command='' at=0 i
    [[ ${1-} == [0-9] ]] && at=$1
    _tapvs_words
    case ${words[at]##*/} in
    ipvsadm-save) _tapvs_offer '-n'; return ;;
    ipvsadm-restore) COMPREPLY=(); return ;;
    esac
    case $prev in
    --start-daemon) _tapvs_offer 'master backup'; return ;;
    --stop-daemon) _tapvs_offer 'master backup'; return ;;
    --tcp-service | -t | -[!-]*t) _tapvs_offer "$(_tapvs_services -t)"; return ;;
    --udp-service | -u | -[!-]*u) _tapvs_offer "$(_tapvs_services -u)"; return ;;
    --sctp-service) _tapvs_offer "$(_tapvs_services --sctp-service)"; return ;;
    --fwmark-service | -f | -[!-]*f) _tapvs_offer "$(_tapvs_services -f)"; return ;;
    --scheduler | -s | -[!-]*s) _tapvs_offer 'rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos'; return ;;
    --netmask | -M | -[!-]*M) COMPREPLY=(); return ;;
    --pe) _tapvs_offer 'sip'; return ;;
    --sched-flags | -b | -[!-]*b) _tapvs_offer 'sh-fallback sh-port mh-fallback mh-port flag-1 flag-2 flag-3'; return ;;
    --real-server | -r | -[!-]*r) _tapvs_offer "$(_tapvs_servers)"; return ;;
    --weight | -w | -[!-]*w) COMPREPLY=(); return ;;
    --u-threshold | -x | -[!-]*x) COMPREPLY=(); return ;;
    --l-threshold | -y | -[!-]*y) COMPREPLY=(); return ;;
    --tun-type) _tapvs_offer 'ipip gue gre'; return ;;
    --tun-port) COMPREPLY=(); return ;;
    --mcast-interface) COMPREPLY=(); return ;;
    --syncid) COMPREPLY=(); return ;;
    --mcast-group) COMPREPLY=(); return ;;
    --mcast-port) COMPREPLY=(); return ;;
    --mcast-ttl) COMPREPLY=(); return ;;
    --sync-maxlen) COMPREPLY=(); return ;;
    esac
    (( ${#words[@]} > at + 2 )) && command=${words[at + 1]}
    case $command in
    '') _tapvs_offer '-A --add-service -E --edit-service -D --delete-service -C --clear -R --restore -S --save -a --add-server -e --edit-server -d --delete-server -L --list -l -Z --zero --set --start-daemon --stop-daemon -h --help -v --version' ;;
    -A* | --add-service) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6 -s --scheduler -p --persistent -M --netmask --pe -b --sched-flags -o --ops' ;;
    -E* | --edit-service) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6 -s --scheduler -p --persistent -M --netmask --pe -b --sched-flags -o --ops' ;;
    -D* | --delete-service) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6' ;;
    -C* | --clear) COMPREPLY=() ;;
    -R* | --restore) COMPREPLY=() ;;
    -S* | --save) _tapvs_offer '-n --numeric --json' ;;
    -a* | --add-server) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6 -r --real-server -g --gatewaying -i --ipip -m --masquerading -w --weight -x --u-threshold -y --l-threshold --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum' ;;
    -e* | --edit-server) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6 -r --real-server -g --gatewaying -i --ipip -m --masquerading -w --weight -x --u-threshold -y --l-threshold --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum' ;;
    -d* | --delete-server) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6 -r --real-server' ;;
    -L* | -l* | --list) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6 -n --numeric -c --connection --timeout --daemon --stats --rate --thresholds --persistent-conn --tun-info -X --exact --nosort --sort --syncid --json' ;;
    -Z* | --zero) _tapvs_offer '-t --tcp-service -u --udp-service --sctp-service -f --fwmark-service -6 --ipv6' ;;
    --set) COMPREPLY=() ;;
    --start-daemon) _tapvs_offer '--mcast-interface --syncid --mcast-group --mcast-port --mcast-ttl --sync-maxlen' ;;
    --stop-daemon) _tapvs_offer '--syncid' ;;
    -h* | --help) COMPREPLY=() ;;
    -v* | --version) COMPREPLY=() ;;
    *) COMPREPLY=() ;;
    esac
}

complete -F _tapvs tapvs
complete -F _tapvs_ipvsadm ipvsadm ipvsadm-save ipvsadm-restore
