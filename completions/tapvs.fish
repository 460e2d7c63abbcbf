# Completion of tapvs and ipvsadm for fish.
# Made by `make docs` from the definitions of the program; not to be edited.

# No command of ipvsadm has been given yet.
function __tapvs_no_command
    test (count (commandline -opc)) -eq 1
end

# The command of ipvsadm is one of these, perhaps with letters behind it.
function __tapvs_after
    set -l words (commandline -opc)
    for command in $argv
        test "$words[2]" = $command && return 0
        string match -qr -- '^-[^-]$' $command && string match -q -- "$command*" "$words[2]" && return 0
    end
    return 1
end

# What stands behind the option in what runs.
function __tapvs_services
    set -l program ipvsadm
    test (commandline -opc)[1] = tapvs && set program tapvs ipvsadm
    command $program -Sn 2>/dev/null | string match -rga -- " $argv[1] (\S+)" | sort -u
end

function __tapvs_as_ipvsadm
    complete -C (string replace -r -- '^\s*\S+.*?\sipvsadm\s' 'ipvsadm ' (commandline -cp))
end

complete -c tapvs -f
complete -c tapvs -n '__fish_use_subcommand' -s V -l version -d 'print the version'
complete -c tapvs -n '__fish_use_subcommand' -s v -l verbose -d 'log more: the level debug, as the manual tells'
complete -c tapvs -n '__fish_use_subcommand' -s q -l quiet -d 'log warnings and errors only'
complete -c tapvs -n '__fish_use_subcommand' -s h -l help -d 'print a help'
complete -c tapvs -n __fish_use_subcommand -a run -d 'Run the director in the foreground'
complete -c tapvs -n __fish_use_subcommand -a check -d 'Read a rules file and explain in plain words what it says; change nothing'
complete -c tapvs -n __fish_use_subcommand -a realserver -d 'The real servers\' side'
complete -c tapvs -n __fish_use_subcommand -a reload -d 'Have a running tapvs read its rules file again'
complete -c tapvs -n __fish_use_subcommand -a save -d 'Print what a running tapvs runs as a rules file that makes the same state: the rules it has read, and what ipvsadm changed since'
complete -c tapvs -n __fish_use_subcommand -a status -d 'Tell what became of every frame that a running tapvs has received: forwarded, answered, or dropped and why; whether its addresses are disputed; and which of its real servers it cannot send to'
complete -c tapvs -n __fish_use_subcommand -a ipvsadm -d 'Be ipvsadm: `tapvs ipvsadm -Ln` is `ipvsadm -Ln`, asked of a running tapvs'
complete -c tapvs -n __fish_use_subcommand -a proc -d 'Print what the kernel\'s /proc/net/NAME would say of a running tapvs: ip_vs, ip_vs_conn, ip_vs_conn_sync, ip_vs_stats, ip_vs_stats_percpu or ip_vs_app'
complete -c tapvs -n '__fish_seen_subcommand_from run' -s r -l rules -r -F -d 'the same'
complete -c tapvs -n '__fish_seen_subcommand_from run' -l watch -d 'read the rules again whenever the file changes; SIGHUP does so at any time'
complete -c tapvs -n '__fish_seen_subcommand_from run' -l socket -r -F -d 'the control socket, where ipvsadm asks; else $TAPVS_SOCKET, $RUNTIME_DIRECTORY/tapvs.sock, or /run/tapvs.sock'
complete -c tapvs -n '__fish_seen_subcommand_from run' -l engine -x -a 'auto drain' -d 'how frames are moved: auto (io_uring where the kernel has it), or drain (one a call)'
complete -c tapvs -n '__fish_seen_subcommand_from run' -l workers -x -d 'how many threads move frames, each with a queue of every port; without it as many as there are processors, but no more than four'
complete -c tapvs -n '__fish_seen_subcommand_from run' -l seed -x -d 'make chance repeatable: the same seed, the same choices'
complete -c tapvs -n '__fish_seen_subcommand_from run' -s v -l verbose -d 'log more: the level debug, as the manual tells'
complete -c tapvs -n '__fish_seen_subcommand_from run' -s q -l quiet -d 'log warnings and errors only'
complete -c tapvs -n '__fish_seen_subcommand_from run' -s h -l help -d 'print a help'
complete -c tapvs -n '__fish_seen_subcommand_from run' -F
complete -c tapvs -n '__fish_seen_subcommand_from check' -l lint -d 'tell instead, line by line, what is legal and will not work'
complete -c tapvs -n '__fish_seen_subcommand_from check' -l json -d 'tell instead all that is wrong and all that will not work, as JSON'
complete -c tapvs -n '__fish_seen_subcommand_from check' -s v -l verbose -d 'log more: the level debug, as the manual tells'
complete -c tapvs -n '__fish_seen_subcommand_from check' -s q -l quiet -d 'log warnings and errors only'
complete -c tapvs -n '__fish_seen_subcommand_from check' -s h -l help -d 'print a help'
complete -c tapvs -n '__fish_seen_subcommand_from check' -F
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -s r -l rules -r -F -d 'the same'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -l server -x -d 'only the commands for this real server; without it, one script that does on each server what is meant for it'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -l decap -d 'take tunnels off in the foreground; prints "ready" when it does'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -l gue-port -x -d 'the UDP port on which --decap takes GUE tunnels off as well'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -l tun -x -d 'the TUN device that --decap makes (tapvs0)'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -s v -l verbose -d 'log more: the level debug, as the manual tells'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -s q -l quiet -d 'log warnings and errors only'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -s h -l help -d 'print a help'
complete -c tapvs -n '__fish_seen_subcommand_from realserver' -F
complete -c tapvs -n '__fish_seen_subcommand_from reload' -l socket -r -F -d 'the control socket of the tapvs to ask'
complete -c tapvs -n '__fish_seen_subcommand_from reload' -s h -l help -d 'print a help'
complete -c tapvs -n '__fish_seen_subcommand_from save' -s o -l output -r -F -d 'replace this file, whole or not at all; - prints'
complete -c tapvs -n '__fish_seen_subcommand_from save' -l socket -r -F -d 'the control socket of the tapvs to ask'
complete -c tapvs -n '__fish_seen_subcommand_from save' -s h -l help -d 'print a help'
complete -c tapvs -n '__fish_seen_subcommand_from status' -l json -d 'as JSON'
complete -c tapvs -n '__fish_seen_subcommand_from status' -l socket -r -F -d 'the control socket of the tapvs to ask'
complete -c tapvs -n '__fish_seen_subcommand_from status' -s h -l help -d 'print a help'
complete -c tapvs -n '__fish_seen_subcommand_from proc' -l json -d 'as JSON: ip_vs, ip_vs_conn and ip_vs_stats'
complete -c tapvs -n '__fish_seen_subcommand_from proc' -l socket -r -F -d 'the control socket of the tapvs to ask'
complete -c tapvs -n '__fish_seen_subcommand_from proc' -l into -x -a '(__fish_complete_directories)' -d 'keep them under net in this directory, in the foreground; prints "ready" when they are there'
complete -c tapvs -n '__fish_seen_subcommand_from proc' -l every -x -d 'how many seconds pass until they are written anew (2)'
complete -c tapvs -n '__fish_seen_subcommand_from proc' -s h -l help -d 'print a help'
complete -c tapvs -n '__fish_seen_subcommand_from proc' -a 'ip_vs ip_vs_conn ip_vs_conn_sync ip_vs_stats ip_vs_stats_percpu ip_vs_app'
complete -c tapvs -n '__fish_seen_subcommand_from ipvsadm' -a '(__tapvs_as_ipvsadm)'

complete -c ipvsadm -f
complete -c ipvsadm-restore -f
complete -c ipvsadm-save -f -s n -d 'addresses and ports as numbers'
complete -c ipvsadm -n '__tapvs_no_command' -s A -l add-service -d 'add a virtual service'
complete -c ipvsadm -n '__tapvs_no_command' -s E -l edit-service -d 'give a service other options; what is not given becomes the default'
complete -c ipvsadm -n '__tapvs_no_command' -s D -l delete-service -d 'delete a service and its servers'
complete -c ipvsadm -n '__tapvs_no_command' -s C -l clear -d 'delete every service'
complete -c ipvsadm -n '__tapvs_no_command' -s R -l restore -d 'read commands from standard input, one a line'
complete -c ipvsadm -n '__tapvs_no_command' -s S -l save -d 'print the services as commands that --restore reads'
complete -c ipvsadm -n '__tapvs_no_command' -s a -l add-server -d 'add a real server to a service'
complete -c ipvsadm -n '__tapvs_no_command' -s e -l edit-server -d 'give a server other options; what is not given becomes the default'
complete -c ipvsadm -n '__tapvs_no_command' -s d -l delete-server -d 'delete a server of a service'
complete -c ipvsadm -n '__tapvs_no_command' -s L -l list -d 'list services and servers, or what --connection, --timeout or --daemon ask for'
complete -c ipvsadm -n '__tapvs_no_command' -s l -l list -d 'the same as -L'
complete -c ipvsadm -n '__tapvs_no_command' -s Z -l zero -d 'set the counters of one service, or of everything, to zero'
complete -c ipvsadm -n '__tapvs_no_command' -l set -d 'seconds of idle TCP, TCP after FIN, and UDP connections; 0 leaves one as it is'
complete -c ipvsadm -n '__tapvs_no_command' -l start-daemon -x -a 'master backup' -d 'keep a synchronisation daemon, which does nothing yet'
complete -c ipvsadm -n '__tapvs_no_command' -l stop-daemon -x -a 'master backup' -d 'forget a synchronisation daemon'
complete -c ipvsadm -n '__tapvs_no_command' -s h -l help -d 'print a help'
complete -c ipvsadm -n '__tapvs_no_command' -s v -l version -d 'print the version'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service -D --delete-service -a --add-server -e --edit-server -d --delete-server -L --list -l -Z --zero' -s t -l tcp-service -x -a '(__tapvs_services -t)' -d 'the TCP service at an address and port'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service -D --delete-service -a --add-server -e --edit-server -d --delete-server -L --list -l -Z --zero' -s u -l udp-service -x -a '(__tapvs_services -u)' -d 'the UDP service at an address and port'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service -D --delete-service -a --add-server -e --edit-server -d --delete-server -L --list -l -Z --zero' -l sctp-service -x -a '(__tapvs_services --sctp-service)' -d 'the SCTP service at an address and port'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service -D --delete-service -a --add-server -e --edit-server -d --delete-server -L --list -l -Z --zero' -s f -l fwmark-service -x -a '(__tapvs_services -f)' -d 'the service of all packets with a firewall mark'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service -D --delete-service -a --add-server -e --edit-server -d --delete-server -L --list -l -Z --zero' -s 6 -l ipv6 -d 'the mark is one of IPv6 packets; after -f'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service' -s s -l scheduler -x -a 'rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos' -d 'how connections are shared among servers; wlc unless given'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service' -s p -l persistent -d 'a client stays with its server; for so many seconds, 360 unless given'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service' -s M -l netmask -x -d 'clients of one network (mask, or prefix length for IPv6) stay together'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service' -l pe -x -a 'sip' -d 'tell persistent clients apart by more than their address'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service' -s b -l sched-flags -x -a 'sh-fallback sh-port mh-fallback mh-port flag-1 flag-2 flag-3' -d 'flags of the scheduler, with commas between'
complete -c ipvsadm -n '__tapvs_after -A --add-service -E --edit-service' -s o -l ops -d 'each UDP packet is a connection of its own'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server -d --delete-server' -s r -l real-server -x -a '(__tapvs_services -r)' -d 'the real server; without a port it has the service\'s'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -s g -l gatewaying -d 'direct routing: the server is in one network with us; the default'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -s i -l ipip -d 'tunnel: the server may be anywhere'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -s m -l masquerading -d 'network address translation: answers come back through us'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -s w -l weight -x -d 'capacity relative to the other servers, 0 to 2147483647, 1 unless given; 0 gets nothing new'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -s x -l u-threshold -x -d 'connections beyond which a server gets nothing new; 0 is no limit'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -s y -l l-threshold -x -d 'connections below which it gets something again; 0 is three quarters of the upper one'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -l tun-type -x -a 'ipip gue gre' -d 'kind of the tunnel; ipip unless given'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -l tun-port -x -d 'UDP port of a gue tunnel'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -l tun-nocsum -d 'no checksum in the outer header; the default'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -l tun-csum -d 'a checksum in the outer header'
complete -c ipvsadm -n '__tapvs_after -a --add-server -e --edit-server' -l tun-remcsum -d 'remote checksum offload; gue only'
complete -c ipvsadm -n '__tapvs_after -S --save -L --list -l' -s n -l numeric -d 'addresses and ports as numbers'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -s c -l connection -d 'list connections'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l timeout -d 'list the timeouts'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l daemon -d 'list the synchronisation daemons'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l stats -d 'with counters'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l rate -d 'with rates'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l thresholds -d 'with connection limits'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l persistent-conn -d 'with persistent connections; with -c their engine\'s data'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l tun-info -d 'with tunnels'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -s X -l exact -d 'numbers as they are, without K, M and G'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l nosort -d 'in the order of the table'
complete -c ipvsadm -n '__tapvs_after -L --list -l' -l sort -d 'sorted; the default'
complete -c ipvsadm -n '__tapvs_after --start-daemon' -l mcast-interface -x -d 'the port for synchronisation messages'
complete -c ipvsadm -n '__tapvs_after -L --list -l --start-daemon --stop-daemon' -l syncid -x -d 'number of a group of directors, 0 to 255'
complete -c ipvsadm -n '__tapvs_after --start-daemon' -l mcast-group -x -d 'address for synchronisation messages'
complete -c ipvsadm -n '__tapvs_after --start-daemon' -l mcast-port -x -d 'UDP port for synchronisation messages'
complete -c ipvsadm -n '__tapvs_after --start-daemon' -l mcast-ttl -x -d 'hops that synchronisation messages live'
complete -c ipvsadm -n '__tapvs_after --start-daemon' -l sync-maxlen -x -d 'bytes of a synchronisation message'
complete -c ipvsadm -n '__tapvs_after -S --save -L --list -l' -l json -d 'as JSON'
