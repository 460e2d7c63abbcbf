#!/usr/bin/env python3
"""The programs that test hosts run besides curl, dig, socat and iperf3; nothing but the standard library.

  host.py http NAME ADDRESS PORT        answers every GET with NAME; GET /file sends $BULK,
                                        PUT answers with the SHA-256 of what came
  host.py https NAME ADDRESS PORT       the same over TLS, with the certificate and key of the file $CERT
  host.py udp  NAME ADDRESS PORT        echo: sends back NAME and what came
  host.py tcp  NAME ADDRESS PORT        echo: sends each line back after NAME, until the peer is done
  host.py talk ADDRESS PORT             one connection: sends each line of standard input, prints the answer
  host.py dns  NAME ADDRESS PORT        answers every question with a TXT record that says NAME
  host.py deaf SOCKET COUNT             so many clients of a tapvs that ask for everything and never read
  host.py noise BYTES SEED              seeded bytes on standard output
  host.py probe TTL ADDRESS PORT [SIZE] sends a UDP datagram, prints what came back: `reply TEXT`, or
                                        `error TYPE CODE from ADDRESS about ADDRESS:PORT [mtu N]`, or `silence`,
                                        $WAIT seconds long (60)
"""
import hashlib
import os
import random
import select
import socket
import socketserver
import ssl
import struct
import sys
import time

NOISE = 1 << 20


def family_of(address):
    return socket.AF_INET6 if ':' in address else socket.AF_INET


class Http(socketserver.StreamRequestHandler):
    """HTTP/1.0 without keep-alive: one request, one connection."""

    def handle(self):
        words = self.rfile.readline().decode('latin-1').split()
        if len(words) < 2:
            return
        headers = {}
        while (line := self.rfile.readline().strip()):
            key, _, value = line.decode('latin-1').partition(':')
            headers[key.lower()] = value.strip()
        if words[0] == 'PUT':
            self.answer((self.digest(headers) + '\n').encode())
        elif words[1].startswith('/file'):
            self.send_file(os.environ['BULK'])
        else:
            self.answer((self.server.name + '\n').encode())

    def digest(self, headers):
        if headers.get('expect', '').lower() == '100-continue':
            self.wfile.write(b'HTTP/1.1 100 Continue\r\n\r\n')
            self.wfile.flush()
        left, digest = int(headers['content-length']), hashlib.sha256()
        while left and (piece := self.rfile.read(min(left, NOISE))):
            digest.update(piece)
            left -= len(piece)
        return digest.hexdigest()

    def head(self, length):
        self.wfile.write(b'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n' % length)

    def answer(self, body):
        self.wfile.write(b'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n' % len(body) + body)

    def send_file(self, path):
        with open(path, 'rb') as file:
            self.head(os.fstat(file.fileno()).st_size)
            self.wfile.flush()
            self.connection.sendfile(file)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024


def http(name, address, port):
    serve_streams(Http, name, address, port)


class TlsServer(Server):
    """Shakes hands in the thread of the connection, so that a slow client holds nobody up."""

    def get_request(self):
        stream, client = super().get_request()
        return self.tls.wrap_socket(stream, server_side=True, do_handshake_on_connect=False), client


def https(name, address, port):
    TlsServer.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TlsServer.tls.load_cert_chain(os.environ['CERT'])
    serve_streams(Http, name, address, port, TlsServer)


def serve_streams(handler, name, address, port, kind=Server):
    Server.address_family = family_of(address)
    with kind((address, int(port)), handler) as server:
        server.name = name
        print('listening', flush=True)
        server.serve_forever()


def datagrams(address, port, answer):
    """Answers from the address that was asked: a server with several addresses must not choose another."""
    family = family_of(address)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    sock.bind((address, int(port)))
    print('listening', flush=True)
    while True:
        data, ancillary, _, client = sock.recvmsg(65535, 256)
        sock.sendmsg([answer(data)], [from_there(family, a) for a in ancillary], 0, client)


def from_there(family, ancillary):
    level, kind, data = ancillary
    if family == socket.AF_INET:  # ifindex 0, spec_dst = the address asked, addr unused
        return level, kind, struct.pack('=I4s4s', 0, data[8:12], b'\0' * 4)
    return level, kind, data[:16] + struct.pack('=I', 0)


def udp(name, address, port):
    datagrams(address, port, lambda data: name.encode() + b': ' + data)


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(self.server.name.encode() + b': ' + line)


def tcp(name, address, port):
    serve_streams(Echo, name, address, port)


def talk(address, port):
    with socket.create_connection((address, int(port)), timeout=60) as stream, stream.makefile('rwb') as lines:
        for line in sys.stdin.buffer:
            lines.write(line)
            lines.flush()
            print(lines.readline().decode().rstrip(), flush=True)


def dns(name, address, port):
    def answer(query):
        end = 12
        while query[end]:
            end += 1 + query[end]
        question = query[12:end + 5]
        text = bytes([len(name)]) + name.encode()
        record = b'\xc0\x0c' + struct.pack('>HHIH', 16, 1, 0, len(text)) + text
        return query[:2] + struct.pack('>HHHHH', 0x8580, 1, 1, 0, 0) + question + record
    datagrams(address, port, answer)


def deaf(path, count):
    """Each asks for the services until no more of its questions are taken."""
    question = b'1 services'
    clients = [socket.socket(socket.AF_UNIX) for _ in range(int(count))]
    for client in clients:
        client.connect(path)
        client.setblocking(False)
    print('listening', flush=True)
    while True:
        for client in clients:
            try:
                while client.send(struct.pack('>I', len(question)) + question):
                    pass
            except OSError:
                pass  # its room is full, or it has been shown the door
        time.sleep(0.05)


def noise(size, seed):
    left, rng = int(size), random.Random(int(seed))
    block = bytearray(rng.randbytes(NOISE))
    while left:
        block[:8] = struct.pack('>Q', left)
        sys.stdout.buffer.write(block[:min(left, NOISE)])
        left -= min(left, NOISE)


def probe(ttl, address, port, size='5'):
    family = family_of(address)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, int(ttl))
        sock.setsockopt(socket.IPPROTO_IP, 10, 3)   # IP_MTU_DISCOVER = IP_PMTUDISC_PROBE: always DF
        sock.setsockopt(socket.IPPROTO_IP, 11, 1)   # IP_RECVERR
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, int(ttl))
        sock.setsockopt(socket.IPPROTO_IPV6, 23, 3)  # IPV6_MTU_DISCOVER = IPV6_PMTUDISC_PROBE
        sock.setsockopt(socket.IPPROTO_IPV6, 25, 1)  # IPV6_RECVERR
    sock.sendto(b'x' * int(size), (address, int(port)))
    until = time.monotonic() + float(os.environ.get('WAIT', '60'))
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        for _, event in poll.poll(left * 1000):
            print(error_of(family, sock) if event & select.POLLERR else 'reply ' + sock.recv(65535).decode())
            return
    print('silence')


def error_of(family, sock):
    _, ancillary, _, about = sock.recvmsg(65535, 512, socket.MSG_ERRQUEUE)
    for _, _, data in ancillary:
        if len(data) < 16:
            continue
        _, origin, kind, code, _, info, _ = struct.unpack('=IBBBBII', data[:16])
        if family == socket.AF_INET:
            offender = socket.inet_ntop(family, data[20:24])
        else:
            offender = socket.inet_ntop(family, data[24:40])
        mtu = ' mtu %d' % info if (kind, code) == (3, 4) or kind == 2 else ''
        if origin in (2, 3):
            return 'error %d %d from %s about %s:%d%s' % (kind, code, offender, about[0], about[1], mtu)
    return 'error of this host'


if __name__ == '__main__':
    globals()[sys.argv[1]](*sys.argv[2:])
