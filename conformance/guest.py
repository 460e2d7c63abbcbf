"""The kernel's IPVS: Debian's kernel in QEMU, between the same two TAP devices.

The guest is a kernel, its modules and a handful of the host's own programs in one archive, made anew
when any of them changes; nothing is installed into the host's boot. It is asked over a virtio port
and needs no network of its own. Its cards offload nothing: frames have the checksums of a wire.
"""
import glob
import gzip
import hashlib
import itertools
import lzma
import os
import re
import socket
import subprocess
import time

import lab

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get('CONFORMANCE_CACHE', os.path.join(os.path.dirname(HERE), 'target', 'conformance'))

MODULES = '''virtio_pci virtio_net virtio_console ipv6 ip_vs ip_vs_rr ip_vs_wrr ip_vs_lc ip_vs_wlc ip_vs_fo ip_vs_ovf
 ip_vs_lblc ip_vs_lblcr ip_vs_dh ip_vs_sh ip_vs_mh ip_vs_sed ip_vs_nq ip_vs_twos ip_vs_pe_sip
 iptable_mangle ip6table_mangle xt_mark xt_tcpudp xt_multiport'''.split()

# Loaded by the stories that ask for it, for it changes what others would see.
ON_DEMAND = ['ip_vs_ftp']

# program: Debian package
PROGRAMS = {
    'qemu-system-x86_64': 'qemu-system-x86', 'busybox': 'busybox-static', 'ipvsadm': 'ipvsadm',
    'ip': 'iproute2', 'xtables-legacy-multi': 'iptables', 'dpkg-deb': 'dpkg',
}

# A kernel that is emulated on a busy machine hangs now and then while it measures its timers.
BOOT_S, BOOTS = 90, 3
ANSWER_S = 60


class Refused(Exception):
    """What keeps the guest from being there."""


def installed():
    """Installs the programs that are missing; says so."""
    missing = [package for program, package in PROGRAMS.items() if not lab.found(program)]
    if not missing:
        return
    print('installing', *missing, flush=True)
    apt = ['apt-get', 'install', '-y', '-q', '--no-install-recommends', *missing]
    quiet = dict(env=dict(os.environ, DEBIAN_FRONTEND='noninteractive'), stdout=subprocess.DEVNULL)
    if subprocess.run(apt, stderr=subprocess.DEVNULL, **quiet).returncode:
        subprocess.run(['apt-get', 'update', '-q'], check=True, **quiet)
        subprocess.run(apt, check=True, **quiet)


def kernel():
    """The folder of an unpacked kernel package of Debian's; fetched where it is missing."""
    place = os.path.join(CACHE, 'kernel')
    if glob.glob(place + '/boot/vmlinuz-*'):
        return place
    wanted = os.environ.get('CONFORMANCE_KERNEL') or newest_kernel()
    print('fetching', wanted, flush=True)
    os.makedirs(CACHE, exist_ok=True)
    for attempt in ('as known', 'after an update'):
        done = subprocess.run(['apt-get', 'download', '-q', wanted], cwd=CACHE, capture_output=True, text=True)
        if done.returncode == 0:
            break
        if attempt == 'as known':
            subprocess.run(['apt-get', 'update', '-q'], stdout=subprocess.DEVNULL, check=True)
    else:
        raise Refused(f'{wanted}: {done.stderr.strip()}')
    package, = glob.glob(f'{CACHE}/{wanted}_*.deb')
    subprocess.run(['dpkg-deb', '-x', package, place + '.new'], check=True)
    os.rename(place + '.new', place)
    os.unlink(package)
    return place


def newest_kernel():
    """The package that Debian's cloud kernel is now."""
    told = subprocess.run(['apt-cache', 'depends', 'linux-image-cloud-amd64'], capture_output=True, text=True).stdout
    names = re.findall(r'Depends: (linux-image-\S+)', told)
    if not names:
        raise Refused('apt knows no linux-image-cloud-amd64: this wants Debian on amd64')
    return names[0]


def image():
    """The kernel and the archive to boot with: two paths."""
    place = kernel()
    vmlinuz, = glob.glob(place + '/boot/vmlinuz-*')
    with open(os.path.join(HERE, 'init'), 'rb') as file:
        init = file.read()
    mark = hashlib.sha256(init + vmlinuz.encode() + ' '.join(MODULES + ON_DEMAND).encode()).hexdigest()[:16]
    archive = f'{CACHE}/guest-{mark}.gz'
    if not os.path.exists(archive):
        made = f'{archive}.{os.getpid()}'
        with gzip.open(made, 'wb', 1) as file:
            Archive(file).fill(init, place)
        os.rename(made, archive)
    return vmlinuz, archive


class Archive:
    """A `newc` archive, which the kernel unpacks into its first file system."""

    def __init__(self, file):
        self.file, self.seen, self.count = file, set(), 0

    def fill(self, init, place):
        self.add('init', 0o100755, init)
        self.link('bin/sh', 'busybox')
        for program in ('busybox', 'ip', 'ipvsadm', 'xtables-legacy-multi'):
            self.program(program)
        for name in ('iptables', 'ip6tables'):
            self.link(f'sbin/{name}', 'xtables-legacy-multi')
        for extension in glob.glob('/usr/lib/*/xtables/libxt_*.so'):
            self.copy(extension[1:], extension)
        files = {os.path.basename(path).split('.')[0].replace('-', '_'): path
                 for path in glob.glob(place + '/lib/modules/*/kernel/**/*.ko*', recursive=True)}
        order = []
        for module in MODULES + ON_DEMAND:
            self.module(files, module, order)
        order = [module for module in order if module not in ON_DEMAND]
        self.add('modules/order', 0o100644, ''.join(f'{name}.ko\n' for name in order).encode())
        self.add('TRAILER!!!', 0, b'')

    def program(self, name):
        path = os.path.realpath(lab.found(name))
        self.copy(('bin/' if name == 'busybox' else 'sbin/') + name, path)
        told = subprocess.run(['ldd', path], capture_output=True, text=True).stdout
        for library in re.findall(r'(/\S+) \(0x', told):
            self.copy(library[1:], os.path.realpath(library))

    def module(self, files, name, order):
        """A module behind those that it needs; what is built into the kernel has no file."""
        if name not in files or name in order:
            return
        with (lzma.open if files[name].endswith('.xz') else open)(files[name], 'rb') as file:
            content = file.read()
        needs = re.search(rb'\0depends=([^\0]*)\0', content)
        for other in needs.group(1).decode().split(',') if needs else ():
            self.module(files, other.replace('-', '_'), order)
        order.append(name)
        self.add(f'modules/{name}.ko', 0o100644, content)

    def copy(self, name, path):
        with open(path, 'rb') as file:
            self.add(name, 0o100755, file.read())

    def link(self, name, target):
        self.add(name, 0o120777, target.encode())

    def add(self, name, mode, content):
        if name in self.seen:
            return
        parent = os.path.dirname(name)
        if parent:
            self.add(parent, 0o40755, b'')
        self.seen.add(name)
        self.count += 1
        fields = (self.count, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b'070701' + b''.join(b'%08X' % field for field in fields) + name.encode() + b'\0'
        self.file.write(head + b'\0' * (-len(head) % 4) + content + b'\0' * (-len(content) % 4))


class Kernel:
    """A guest that runs; `start` gives each story a fresh host in it."""
    name = 'kernel'

    def __init__(self, work):
        self.log = os.path.join(work, 'guest.log')
        vmlinuz, archive = image()
        asked = os.path.join(work, 'agent')
        off = 'csum=off,guest_csum=off,gso=off,host_tso4=off,host_tso6=off,guest_tso4=off,guest_tso6=off,guest_ufo=off,host_ufo=off'
        command = [lab.found('qemu-system-x86_64'), '-M', 'pc', '-nodefaults', '-no-user-config', '-accel', 'tcg,tb-size=128', '-cpu', 'max',
                   '-m', '384', '-no-reboot', '-display', 'none', '-serial', 'stdio', '-kernel', vmlinuz, '-initrd', archive,
                   '-append', 'console=ttyS0 quiet panic=-1 no_timer_check clocksource=hpet tsc=unstable noapictimer mitigations=off random.trust_cpu=on net.ifnames=0',
                   '-device', 'virtio-serial-pci', '-chardev', f'socket,id=agent,path={asked},server=on,wait=off',
                   '-device', 'virtserialport,chardev=agent,name=agent']
        for port in lab.PORTS:
            command += ['-netdev', f'tap,id={port},ifname={port},script=no,downscript=no,vnet_hdr=on',
                        '-device', f'virtio-net-pci,netdev={port},mac={lab.PORTS[port]},romfile=,{off}']
        for attempt in range(BOOTS):
            try:
                self.boot(command, asked)
                return
            except Refused:
                self.end()
                if attempt == BOOTS - 1:
                    raise

    def boot(self, command, asked):
        """Starts the guest and waits for its first host."""
        if os.path.exists(asked):
            os.unlink(asked)
        self.process = lab.spawn(command, self.log)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(0.2)
        self.rest = b''
        end = time.monotonic() + BOOT_S
        while True:
            try:
                self.socket.connect(asked)
                break
            except OSError:
                self.alive(end)
                time.sleep(0.02)
        self.fresh = self.answer(end)

    def alive(self, end):
        if self.process.poll() is not None or time.monotonic() > end:
            raise Refused('the guest does not answer:\n' + self.last_words())

    def last_words(self):
        with open(self.log, errors='replace') as log:
            return log.read()[-2000:]

    def answer(self, end):
        """What was said until the next NUL WORD NUL: text and word."""
        while self.rest.count(b'\0') < 2:
            try:
                piece = self.socket.recv(65536)
            except socket.timeout:
                self.alive(end)
                continue
            if not piece:
                raise Refused('the guest is gone:\n' + self.last_words())
            self.rest += piece
        said, word, self.rest = self.rest.split(b'\0', 2)
        return said.decode(errors='replace'), word.decode()

    def run(self, command):
        """Runs lines of shell in the host; exit code and all that was said."""
        lines = ''.join(f':{line}\n' for line in command.splitlines())
        self.socket.sendall((lines + 'run\n').encode())
        said, code = self.answer(time.monotonic() + ANSWER_S)
        return int(code), said

    def start(self, story):
        if self.fresh is None:
            self.socket.sendall(b'next\n')
            self.answer(time.monotonic() + ANSWER_S)
        self.fresh = None
        lines = story['topology'] + [f'ip addr add {address} dev client' for address in virtual(story)] + story['rules']
        code, said = self.run('set -e\n' + '\n'.join(shell(lines)))
        if code or said.strip():
            raise Refused(f'set-up: {"; ".join(said.split(chr(10)))} ({code})')

    def do(self, line):
        return self.run('\n'.join(['ipvsadm ' + line] if line.startswith('-') else shell([line])))

    def tool(self, arguments):
        return self.run('ipvsadm ' + arguments)

    def stop(self):
        """The next story's host comes with the next story."""

    def end(self):
        lab.end(self.process)


def virtual(story):
    """Virtual addresses on the client's network that the topology does not give: tapvs answers for a
    service's address as long as the service exists, and at a kernel the operator adds it."""
    given = {line.split()[3].split('/')[0] for line in story['topology'] if line.startswith('ip addr add ')}
    for line in story['rules']:
        found = re.match(r'-A (?:-t|-u|--sctp-service) (?:\[(fd80:.*)\]|(10\.80\..*)):\d+ ', line)
        address = found and (found.group(1) or found.group(2))
        if address and address not in given:
            given.add(address)
            yield address + ('/128' if ':' in address else '/32')


def shell(lines):
    """Lines of a rules file as the guest's shell takes them: neighbouring lines of one program go to
    one call of it, for calls are slow there. The ports are there already."""
    lines = [line for line in lines if not line.startswith('ip tuntap ')]
    for tool, group in itertools.groupby(lines, batch):
        group = list(group)
        if tool is None:
            yield from (re.sub('^sysctl -w', 'sysctl -q -w', re.sub('^--set', 'ipvsadm --set', line)) for line in group)
        else:
            yield f"{BATCH[tool]} <<'end'"
            yield from (line.removeprefix(tool).strip() for line in group)
            yield 'end'


BATCH = {'ip ': 'ip -batch -', 'ipvsadm ': 'ipvsadm --restore'}


def batch(line):
    """The program that can take the line along with others; `ipvsadm --restore` knows no `--set`."""
    if line.startswith('-') and not line.startswith('--set'):
        return 'ipvsadm '
    return 'ip ' if line.startswith('ip ') and not line.startswith('ip -') else None
