"""Frames of two directors compared, byte for byte, but for what a director may choose freely.

Free is, and nothing else:
- the IPv4 identification of packets that the director makes itself (errors, resets, outer headers
  without DF): the kernel draws it at random. Where the kernel kept the sender's, it is compared;
- the identification of IPv6 fragments, for the same reason;
- the flow label of an IPv6 header that the kernel made: it is a hash with a secret;
- the time of day, in answers to ICMP's question for it and in IPv4 options;
- the source port of GUE: a hash with a secret, and the UDP checksum that it is part of.
Header checksums over something free must be right, whatever they are.
"""
import socket
import struct

GUE_PORT = 6080
PROTOCOLS = {1: 'icmp', 2: 'igmp', 4: 'ipip', 6: 'tcp', 17: 'udp', 41: 'ipip', 44: 'frag', 47: 'gre', 50: 'esp', 51: 'ah', 58: 'icmp', 132: 'sctp'}
FLAGS = 'FSRPAUEC'


def checksum(data):
    data = bytes(data) + b'\0' * (len(data) % 2)
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def echo(to, station, source, target):
    """A frame with an ICMP echo request."""
    message = struct.pack('>BBHHH', 8, 0, checksum(struct.pack('>HI', 0x0800, 0x7e570001)), 0x7e57, 1)
    head = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(message), 1, 0x4000, 64, 1, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = head[:10] + struct.pack('>H', checksum(head + ends)) + ends
    return bytes.fromhex((to + station).replace(':', '')) + b'\x08\0' + head + message


def answers_echo(frame):
    """Whether it is the answer to what `echo` makes."""
    return frame[12:15] == b'\x08\0E' and frame[23:24] == b'\1' and frame[34:35] == b'\0' and frame[38:40] == b'\x7e\x57'


def pseudo(packet, protocol, length):
    if packet[0] >> 4 == 4:
        return bytes(packet[12:20]) + struct.pack('>HH', protocol, length)
    return bytes(packet[8:40]) + struct.pack('>II', length, protocol)


def word(data, at):
    return int.from_bytes(data[at:at + 2], 'big')


def without_choice(frame, kernel, sent):
    """`frame` with what is free set to 0, and notes about checksums that are wrong. What is free is
    told by what the kernel sent and by what it was sent."""
    frame, notes = bytearray(frame), []
    packet, model, origin = memoryview(frame)[14:], kernel[14:], sent[14:]
    if len(packet) < 20 or len(model) < 40 and model[:1] != b'\x45' or frame[12:14] not in (b'\x08\0', b'\x86\xdd'):
        return bytes(frame), notes
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        if checksum(packet[:header]):
            notes.append('wrong IP checksum')
        if origin[:1] == b'' or origin[0] >> 4 != 4 or word(model, 4) != word(origin, 4):
            packet[4:6] = packet[10:12] = b'\0\0'
        without_times(packet, header, notes)
        protocol, whole, first = packet[9], not word(packet, 6) & 0x3fff, not word(packet, 6) & 0x1fff
    else:
        header, protocol, whole, first = 40, packet[6], True, True
        if origin[:1] == b'' or origin[0] >> 4 != 6 or model[1:4] != origin[1:4]:
            packet[1:4] = bytes([packet[1] & 0xf0, 0, 0])
        while protocol in (0, 43, 60) and len(packet) >= header + 8:
            protocol, header = packet[header], header + 8 + packet[header + 1] * 8
        if protocol == 44 and len(packet) >= header + 8:
            first, whole = not word(packet, header + 2) & 0xfff8, False
            packet[header + 4:header + 8] = bytes(4)
            header, protocol = header + 8, packet[header]
    if first and protocol == 17 and len(packet) >= header + 8 and word(packet, header + 2) == GUE_PORT:
        datagram = packet[header:]
        if whole and word(datagram, 6) and checksum(pseudo(packet, 17, len(datagram)) + bytes(datagram)):
            notes.append('wrong UDP checksum')
        datagram[0:2] = b'\0\0'
        if word(datagram, 6):
            datagram[6:8] = b'\1\1'
    return bytes(frame), notes


def timeless(packet):
    """Sets the times of day in IPv4 options to 0; whether there were any."""
    end, at, found = min((packet[0] & 15) * 4, len(packet)), 20, False
    while at + 3 < end and packet[at]:
        length = 1 if packet[at] == 1 else packet[at + 1]
        if length < 1 or at + length > end:
            break
        if packet[at] == 68 and packet[at + 3] & 15 in (0, 1, 3):
            step = 8 if packet[at + 3] & 15 else 4
            for entry in range(at + 4, min(at + length, at + packet[at + 2] - 1), step):
                packet[entry + step - 4:entry + step] = bytes(4)
                found = True
        at += length
    return found


def without_times(packet, header, notes):
    """Sets the times of day in an IPv4 packet, and in what it quotes, to 0."""
    if timeless(packet):
        packet[10:12] = b'\0\0'
    message = packet[header:]
    if packet[9] != 1 or len(message) < 20 or word(packet, 6) & 0x3fff:
        return
    sum_is_wrong = checksum(message)
    found = message[0] == 14
    if found:
        message[12:20] = bytes(8)
    elif message[0] in (3, 4, 11, 12) and len(message) >= 28:
        found = timeless(message[8:])
    if found:
        message[2:4] = b'\0\0'
        if sum_is_wrong:
            notes.append('wrong ICMP checksum')


def difference(kernel, ours, sent):
    """Where two frames differ, for people; None if they do not."""
    a, a_notes = without_choice(kernel, kernel, sent)
    b, b_notes = without_choice(ours, kernel, sent)
    if (a, a_notes) == (b, b_notes):
        return None
    notes = ''.join(f' ({note})' for note in b_notes)
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    place = f'byte {at - 14} of the packet' if at >= 14 else f'byte {at} of the frame'
    piece = slice(at, at + 8)
    return (f'kernel {told(kernel)}, tapvs {told(ours)}{notes}; {place}: '
            f'{a[piece].hex() or "end"} against {b[piece].hex() or "end"}')


def told(frame):
    """A frame in one line, for people."""
    frame = frame + bytes(max(0, 42 - len(frame)))
    kind = frame[12:14]
    if kind == b'\x08\x06':
        operation = 'who-has' if frame[21] == 1 else 'is-at'
        return f'arp {operation} {socket.inet_ntoa(frame[38:42])} from {socket.inet_ntoa(frame[28:32])}'
    return packet_told(frame[14:])


def packet_told(data):
    if len(data) < 20 or data[0] >> 4 not in (4, 6) or data[0] >> 4 == 6 and len(data) < 40:
        return f'{len(data)} bytes'
    extra, later = '', False
    if data[0] >> 4 == 4:
        header, protocol, ttl = (data[0] & 15) * 4, data[9], data[8]
        source, target = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
        place = word(data, 6)
        extra = (' df' if place & 0x4000 else '') + (f' off={(place & 0x1fff) * 8}' if place & 0x3fff else '')
        later = place & 0x1fff
    else:
        header, protocol, ttl = 40, data[6], data[7]
        source, target = socket.inet_ntop(10, data[8:24]), socket.inet_ntop(10, data[24:40])
    rest, name = data[header:], PROTOCOLS.get(protocol, str(protocol))
    ends = f'{source} > {target}'
    if protocol in (6, 17, 132) and len(rest) >= 4 and not later:
        ends = f'{source}:{word(rest, 0)} > {target}:{word(rest, 2)}'
    if protocol == 6 and len(rest) >= 14 and not later:
        extra += ' ' + (''.join(f for i, f in enumerate(FLAGS) if rest[13] >> i & 1) or '-')
    if protocol in (1, 58) and len(rest) >= 8 and not later:
        extra += f' type={rest[0]} code={rest[1]} rest={int.from_bytes(rest[4:8], "big"):#x}'
    inside = rest[8:] if 'type=' in extra and (rest[0] in (3, 4, 5, 11, 12) if protocol == 1 else rest[0] < 128) else b''
    inside = rest if protocol in (4, 41) else inside
    return f'{name} {ends}{extra} ttl={ttl} len={len(data)}' + (f' [{packet_told(inside)}]' if inside else '')
