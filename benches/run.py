#!/usr/bin/env python3
"""The same work through tapvs, the kernel's NAT, two proxies and a bare forwarder; see README.md.

  run.py [--rounds N] [--seconds S] [--scenes LIST] [--tests LIST] [--suts LIST] [--out DIRECTORY]
  run.py --report FILE [--out DIRECTORY]     tables once more, from what an earlier run has kept

A scene is a method and a family: nat4, dr6, ipip4, … In each round every system does every test, one after
the other, so that what changes on the machine meanwhile meets all of them alike.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import lab
import report
from lab import EXAMPLES, ROOT, Lab, Trouble

SCENES = ['nat4', 'nat6', 'dr4', 'dr6', 'ipip4', 'ipip6']
CROWD = 1_000_000
# As many as tapvs takes by itself.
WORKERS = min(os.cpu_count() or 1, 4)
NOTES = []


def systems(scene):
    """Name → how it is started on the director's host; in the order of the tables."""
    found = {'tapvs': lambda place: place.tapvs(), 'tapvs-drain': lambda place: place.tapvs('--engine', 'drain')}
    if WORKERS > 1:
        found['tapvs-1'] = lambda place: place.tapvs('--workers', '1')
    if scene == 'nat4':
        found['tapvs-50000'] = lambda place: place.tapvs(services=50_000)
        found['tapvs-crowd'] = crowd
    if scene.startswith('nat'):
        found['tapvs-macvtap'] = lambda place: place.tapvs(macvtap=True)
        found['nft'] = Lab.nftables
        found['haproxy'] = Lab.haproxy
        found['nginx'] = Lab.nginx
    found['ceiling'] = lambda place: place.ceiling('uring', workers=WORKERS)
    found['ceiling-drain'] = lambda place: place.ceiling('drain')
    if WORKERS > 1:
        found['ceiling-1'] = lambda place: place.ceiling('uring')
    if scene.startswith('nat'):
        found['ceiling-macvtap'] = lambda place: place.ceiling('uring', macvtap=True)
    return found


def crowd(place):
    """tapvs, after a million clients have sent a datagram each; their connections last for five minutes."""
    process = place.tapvs()
    if not place.reaches():
        return process
    place.on('cl', 'ip', 'route', 'replace', 'local', '10.90.0.0/16', 'dev', 'lo')
    done = place.on('cl', EXAMPLES / 'load', 'crowd', place.virt, lab.UDP, '10.90.0.1', CROWD)
    if done.returncode:
        raise Trouble(f'crowd: {done.stderr}')
    NOTES.append(f'{place.connections()} connections held by a running tapvs: {lab.memory_of(process):.0f} MiB')
    print(f'    {NOTES[-1]}', flush=True)
    return process


# ---- tests: each gives what it measured, and how many units of work were done

def numbers(text):
    return {key: float(value) for key, value in re.findall(r'(\w+)=([\d.]+)', text)}


def bulk(*options):
    def test(place, seconds):
        done = place.on('cl', 'iperf3', '-c', place.virt, '-p', lab.IPERF, '-t', seconds, '-J', *options,
                        timeout=seconds + 20)
        end = json.loads(done.stdout).get('end', {}).get('sum_received')
        if not end:
            return None
        return {'value': end['bits_per_second'] / 1e9, 'units': end['bytes'] / 1e9}
    return test


def datagrams(place, seconds):
    before = place.datagrams()
    done = numbers(place.on('cl', EXAMPLES / 'load', 'blast', place.virt, lab.UDP, seconds, 18).stdout)
    time.sleep(0.1)
    got = place.datagrams() - before
    return {'value': got / done['seconds'] / 1e3, 'units': got / 1e6} if got else None


def connections(place, seconds):
    done = numbers(place.on('cl', EXAMPLES / 'load', 'connect', place.virt, lab.SHORT, seconds, 64).stdout)
    if not done.get('count'):
        return None
    return {'value': done['count'] / done['seconds'] / 1e3, 'units': done['count'] / 1e3, 'p99': done['p99'],
            'failed': done['failed']}


def http(*options):
    def test(place, seconds):
        address = f'http://{place.bare(place.virt)}/'
        text = place.on('cl', 'wrk', '-t1', '-c64', f'-d{max(1, round(seconds))}s', '--latency', *options,
                        address).stdout
        total = re.search(r'(\d+) requests in ([\d.]+)s', text)
        last = re.search(r'99%\s+([\d.]+)(us|ms|s)', text)
        if not total or not int(total[1]) or not last:
            return None
        scale = {'us': 1, 'ms': 1e3, 's': 1e6}[last[2]]
        return {'value': int(total[1]) / float(total[2]) / 1e3, 'units': int(total[1]) / 1e3,
                'p99': float(last[1]) * scale}
    return test


def ping(place, seconds):
    done = numbers(place.on('cl', EXAMPLES / 'load', 'ping', place.virt, lab.ECHO, seconds).stdout)
    return {'value': done['p50'], 'p99': done['p99'], 'units': done['count'] / 1e3} if done.get('count') else None


TESTS = {
    'tcp1': bulk(), 'tcp8': bulk('-P', '8'), 'udp': datagrams, 'conn': connections,
    'http': http('-H', 'Connection: close'), 'keep': http(), 'ping': ping,
}


# ---- the run

def measure(place, process, test, seconds):
    own, everyone = lab.time_of(process), lab.time_of_all()
    try:
        found = TESTS[test](place, seconds)
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        found = None
    if not found:
        return None
    units = found.pop('units')
    found['own'] = (lab.time_of(process) - own) / units
    found['all'] = (lab.time_of_all() - everyone) / units
    return found


def run_scene(scene, wish, work, results):
    """Every round of one scene. Results go into `results[test][system]`, one list a round."""
    for number in range(wish.rounds):
        with Lab(scene[:-1], int(scene[-1]), work) as place:
            for name, start in systems(scene).items():
                if wish.suts and name not in wish.suts:
                    continue
                place.clear()
                process = start(place)
                answers = place.reaches()
                if not answers:
                    print(f'{scene} {name}: does not answer\n{place.said("lb")}', flush=True)
                for test in wish.tests:
                    if (name, test) == ('haproxy', 'udp'):
                        continue
                    found = measure(place, process, test, wish.seconds) if answers else None
                    results.setdefault(test, {}).setdefault(name, []).append(found)
                    print(f'{scene} {number + 1}/{wish.rounds} {name:16} {test:5} '
                          + (f'{found["value"]:8.2f} {report.UNITS[test]}' if found else 'FAILED'), flush=True)
                if process:
                    place.end(process)
            place.clear()


def about():
    """Where and of what."""
    def line(*words):
        return subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    model = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    memory = int(re.search(r'MemTotal:\s*(\d+)', Path('/proc/meminfo').read_text())[1]) / 1e6
    changed = '+' if line('git', 'status', '--porcelain', '--untracked-files=no') else ''
    return {'machine': f'{os.cpu_count()} × {model[1] if model else platform.machine()}, {memory:.0f} GB',
            'kernel': platform.release(), 'commit': line('git', 'rev-parse', '--short', 'HEAD') + changed,
            'date': date.today().isoformat(), 'load before': f'{os.getloadavg()[0]:.1f}',
            'peers': ', '.join(filter(None, [
                ' '.join(line('haproxy', '-v').split()[:3]),
                line('sh', '-c', 'nginx -v 2>&1').replace('nginx version: ', ''), line('nft', '--version').split(' (')[0]]))}


def said(program):
    """What a program of ours prints; its bars are its own."""
    done = subprocess.run([ROOT / program], check=False, capture_output=True, text=True)
    print(done.stdout + done.stderr, flush=True)
    return done.stdout


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = (lambda text: [word for word in text.replace(',', ' ').split() if word])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2)
    parser.add_argument('--scenes', type=words, default=[])
    parser.add_argument('--tests', type=words, default=[])
    parser.add_argument('--suts', type=words, default=[])
    parser.add_argument('--out', type=Path, default=ROOT / 'docs')
    parser.add_argument('--keep', type=Path, default=ROOT / 'target' / 'bench.json')
    parser.add_argument('--report', type=Path)
    wish = parser.parse_args()
    wish.scenes, wish.tests = wish.scenes or SCENES, wish.tests or list(TESTS)
    for known, asked in ((SCENES, wish.scenes), (TESTS, wish.tests)):
        if strange := set(asked) - set(known):
            parser.error(f'unknown: {" ".join(sorted(strange))}; there are {" ".join(known)}')
    return wish


def main():
    wish = parse()
    if wish.report:
        return report.write(json.loads(wish.report.read_text()), wish.out)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    kept = {'about': about(), 'rounds': wish.rounds, 'seconds': wish.seconds, 'scenes': {}}
    kept['instructions'] = said('benches/budget')
    kept['table'] = said('target/release/examples/table')
    with tempfile.TemporaryDirectory(prefix='tapvs-bench.') as work:
        for scene in wish.scenes:
            run_scene(scene, wish, work, kept['scenes'].setdefault(scene, {}))
            kept['notes'] = NOTES
            wish.keep.write_text(json.dumps(kept))
    return report.write(kept, wish.out)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.exit(f'bench: {trouble}')
    except KeyboardInterrupt:
        sys.exit(130)
