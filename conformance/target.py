#!/usr/bin/env python3
"""Runs tapvs where a test driver describes the director's place in JSON.

  $ORC_CONFIG   the place: `client` and `server` with `tap`, `mac`, `mtu`, `addrs`; `routes`, `local`,
                `neigh`, `sysctl`, `marks`, `timeouts`
  $ORC_RULES    services and servers, as `ipvsadm --save` writes them
  $SETTINGS     more lines for the rules file, for instance what the director that it is compared with has set
                and the place does not say

Prints READY when tapvs is ready, and ends with it. `ipvsadm` finds it at $TAPVS_SOCKET.
"""
import ipaddress
import json
import os
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TAPVS = os.environ.get('TAPVS', os.path.join(ROOT, 'target/debug/tapvs'))


def lines(place):
    """The place in the words of a rules file."""
    for side in ('client', 'server'):
        port = place[side]
        yield f'ip tuntap add dev {port["tap"]} mode tap'
        yield f'ip link set dev {port["tap"]} address {port["mac"]} mtu {port["mtu"]}'
        for address in port['addrs']:
            yield f'ip addr add {address} dev {port["tap"]}'
    for network, gateway in place['routes']:
        yield f'ip route add {network} via {gateway}'
    for network in place['local']:
        yield f'ip route add local {network} dev lo'
    for address, mac in place['neigh'].items():
        yield f'ip neigh add {address} lladdr {mac} dev {place[side_of(place, address)]["tap"]}'
    for name, value in place['sysctl'].items():
        yield f'sysctl -w net.ipv4.vs.{name}={value}'
    for address, protocol, port, mark in place['marks']:
        tool = 'ip6tables' if ':' in address else 'iptables'
        ports = f' --dport {port}' if port else ''
        yield f'{tool} -t mangle -A PREROUTING -d {address} -p {protocol}{ports} -j MARK --set-mark {mark}'
    if place['timeouts']:
        yield f'ipvsadm --set {place["timeouts"]}'


def side_of(place, address):
    """The side on whose networks a neighbour is."""
    def holds(side):
        networks = (ipaddress.ip_interface(text).network for text in place[side]['addrs'])
        return any(ipaddress.ip_address(address) in network for network in networks)
    return 'client' if holds('client') else 'server'


def main():
    with open(os.environ['ORC_CONFIG']) as config, open(os.environ['ORC_RULES']) as services:
        rules = [*lines(json.load(config)), os.environ.get('SETTINGS', ''), services.read()]
    with tempfile.NamedTemporaryFile('w', suffix='.rules') as file:
        file.write('\n'.join(rules) + '\n')
        file.flush()
        process = subprocess.Popen([TAPVS, 'run', '-q', '-r', file.name], stdout=subprocess.PIPE, text=True)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        if process.stdout.readline().strip() == 'ready':
            print('READY', flush=True)
        return process.wait()


if __name__ == '__main__':
    sys.exit(main())
