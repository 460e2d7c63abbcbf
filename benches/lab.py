"""The laboratory of `make bench`: namespaces, wires, real servers, and the systems under test.

  cl ── br-wan ── [ lb: the system under test ] ── br-lan ── sv      nat
  cl ── br-wan ── sv, the system under test on br-wan as well        dr
  as nat, and sv has a second wire to br-wan for its answers         ipip

Every host knows the link addresses of the others beforehand, since the bare forwarder asks nobody. Names
carry this process's id, so that two runs never meet; what was started is ended by its own pid, what was
made is removed by its own name.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = ROOT / 'target' / 'release'
EXAMPLES = RELEASE / 'examples'
WAN_MAC, LAN_MAC = '02:00:00:00:01:01', '02:00:00:00:02:01'
CLIENT_MAC, SERVER_MAC, BACK_MAC = '02:00:00:00:01:02', '02:00:00:00:02:11', '02:00:00:00:01:11'
IPERF, HTTP, UDP, ECHO, SHORT = 5201, 80, 9000, 9001, 9002
QUIET = ['net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0', 'net.ipv6.conf.all.accept_dad=0',
         'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.default.router_solicitations=0',
         'net.ipv4.conf.all.send_redirects=0', 'net.ipv4.conf.default.send_redirects=0']
# Short connections must not run out of ports, nor of room in a queue.
BUSY = ['net.ipv4.ip_local_port_range=1024 65535', 'net.ipv4.tcp_tw_reuse=1', 'net.ipv4.tcp_max_tw_buckets=4096',
        'net.core.somaxconn=65535', 'net.ipv4.tcp_max_syn_backlog=65535', 'net.ipv4.tcp_syncookies=0']


class Trouble(Exception):
    """Something that a run cannot go on without."""


class Lab:
    """One topology with its servers; a context manager that leaves nothing behind."""

    def __init__(self, method, family, work):
        self.method, self.family, self.work = method, family, Path(work)
        self.prefix = f'tvb{os.getpid()}-'
        self.hosts, self.running = [], []
        self.wan, self.lan = (lambda n: self.at(1, n)), (lambda n: self.at(2, n))
        self.virt = self.wan('100')
        self.server = self.wan('11') if method == 'dr' else self.lan('11')
        self.server_mac = BACK_MAC if method == 'dr' else SERVER_MAC
        self.bits = 24 if family == 4 else 64

    def at(self, net, host):
        return f'10.77.{net}.{host}' if self.family == 4 else f'fd77:{net}::{host}'

    def __enter__(self):
        try:
            self.build()
            self.serve()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for process in list(self.running):
            self.end(process)
        for host in self.hosts:
            subprocess.run(['ip', 'netns', 'del', self.prefix + host], check=False, stderr=subprocess.DEVNULL)
        self.hosts = []

    # ---- hosts and wires

    def ip(self, host, words):
        line = ['ip', '-n', self.prefix + host] + words.split()
        done = subprocess.run(line, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Trouble(f'{" ".join(line)}: {done.stderr.strip()}')

    def on(self, host, *words, **more):
        return subprocess.run(['ip', 'netns', 'exec', self.prefix + host, *map(str, words)],
                              check=False, capture_output=True, text=True, **more)

    def host(self, name):
        done = subprocess.run(['ip', 'netns', 'add', self.prefix + name], check=False, capture_output=True, text=True)
        if done.returncode:
            raise Trouble(f'no namespace can be made: {done.stderr.strip()}')
        self.hosts.append(name)
        self.on(name, 'sysctl', '-qw', *QUIET, *(BUSY if name != 'lb' else []))
        self.ip(name, 'link set lo up')

    def wire(self, host, device, mac, bridge, address):
        far = f'{host}-{device}'
        line = f'link add {device} netns {self.prefix}{host} address {mac} type veth peer name {far} netns {self.prefix}lb'
        if subprocess.run(['ip'] + line.split(), check=False).returncode:
            raise Trouble(f'no wire for {host}')
        self.ip('lb', f'link set {far} master {bridge} up')
        self.ip(host, f'link set {device} up')
        self.address(host, device, address, self.bits)

    def address(self, host, device, address, bits):
        self.ip(host, f'addr add {address}/{bits} dev {device}' + (' nodad' if self.family == 6 else ''))

    def build(self):
        for name in ('lb', 'cl', 'sv'):
            self.host(name)
        self.on('lb', 'sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=0', 'net.bridge.bridge-nf-call-ip6tables=0',
                'net.bridge.bridge-nf-call-arptables=0')
        for bridge in ('br-wan', 'br-lan'):
            self.ip('lb', f'link add name {bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0')
            self.ip('lb', f'link set {bridge} up')
        self.wire('cl', 'eth0', CLIENT_MAC, 'br-wan', self.wan('2'))
        self.ip('cl', f'route add default via {self.wan("1")}')
        self.know('cl', 'eth0', self.virt, WAN_MAC)
        self.know('cl', 'eth0', self.wan('1'), WAN_MAC)
        if self.method != 'dr':
            self.wire('sv', 'eth0', SERVER_MAC, 'br-lan', self.server)
            self.know('sv', 'eth0', self.lan('1'), LAN_MAC)
            self.ip('sv', f'route add default via {self.lan("1")}')
        if self.method != 'nat':
            # As `tapvs realserver` says: the virtual address is here as well, and nobody is told.
            self.wire('sv', 'back', BACK_MAC, 'br-wan', self.wan('11'))
            self.on('sv', 'sysctl', '-qw', 'net.ipv4.conf.all.arp_ignore=1', 'net.ipv4.conf.all.arp_announce=2')
            self.address('sv', 'lo', self.virt, 32 if self.family == 4 else 128)
            self.know('sv', 'back', self.wan('2'), CLIENT_MAC)
            self.know('cl', 'eth0', self.wan('11'), BACK_MAC)

    def know(self, host, device, address, mac):
        self.ip(host, f'neigh replace {address} lladdr {mac} dev {device} nud permanent')

    # ---- processes

    def start(self, host, *words, **more):
        log = open(self.work / f'{host}-{Path(str(words[0])).name}.log', 'w')
        more = {'stdout': log, 'stderr': log, 'stdin': subprocess.DEVNULL, **more}
        process = subprocess.Popen(['ip', 'netns', 'exec', self.prefix + host, *map(str, words)], **more)
        log.close()
        self.running.append(process)
        return process

    def said(self, host):
        """The ends of what the programs on a host have printed."""
        return '\n'.join(log.read_text()[-1500:] for log in self.work.glob(f'{host}-*.log'))

    def end(self, process):
        self.running.remove(process)
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def serve(self):
        site = self.work / 'server.conf'
        site.write_text(
            f'worker_processes 1; daemon off; pid {self.work}/server.pid; error_log /dev/null crit;\n'
            'worker_rlimit_nofile 100000; events { worker_connections 20000; multi_accept on; }\n'
            'http { access_log off; keepalive_requests 100000000; server {\n'
            f'  listen {HTTP} backlog=65535; listen [::]:{HTTP} backlog=65535;\n'
            '  location / { default_type text/plain; return 200 "ok\\n"; } } }\n')
        self.start('sv', 'nginx', '-c', site)
        self.start('sv', 'iperf3', '-s', '-p', IPERF)
        self.counter = self.start('sv', EXAMPLES / 'load', 'serve', UDP, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True)
        if self.counter.stdout.readline().strip() != 'listening':
            raise Trouble('the servers do not listen')
        if self.method == 'ipip':
            self.start('sv', RELEASE / 'tapvs', 'realserver', '--decap')

    def datagrams(self):
        """How many datagrams have reached the server so far."""
        self.counter.stdin.write('\n')
        self.counter.stdin.flush()
        return int(self.counter.stdout.readline().split('=')[1])

    # ---- systems under test

    def clear(self):
        """Takes away whatever a system under test has left on the director's host."""
        self.on('lb', 'nft', 'flush', 'ruleset')
        self.on('lb', 'sysctl', '-qw', 'net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0')
        for device in ('tap-wan', 'tap-lan'):
            self.on('lb', 'ip', 'link', 'del', device)
        for bridge, far, mac in (('br-wan', 'cl-eth0', '02:00:00:00:01:f0'), ('br-lan', 'sv-eth0', '02:00:00:00:02:f0')):
            self.on('lb', 'ip', 'addr', 'flush', 'dev', bridge)
            # With a link address of the director's it would keep the frames to itself.
            self.ip('lb', f'link set {bridge} address {mac}')
            if far == 'cl-eth0' or self.method != 'dr':
                self.ip('lb', f'link set {far} master {bridge}')

    def router(self):
        """The kernel of the director's host has the addresses that tapvs would have."""
        for bridge, mac, address in (('br-wan', WAN_MAC, self.wan('1')), ('br-lan', LAN_MAC, self.lan('1'))):
            self.ip('lb', f'link set {bridge} address {mac}')
            self.address('lb', bridge, address, self.bits)
        self.address('lb', 'br-wan', self.virt, self.bits)
        self.on('lb', 'sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
        self.know('lb', 'br-wan', self.wan('2'), CLIENT_MAC)
        self.know('lb', 'br-lan', self.lan('11'), SERVER_MAC)

    def nftables(self):
        self.router()
        family, addr = ('ip', 'ip') if self.family == 4 else ('ip6', 'ip6')
        rules = (f'table {family} nat {{\nchain pre {{\ntype nat hook prerouting priority -100;\n'
                 f'{addr} daddr {self.virt} meta l4proto {{ tcp, udp }} dnat to {self.server}\n}}\n}}\n')
        # Old connections must not fill the kernel's table.
        self.on('lb', 'sysctl', '-qw', 'net.netfilter.nf_conntrack_tcp_timeout_time_wait=5',
                'net.netfilter.nf_conntrack_tcp_timeout_close=2')
        done = self.on('lb', 'nft', '-f', '-', input=rules)
        if done.returncode:
            raise Trouble(f'nft: {done.stderr.strip()}')
        return None

    def bare(self, address):
        return address if self.family == 4 else f'[{address}]'

    def haproxy(self):
        self.router()
        conf = self.work / 'haproxy.cfg'
        text = ('global\n maxconn 4000\n nbthread 2\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n'
                ' timeout server 60s\n')
        for port in (IPERF, HTTP, ECHO, SHORT):
            text += (f'listen p{port}\n bind {self.virt}:{port} backlog 65535\n'
                     f' server s {self.bare(self.server)}:{port}\n')
        conf.write_text(text)
        return self.start('lb', 'haproxy', '-db', '-f', conf)

    def nginx(self):
        self.router()
        conf = self.work / 'stream.conf'
        virt, server = self.bare(self.virt), self.bare(self.server)
        text = ('load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n'
                f'worker_processes 2; daemon off; pid {self.work}/stream.pid; error_log /dev/null crit;\n'
                'worker_rlimit_nofile 100000; events { worker_connections 40000; multi_accept on; }\nstream {\n')
        for port in (IPERF, HTTP, ECHO, SHORT):
            text += f'server {{ listen {virt}:{port} backlog=65535; proxy_pass {server}:{port}; }}\n'
        text += f'server {{ listen {virt}:{UDP} udp; proxy_pass {server}:{UDP}; proxy_timeout 5s; }}\n}}\n'
        conf.write_text(text)
        return self.start('lb', 'nginx', '-c', conf)

    def taps(self, flags=''):
        for device, bridge in (('tap-wan', 'br-wan'), ('tap-lan', 'br-lan')):
            self.ip('lb', f'tuntap add dev {device} mode tap vnet_hdr {flags}')
            self.ip('lb', f'link set {device} master {bridge} up')

    def macvtaps(self):
        """Macvtaps on the wires themselves; gives the paths of their nodes."""
        paths = []
        for device, far, mac in (('tap-wan', 'cl-eth0', WAN_MAC), ('tap-lan', 'sv-eth0', LAN_MAC)):
            self.ip('lb', f'link set {far} nomaster')
            self.ip('lb', f'link add link {far} name {device} address {mac} type macvtap mode passthru')
            self.ip('lb', f'link set {device} up')
            found = self.on('lb', 'sh', '-c', f'cat /sys/class/net/{device}/tap*/dev').stdout.strip()
            major, minor = map(int, found.split(':'))
            path = self.work / device
            path.unlink(missing_ok=True)
            os.mknod(path, 0o600 | 0o020000, os.makedev(major, minor))
            paths.append(path)
        return paths

    def ceiling(self, engine, workers=1, macvtap=False):
        if macvtap:
            wan, lan = self.macvtaps()
        else:
            self.taps('multi_queue' if workers > 1 else '')
            wan, lan = 'tap-wan', 'tap-lan'
            # Which of its ports the bridge finds it at; it may never say a word there.
            self.on('lb', 'bridge', 'fdb', 'replace', WAN_MAC, 'dev', 'tap-wan', 'master', 'static')
        outer = self.lan('1')
        return self.start('lb', EXAMPLES / 'ceiling', engine, self.method, workers, wan, lan, self.virt, self.server,
                          outer, CLIENT_MAC, self.server_mac)

    def tapvs(self, *options, macvtap=False, services=1):
        rules = self.work / 'rules'
        rules.write_text(self.rules(macvtap, services))
        if macvtap:
            for far in ('cl-eth0', 'sv-eth0'):
                self.ip('lb', f'link set {far} nomaster')
        socket = self.work / 'socket'
        return self.start('lb', RELEASE / 'tapvs', 'run', '-r', rules, '--socket', socket, *options)

    def connections(self):
        """How many connections the running tapvs says that it has."""
        env = {**os.environ, 'TAPVS_SOCKET': str(self.work / 'socket')}
        lines = self.on('lb', RELEASE / 'tapvs', 'ipvsadm', '-Ln', env=env).stdout.splitlines()
        servers = [line.split() for line in lines if line.strip().startswith('-> ') and 'Remote' not in line]
        return sum(int(active) + int(inactive) for *_, active, inactive in servers)

    def rules(self, macvtap=False, services=1):
        """Rules for tapvs: the ports of this topology and `services` services, five of which are used."""
        text = ''
        ports = [('wan', WAN_MAC, self.wan('1'), 'cl-eth0')]
        if self.method != 'dr':
            ports.append(('lan', LAN_MAC, self.lan('1'), 'sv-eth0'))
        for name, mac, address, far in ports:
            if macvtap:
                text += f'ip link add link {far} name tap-{name} type macvtap mode passthru\n'
                text += f'ip link set dev tap-{name} address {mac}\n'
            else:
                text += f'ip tuntap add dev tap-{name} mode tap\nip link set dev tap-{name} address {mac}\n'
                text += f'ip link set dev tap-{name} master br-{name}\n'
            text += f'ip addr add {address}/{self.bits} dev tap-{name}\n'
        text += f'ip neigh add {self.wan("2")} lladdr {CLIENT_MAC} dev tap-wan\n'
        inside = 'tap-wan' if self.method == 'dr' else 'tap-lan'
        text += f'ip neigh add {self.server} lladdr {self.server_mac} dev {inside}\n'
        if self.family == 4:
            # Who the crowd of clients is; see `crowd` of run.py.
            text += f'ip route add 10.90.0.0/16 via {self.wan("2")}\n'
        how = {'nat': '-m', 'dr': '-g', 'ipip': '-i'}[self.method]
        virt, server = self.bare(self.virt), self.bare(self.server)
        wanted = [('-t', virt, port) for port in (IPERF, HTTP, ECHO, SHORT)] + [('-u', virt, UDP)]
        for n in range(services - len(wanted)):
            other = f'10.79.{n // 250 >> 8}.{n // 250 & 255}' if self.family == 4 else f'[fd79::{n // 250:x}]'
            wanted.append(('-t', other, 8000 + n % 250))
        for kind, address, port in wanted:
            text += f'-A {kind} {address}:{port} -s rr\n-a {kind} {address}:{port} -r {server}:{port} {how}\n'
        return text

    def reaches(self):
        """Waits until the virtual address answers."""
        until = time.monotonic() + 15
        while time.monotonic() < until:
            done = self.on('cl', EXAMPLES / 'load', 'ping', self.virt, ECHO, '0.02')
            if done.returncode == 0 and 'count=' in done.stdout:
                return True
            time.sleep(0.1)
        return False


def time_of(process):
    """Seconds of processor that a process has had, with its threads and children."""
    total, todo = 0, [process.pid] if process else []
    while todo:
        pid = todo.pop()
        try:
            for task in Path(f'/proc/{pid}/task').iterdir():
                total += int((task / 'schedstat').read_text().split()[0])
                todo += map(int, (task / 'children').read_text().split())
        except OSError:
            continue
    return total / 1e9


def memory_of(process):
    """MiB that a process has in memory."""
    lines = Path(f'/proc/{process.pid}/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) / 1024


def time_of_all():
    """Seconds of processor that were used on the whole machine."""
    fields = list(map(int, Path('/proc/stat').read_text().splitlines()[0].split()[1:8]))
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf('SC_CLK_TCK')
