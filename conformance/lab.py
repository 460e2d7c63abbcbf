"""The wires around a director: namespaces, bridges, TAP devices, and raw sockets at their ends.

    client ── bridge ── TAP client [ director ] TAP server ── bridge ── rs1, rs2, rs3

Stations have no address and no neighbour of their own: their kernels say nothing, ever. What they
say is said by the player, and every frame that reaches one is read, also one for nobody.
"""
import ctypes
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time

# The director's MAC address on each side, as in tests/scenario/mod.rs.
PORTS = {'client': '02:00:00:80:00:01', 'server': '02:00:00:81:00:01'}
STATIONS = {'client': '02:00:00:80:00:64', 'rs1': '02:00:00:81:00:11', 'rs2': '02:00:00:81:00:12', 'rs3': '02:00:00:81:00:13'}
OTHER_NAMES = {'server': 'rs1'}

# Names carry the process's number, so that several labs stand side by side; `build` says which.
PREFIX = HOST = ''

SOL_PACKET, PACKET_VNET_HDR = 263, 15
VNET = 10
OTHERHOST, OUTGOING = 3, 4
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_namespaces = []
_processes = []


def found(program):
    """Where a program is, also where an operator's programs are."""
    return shutil.which(program, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin:/usr/bin:/bin')


class Inside:
    """`with Inside(name)`: what this thread opens or starts is in that network namespace."""

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.before = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        there = os.open(f'/run/netns/{self.name}', os.O_RDONLY)
        enter(there)
        os.close(there)

    def __exit__(self, *_):
        enter(self.before)
        os.close(self.before)


def enter(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), 'setns')


def build():
    """Makes the namespaces and everything in them."""
    global PREFIX, HOST
    PREFIX = f'tvc{os.getpid()}-'
    HOST = PREFIX + 'lb'
    for name in [HOST] + [PREFIX + station for station in STATIONS]:
        call(['ip', 'netns', 'add', name])
        _namespaces.append(name)
        with Inside(name):
            for scope in ('all', 'default'):
                write(f'net/ipv6/conf/{scope}/disable_ipv6', 1)
    write_in(HOST, [f'net/bridge/bridge-nf-call-{table}' for table in ('iptables', 'ip6tables', 'arptables')], 0)
    lines = []
    for port in PORTS:
        lines += [f'link add br-{port} type bridge forward_delay 0 stp_state 0 mcast_snooping 0', f'link set br-{port} up',
                  f'tuntap add {port} mode tap', f'link set {port} master br-{port} up']
    for station, mac in STATIONS.items():
        side = 'client' if station == 'client' else 'server'
        lines += [f'link add to-{station} type veth peer name eth0 address {mac} netns {PREFIX}{station}',
                  f'link set to-{station} master br-{side} up']
    call(['ip', '-n', HOST, '-b', '-'], '\n'.join(lines) + '\n')
    for station in STATIONS:
        call(['ip', '-n', PREFIX + station, 'link', 'set', 'eth0', 'up'])


def destroy():
    """Ends what was started and removes what was made, last first."""
    for process in reversed(_processes):
        end(process)
    for name in reversed(_namespaces):
        subprocess.run(['ip', 'netns', 'del', name], stderr=subprocess.DEVNULL)
    _namespaces.clear()


def call(command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f'{" ".join(command)}: {done.stderr.strip()}')


def write(path, value):
    try:
        with open('/proc/sys/' + path, 'w') as file:
            file.write(str(value))
    except FileNotFoundError:
        pass  # a kernel without it needs no setting


def write_in(namespace, paths, value):
    with Inside(namespace):
        for path in paths:
            write(path, value)


def spawn(command, log, **more):
    """Starts a program in the director's namespace; it is ended at the latest with the lab."""
    with open(log, 'ab') as out, Inside(HOST):
        more.setdefault('stdout', out)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=out, **more)
    _processes.append(process)
    return process


def end(process):
    """TERM, two seconds, KILL; nothing if it has ended."""
    for sign, patience in ((signal.SIGTERM, 2), (signal.SIGKILL, 2)):
        if process.poll() is not None:
            break
        process.send_signal(sign)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
    if process in _processes:
        _processes.remove(process)


class Wires:
    """The stations' ends."""

    def __init__(self):
        self.sockets = {}
        for station in STATIONS:
            with Inside(PREFIX + station):
                raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                raw.bind(('eth0', 3))
            raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            raw.setblocking(False)
            self.sockets[raw] = station

    def send(self, station, frame):
        station = OTHER_NAMES.get(station, station)
        raw, = (raw for raw, name in self.sockets.items() if name == station)
        raw.send(bytes(VNET) + frame)

    def gather(self, count, patience, tail):
        """Frames that arrive: until `count` are there, at most `patience` seconds, and `tail` seconds after."""
        begun = time.monotonic()
        until, seen = begun + patience, []
        if not count:
            until = begun + tail
        while True:
            ready = select.select(list(self.sockets), [], [], max(0, until - time.monotonic()))[0]
            for raw in ready:
                while (frame := self.read(raw)) is not None:
                    seen.append(frame)
                    if len(seen) >= count:
                        until = time.monotonic() + tail
            if not ready and time.monotonic() >= until:
                return sorted((frame for frame in seen if frame), key=lambda frame: frame[0])

    def read(self, raw):
        """A frame as (station, bytes), () for one that does not count, None if there is none."""
        try:
            data, (_, _, kind, _, _) = raw.recvfrom(1 << 17)
        except BlockingIOError:
            return None
        station, frame = self.sockets[raw], finished(data[:VNET], bytearray(data[VNET:]))
        if kind == OUTGOING or frame[6:12].hex(':') not in PORTS.values():
            return ()
        if kind == OTHERHOST:
            # The bridge tells everybody of a frame whose owner it does not know; one of them reports it.
            known = frame[:6].hex(':') in STATIONS.values()
            return () if known or station in ('rs2', 'rs3') else ('nobody', bytes(frame))
        return station, bytes(frame)


def finished(header, frame):
    """A checksum that was left to the device is summed up, as a network card would."""
    flags, _, _, _, start, offset = struct.unpack('=BBHHHH', header)
    if flags & 1:
        total = frame[start:] + b'\0' * (len(frame[start:]) % 2)
        value = sum(struct.unpack(f'>{len(total) // 2}H', total))
        while value >> 16:
            value = (value & 0xffff) + (value >> 16)
        frame[start + offset:start + offset + 2] = struct.pack('>H', ~value & 0xffff or 0xffff)
    return frame
