#!/usr/bin/env python3
"""Plays stories at the kernel's IPVS and at tapvs, in turn and in the same topology, and compares.

  play.py [NAME...]      stories whose name contains one of these, else all; LONG=1 plays those as well
                         that take longer than a minute

LANES=N plays N stories side by side, each lane with a topology and a guest of its own.

Prints a line a story, `equal NAME` or `differs NAME: the first difference`, and `N passed, N failed`.
A story is a `.scn` file (tests/scenarios/README.md): the same that the scenario tests play on
virtual time, so no case is written twice. Here time is real. What a story expects is not looked at:
the kernel says what is right.
"""
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import frames
import guest
import lab

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TAPVS = os.environ.get('TAPVS', os.path.join(ROOT, 'target/debug/tapvs'))
STORY = os.path.join(os.path.dirname(TAPVS), 'examples/story')

# Pauses shorter than this are there to tell steps apart, and are left out.
PAUSE_MS = 400
# Counters are summed every two seconds.
SUMMED_S = 2.3
# How long an answer may take, and how long more frames are waited for where all or none have come.
ANSWER_S, TAIL_S, SILENCE_S = 3, 0.03, 0.15
PORTION = 32
LONG_MS = 60_000
READY_S = 10


class Tapvs:
    """tapvs as the director: a process a story."""
    name = 'tapvs'

    def __init__(self, work):
        self.work, self.process = work, None
        self.tool_path = os.path.join(work, 'ipvsadm')
        os.symlink(os.path.abspath(TAPVS), self.tool_path)
        self.env = dict(os.environ, TAPVS_SOCKET=os.path.join(work, 'tapvs.sock'), RUST_LOG='info', PATH=f'{work}:{os.environ["PATH"]}')

    def start(self, story):
        self.write(story['topology'] + story['rules'])
        self.process = lab.spawn([TAPVS, 'run', '-r', self.rules], os.path.join(self.work, 'tapvs.log'),
                                 stdout=subprocess.PIPE, text=True, env=self.env)
        if self.process.stdout.readline().strip() != 'ready':
            raise guest.Refused('set-up: ' + self.log_text()[-1000:].strip().replace('\n', '; '))

    @property
    def rules(self):
        return os.path.join(self.work, 'story.rules')

    def write(self, lines):
        with open(self.rules, 'w') as file:
            file.write('\n'.join(lines) + '\n')

    def do(self, line):
        if line.startswith('-') or line.startswith('ipvsadm '):
            return self.tool(line.removeprefix('ipvsadm '))
        return self.reload(line)

    def reload(self, line):
        """tapvs takes a sysctl while it runs by its rules, read again: all that it has now, and this."""
        saved = subprocess.run([TAPVS, 'save'], env=self.env, text=True, capture_output=True, timeout=20)
        if saved.returncode:
            raise guest.Refused(f'{line}: {saved.stderr.strip()}')
        before = self.log_text().count('reload:')
        self.write(saved.stdout.splitlines() + [line])
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + READY_S
        while self.log_text().count('reload:') == before:
            if time.monotonic() > end:
                raise guest.Refused(f'{line}: the rules are not read again')
            time.sleep(0.01)
        return 0, ''

    def log_text(self):
        with open(os.path.join(self.work, 'tapvs.log'), errors='replace') as log:
            return log.read()

    def tool(self, arguments):
        with lab.Inside(lab.HOST):
            done = subprocess.run('ipvsadm ' + arguments, shell=True, env=self.env, text=True, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        return done.returncode, done.stdout

    def stop(self):
        if self.process:
            lab.end(self.process)
            self.process.stdout.close()
            self.process = None


def stories(names):
    """All stories, by name, as `story` reads them."""
    files = []
    for place in ('tests/scenarios', 'conformance/cases'):
        for folder, _, found in os.walk(os.path.join(ROOT, place)):
            files += [os.path.relpath(os.path.join(folder, file), ROOT) for file in found if file.endswith('.scn')]
    told = subprocess.run([STORY, *sorted(files)], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout
    out = []
    for line in told.splitlines():
        word, *fields = line.split('\t')
        if word == 'story':
            name = re.sub(r'^(tests/scenarios|conformance)/', '', fields[0])
            out.append(dict(name=name, topology=[], rules=[], steps=[], arp=False))
        elif word in ('topology', 'rules'):
            out[-1][word].append(fields[0])
        elif word == 'arp':
            out[-1]['arp'] = True
        else:
            out[-1]['steps'].append((int(fields[0]), word, fields[1:]))
    return [story for story in out if not names or any(name in story['name'] for name in names)]


def apart():
    """Stories that are not compared, each with the reason."""
    with open(os.path.join(HERE, 'apart')) as file:
        lines = [line.split(None, 1) for line in file if line.strip() and not line.startswith('#')]
    return {name: reason.strip() for name, reason in lines}


def play(director, story, wires, pace):
    """What a director does in a story: (step, what is compared, how) a step. `pace` holds when each step
    began at the other director, in seconds, and it begins no earlier here; if empty, it is filled."""
    try:
        director.start(story)
        await_ready(wires)
        begun, before, seen, times = time.monotonic(), 0, [], []
        for (at, word, fields), there in itertools.zip_longest(story['steps'], pace, fillvalue=0):
            pause = at - before
            before = at
            if pause >= PAUSE_MS:
                seen.append((f'before {at}ms', 'frames', wires.gather(0, 0, pause / 1000), b''))
            time.sleep(max(0, begun + there - time.monotonic()))
            times.append(time.monotonic() - begun)
            if word != 'wait':
                seen.append(step(director, wires, word, fields, begun))
        pace[:] = times
        return [(label, kind, heard(story, what) if kind == 'frames' else what, sent) for label, kind, what, sent in seen]
    finally:
        director.stop()


# Who asks whether the director is there, and whom.
ECHOES = (('client', 'client', '10.80.0.100', '10.80.0.1'), ('rs1', 'server', '10.81.0.11', '10.81.0.1'))


def await_ready(wires):
    """Returns when both sides of the director answer: a guest's cards need a moment, a busy guest seconds."""
    for station, port, source, target in ECHOES:
        frame = frames.echo(lab.PORTS[port], lab.STATIONS[station], source, target)
        end = time.monotonic() + READY_S
        while True:
            wires.send(station, frame)
            if any(name == station and seen[12:14] == b'\x08\0' for name, seen in wires.gather(1, 0.2, 0)):
                break
            if time.monotonic() > end:
                raise guest.Refused(f'set-up: {target} does not answer')
    wires.gather(0, 0, 0.1)


def step(director, wires, word, fields, begun):
    if word == 'send':
        station, digits, answers, text = fields
        frame = bytes.fromhex(digits)
        wires.send(station, frame)
        answers = int(answers)
        return text, 'frames', wires.gather(answers, ANSWER_S, TAIL_S if answers else SILENCE_S), frame
    if word == 'many':
        station, digits, count = fields
        return f'{count} packets', 'text', many(wires, station, bytes.fromhex(digits), int(count)), b''
    if word == 'do':
        return fields[0], 'text', director.do(fields[0]), b''
    if word == 'tool':
        kind = 'conns' if fields[0].startswith('-Lnc') else 'text'
        said = director.tool(fields[0])
        return f'ipvsadm {fields[0]}', kind, said if kind == 'text' else (said[1], time.monotonic() - begun), b''
    if word == 'list':
        return 'ipvsadm -Ln', 'text', director.tool('-Ln'), b''
    if word in ('conns', 'calls'):
        arguments = '-Lnc' if word == 'conns' else '-Lnc --persistent-conn'
        return f'ipvsadm {arguments}', 'conns', (director.tool(arguments)[1], time.monotonic() - begun), b''
    if word == 'stats':
        time.sleep(SUMMED_S)
        return 'ipvsadm -Ln --stats --exact', 'text', director.tool('-Ln --stats --exact'), b''
    raise ValueError(word)


def many(wires, station, frame, count):
    """So many packets, no more at once than a network card holds; how many came out."""
    out = 0
    while count > 0:
        portion = min(count, PORTION)
        for _ in range(portion):
            wires.send(station, frame)
        out += len(heard(STRICT, wires.gather(portion, ANSWER_S, 0)))
        count -= portion
    return 0, f'{out} came out'


# As a story that is not about neighbours.
STRICT = {'arp': False}


def heard(story, seen):
    """Frames that count. When a director joins a group is its own affair; so is when it asks for a
    neighbour, announces itself or confirms a neighbour, but in stories about neighbours."""
    return [(station, frame) for station, frame in seen
            if not joins_group(frame) and (story['arp'] or not about_neighbours(frame))]


def joins_group(frame):
    six = frame[12:14] == b'\x86\xdd' and frame[20:21] == b'\0' and frame[54:55] == b':' and frame[62:63] in (b'\x82', b'\x83', b'\x84', b'\x8f')
    return six or frame[12:14] == b'\x08\0' and frame[23] == 2


def about_neighbours(frame):
    return frame[12:14] == b'\x08\x06' or frame[12:14] == b'\x86\xdd' and frame[20] == 58 and frame[54:55] in (b'\x85', b'\x86', b'\x87', b'\x88', b'\x89')


def first_difference(kernel, ours):
    for (label, kind, a, sent), (_, _, b, _) in zip(kernel, ours):
        why = DIFFERENCES[kind](a, b, sent)
        if why:
            return f'{label}: {why}'
    if len(kernel) != len(ours):
        return f'frames at another time: {len(kernel)} looks at the kernel, {len(ours)} at tapvs'
    return None


def frames_differ(a, b, sent):
    if [station for station, _ in a] != [station for station, _ in b]:
        def names(seen):
            return ', '.join(f'{station} {frames.told(frame)}' for station, frame in seen) or 'nothing'
        return f'kernel sent {names(a)}; tapvs sent {names(b)}'
    for (station, x), (_, y) in zip(a, b):
        why = frames.difference(x, y, sent)
        if why:
            return f'at {station}, {why}'
    return None


def squeezed(said):
    return [re.sub(r'\s+', ' ', line).strip() for line in said.splitlines() if line.strip()]


def text_differs(a, b, _):
    (code_a, said_a), (code_b, said_b) = a, b
    said_a, said_b = squeezed(said_a), squeezed(said_b)
    if (code_a, said_a) == (code_b, said_b):
        return None
    for x, y in zip(said_a, said_b):
        if x != y:
            return f'kernel `{x}`, tapvs `{y}`'
    if code_a != code_b:
        return f'exit code {code_a} at the kernel, {code_b} at tapvs'
    more = said_a[len(said_b):] or said_b[len(said_a):]
    return f'only {"the kernel" if len(said_a) > len(said_b) else "tapvs"} says `{more[0]}`'


def conns_of(said):
    """Connections without and with their seconds left, in one order."""
    out = []
    for line in said.splitlines():
        fields = line.split()
        if len(fields) >= 6 and re.fullmatch(r'\d+:\d+', fields[1]):
            minutes, seconds = fields[1].split(':')
            out.append((fields[:1] + fields[2:], int(minutes) * 60 + int(seconds)))
    return sorted(out)


def conns_differ(a, b, _):
    """Seconds left may be 3 off, and as much more as one story was slower than the other; what has a
    second left by that measure may be gone."""
    off = abs(a[1] - b[1])
    a, b = conns_of(a[0]), conns_of(b[0])
    for only, there, name in ((a, b, 'the kernel'), (b, a, 'tapvs')):
        others = list(there)
        for what, left in only:
            same = [other for other in others if other[0] == what and abs(other[1] - left) <= 3 + off]
            if same:
                others.remove(same[0])
            elif left > 1 + off:
                near = ', '.join(f'{x} s' for other, x in there if other == what) or 'none'
                return f'{name} has {" ".join(what)} {left} s, the other {near}'
    return None


DIFFERENCES = {'frames': frames_differ, 'text': text_differs, 'conns': conns_differ}


def main():
    wanted, excused = stories(sys.argv[1:]), apart()
    for story in wanted:
        if story['name'] in excused:
            print(f'apart {story["name"]}: {excused[story["name"]]}')
        elif is_later(story):
            print(f'later {story["name"]}: takes {takes_ms(story) // 1000} s; LONG=1 plays it')
    wanted = [story for story in wanted if story['name'] not in excused and not is_later(story)]
    if not wanted:
        sys.exit('no such story')
    sys.stdout.flush()
    guest.installed()
    guest.image()
    differ = side_by_side(shared_out(wanted, int(os.environ.get('LANES', '4'))))
    if differ:
        # Some stories ask for things to happen in time, and a busy machine does not keep it.
        print(f'once more, by themselves: {len(differ)}', flush=True)
        differ = side_by_side([[story for story in wanted if story['name'] in differ]])
    print(f'{len(wanted) - len(differ)} passed, {len(differ)} failed')
    return 1 if differ else 0


def takes_ms(story):
    return story['steps'][-1][0] if story['steps'] else 0


def is_later(story):
    """Too long for every day; the cases of this folder are made for real time."""
    return takes_ms(story) > LONG_MS and not story['name'].startswith('cases/') and 'LONG' not in os.environ


def shared_out(wanted, count):
    """Stories dealt to lanes that take about the same time: most of it is waiting."""
    lanes = [[0, []] for _ in range(min(count, len(wanted)))]
    for story in sorted(wanted, key=takes_ms, reverse=True):
        lane = min(lanes, key=lambda lane: lane[0])
        lane[0] += takes_ms(story) + 3000
        lane[1].append(story)
    return [sorted(lane, key=lambda story: story['name']) for _, lane in lanes]


def side_by_side(lanes):
    """Plays each lane in a process and a lab of its own; the names of the stories that are not equal."""
    children = []
    with tempfile.TemporaryFile('a+') as equal:
        try:
            for lane in lanes:
                child = os.fork()
                if not child:
                    in_child(lane, equal)
                children.append(child)
            while children:
                children.remove(os.wait()[0])
            equal.seek(0)
            return {story['name'] for lane in lanes for story in lane} - set(equal.read().split())
        finally:
            for child in children:
                os.kill(child, signal.SIGTERM)
                os.waitpid(child, 0)


def in_child(lane, equal):
    """Never returns; the names of stories that are equal are written down."""
    try:
        compare(lane, equal)
    except Exception as why:  # whatever it is, the lane has failed and says so
        traceback.print_exc()
        print(f'differs {lane[0]["name"]} and the rest of its lane: {why!r}')
    finally:
        sys.stdout.flush()
        equal.flush()
        os._exit(0)


def compare(lane, equal):
    """Plays stories at the kernel, then at tapvs, and reports each."""
    with tempfile.TemporaryDirectory(prefix='tapvs-conformance.') as work:
        try:
            lab.build()
            wires, kernel = lab.Wires(), guest.Kernel(work)
            paces = [[] for _ in lane]
            answers = [attempt(kernel, story, wires, pace) for story, pace in zip(lane, paces)]
            kernel.end()
            ours = Tapvs(work)
            for story, answer, pace in zip(lane, answers, paces):
                if report(story, answer, attempt(ours, story, wires, pace)):
                    equal.write(story['name'] + '\n')
                    equal.flush()
        finally:
            lab.destroy()


def attempt(director, story, wires, pace):
    """What a director did in a story, or why that failed."""
    try:
        return play(director, story, wires, pace)
    except guest.Refused as why:
        return f'{director.name}: {why}'


def report(story, kernel, ours):
    """Prints whether the two did the same, and says so."""
    why = next((side for side in (kernel, ours) if isinstance(side, str)), None) or first_difference(kernel, ours)
    print(f'differs {story["name"]}: {why}' if why else f'equal {story["name"]}', flush=True)
    return not why


if __name__ == '__main__':
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda *_: sys.exit(143))
    sys.exit(main())
