"""What `make bench` writes: tables in Markdown, a chart, and the bars that figures are held against."""

from statistics import median

UNITS = {'tcp1': 'Gbit/s', 'tcp8': 'Gbit/s', 'udp': 'kpps', 'conn': 'k/s', 'http': 'k/s', 'keep': 'k/s', 'ping': 'µs'}
TITLES = {'tcp1': 'TCP, one stream', 'tcp8': 'TCP, eight', 'udp': 'UDP, 64-byte frames', 'conn': 'short connections',
          'http': 'HTTP, no keep-alive', 'keep': 'HTTP, keep-alive', 'ping': 'ping-pong p50'}
METHODS = {'nat': 'NAT', 'dr': 'Direct routing', 'ipip': 'Tunnel (IP in IP)'}
WORK = {'tcp1': 's a GB', 'udp': 's a million packets', 'conn': 's a thousand connections'}
COLOURS = {'tapvs': '#1a7f5a', 'tapvs-drain': '#7cc4a6', 'tapvs-1': '#0c4f37', 'tapvs-macvtap': '#46a6c9',
           'haproxy': '#c77d3c', 'nginx': '#d9b26a', 'ceiling': '#b9bec6'}


def good(rounds, key='value'):
    return [one[key] for one in rounds or [] if one and key in one]


def middle(scene, test, name, key='value'):
    figures = good(scene.get(test, {}).get(name), key)
    return median(figures) if figures else None


def ratio(scene, test, name, other, key='value'):
    """The median over rounds of what `name` did to what `other` did in the same round."""
    pairs = zip(scene.get(test, {}).get(name) or [], scene.get(test, {}).get(other) or [])
    quotients = [a[key] / b[key] for a, b in pairs if a and b and b.get(key) and key in a]
    return median(quotients) if quotients else None


def digits(figure):
    return '–' if figure is None else f'{figure:.3g}' if figure < 100 else f'{figure:.0f}'


def cell(scene, test, name):
    figures = good(scene[test].get(name))
    if not figures:
        return '–'
    around = (max(figures) - min(figures)) / 2 / median(figures) * 100
    return f'{digits(median(figures))} ±{around:.0f} %'


def table(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    return lines + ['| ' + ' | '.join(row) + ' |' for row in rows] + ['']


def names_of(scene):
    found = []
    for systems in scene.values():
        found += [name for name in systems if name not in found]
    return found


def scene_lines(title, scene):
    tests = [test for test in TITLES if test in scene]
    names = names_of(scene)
    lines = [f'## {title}', '']
    lines += table([''] + [f'{TITLES[t]}, {UNITS[t]}' for t in tests],
                   [[name] + [cell(scene, t, name) for t in tests] for name in names])
    peers = [peer for peer in ('nft', 'ceiling') if peer in names]
    for peer in peers:
        lines += [f'In relation to {peer}, round by round:', '']
        lines += table([''] + [TITLES[t] for t in tests],
                       [[name] + [digits(ratio(scene, t, name, peer)) for t in tests]
                        for name in names if name != peer])
    late = [t for t in ('conn', 'http', 'keep', 'ping') if t in tests]
    if late:
        lines += ['p99, µs:', '']
        lines += table([''] + [TITLES[t] for t in late],
                       [[name] + [digits(middle(scene, t, name, 'p99')) for t in late] for name in names])
    work = [t for t in WORK if t in tests]
    if work:
        lines += ['Processor time: charged to the process, and (in brackets) of the whole machine, both ends included:',
                  '']
        both = (lambda t, n: f'{digits(middle(scene, t, n, "own"))} ({digits(middle(scene, t, n, "all"))})')
        lines += table([''] + [WORK[t] for t in work], [[name] + [both(t, name) for t in work] for name in names])
    return lines


def goals(scenes):
    """(what, figure, how it must be, whether it is) for each figure that there is."""
    found = []

    def hold(what, figure, bar, least=True):
        if figure is not None:
            held = figure >= bar if least else figure <= bar
            found.append((what, digits(figure), f'{"≥" if least else "≤"} {bar}', 'yes' if held else '**no**'))

    for family in '46':
        scene, ip = scenes.get(f'nat{family}', {}), f'IPv{family} NAT'
        proxies = ('haproxy', 'nginx')

        def worst(test, name, others, key='value', pick=min, scene=scene):
            figures = [r for other in others if (r := ratio(scene, test, name, other, key)) is not None]
            return pick(figures) if figures else None

        hold(f'{ip}: TCP to nft', ratio(scene, 'tcp1', 'tapvs', 'nft'), 0.95)
        hold(f'{ip}: TCP to the better proxy', worst('tcp1', 'tapvs', proxies), 1.9)
        hold(f'{ip}: TCP to the ceiling', ratio(scene, 'tcp1', 'tapvs', 'ceiling'), 0.95)
        hold(f'{ip}: eight streams to nft', ratio(scene, 'tcp8', 'tapvs', 'nft'), 1.0)
        hold(f'{ip}: UDP to nft', ratio(scene, 'udp', 'tapvs', 'nft'), 1.5)
        hold(f'{ip}: UDP to the ceiling', ratio(scene, 'udp', 'tapvs', 'ceiling'), 0.92)
        hold(f'{ip}: UDP on macvtap to nft', ratio(scene, 'udp', 'tapvs-macvtap', 'nft'), 1.8)
        hold(f'{ip}: short connections to all peers', worst('conn', 'tapvs', ('nft',) + proxies), 1.1)
        hold(f'{ip}: HTTP without keep-alive to all peers', worst('http', 'tapvs', ('nft',) + proxies), 1.15)
        hold(f'{ip}: HTTP with keep-alive to both proxies', worst('keep', 'tapvs', proxies), 1.15)
        for test in ('conn', 'http'):
            hold(f'{ip}: p99 of {TITLES[test]} to both proxies', worst(test, 'tapvs', proxies, 'p99', max), 0.4, False)
        hold(f'{ip}: ping-pong to nft', ratio(scene, 'ping', 'tapvs', 'nft'), 1.2, False)
        hold(f'{ip}: ping-pong to the better proxy', worst('ping', 'tapvs', proxies, 'value', max), 1.0, False)
        for test in ('tcp1', 'udp'):
            hold(f'{ip}: processor, {WORK[test]}, to the ceiling', ratio(scene, test, 'tapvs', 'ceiling', 'own'), 1.15,
                 False)
        hold(f'{ip}: UDP by drain to nft', ratio(scene, 'udp', 'tapvs-drain', 'nft'), 1.0)
        hold(f'{ip}: UDP with 50,000 services to one', ratio(scene, 'udp', 'tapvs-50000', 'tapvs'), 0.97)
        for method in ('dr', 'ipip'):
            scene = scenes.get(f'{method}{family}', {})
            for test in ('tcp1', 'tcp8', 'udp', 'conn', 'http', 'keep'):
                hold(f'IPv{family} {METHODS[method]}: {TITLES[test]} to the ceiling',
                     ratio(scene, test, 'tapvs', 'ceiling'), 0.92)
    return found


def chart(scene):
    """Bars of each test in relation to the kernel's NAT, as SVG."""
    tests = [t for t in TITLES if t in scene]
    names = [n for n in COLOURS if n in names_of(scene)]
    bar, gap, high, left, top = 13, 22, 220, 46, 46
    group = bar * len(names) + gap
    width, bottom = left + group * len(tests) + 10, top + high
    most = 2.5
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom + 44}" '
           'font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{bottom + 44}" fill="white"/>']
    for tick in (0.5, 1, 1.5, 2, 2.5):
        y = bottom - tick / most * high
        strong = ' stroke-width="2"' if tick == 1 else ''
        out += [f'<line x1="{left}" x2="{width - 10}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ccc"{strong}/>',
                f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:g} ×</text>']
    for at, test in enumerate(tests):
        x = left + group * at + gap / 2
        for place, name in enumerate(names):
            figure = ratio(scene, test, name, 'nft')
            if figure is None:
                continue
            tall = min(figure, most) / most * high
            out.append(f'<rect x="{x + place * bar:.0f}" y="{bottom - tall:.0f}" width="{bar - 2}" height="{tall:.0f}" '
                       f'fill="{COLOURS[name]}"><title>{name}: {figure:.2f}</title></rect>')
        out.append(f'<text x="{x + bar * len(names) / 2:.0f}" y="{bottom + 16}" text-anchor="middle">'
                   f'{TITLES[test]}</text>')
        if test == 'ping':
            out.append(f'<text x="{x + bar * len(names) / 2:.0f}" y="{bottom + 30}" text-anchor="middle" fill="#777">'
                       'less is better</text>')
    x = left
    for name in names:
        out += [f'<rect x="{x}" y="10" width="11" height="11" fill="{COLOURS[name]}"/>',
                f'<text x="{x + 15}" y="20">{name}</text>']
        x += 30 + 7 * len(name)
    out += [f'<text x="{left}" y="38" fill="#777">NAT over IPv4; 1 × is nftables in the kernel</text>', '</svg>']
    return '\n'.join(out) + '\n'


def write(kept, out):
    facts, scenes = kept['about'], kept['scenes']
    lines = ['# What it carries', '',
             'Written by `make bench`. tapvs, the kernel\'s own NAT (nftables, behind the same bridges), two proxies and a',
             'bare forwarder with one fixed mapping on the same TAPs (the ceiling) do the same work in the same namespaces,',
             f'in turn, {kept["rounds"]} rounds of {kept["seconds"]:g} s a test; medians, ± half of what lies between the',
             'least and the most. Load, servers and the system under test share the processors: relations say more than',
             'figures. `-drain` is one frame a system call, `-1` with one worker, `-50000` with so many services, `-crowd` with a',
             'million connections in the table.', '']
    lines += table(['', ''], [[key, facts[key]] for key in ('machine', 'load before', 'kernel', 'commit', 'date', 'peers')
                               if key in facts])
    if 'nat4' in scenes and 'nft' in names_of(scenes['nat4']):
        lines += ['![NAT over IPv4 in relation to nftables](bench.svg)', '']
        (out / 'bench.svg').write_text(chart(scenes['nat4']))
    held = goals(scenes)
    if held:
        lines += ['## What it is held against', '']
        lines += table(['', 'figure', 'bar', 'held'], [list(row) for row in held])
    for name, scene in scenes.items():
        lines += scene_lines(f'{METHODS[name[:-1]]} over IPv{name[-1]}', scene)
    if kept.get('notes'):
        lines += ['## Live', ''] + [f'- {note}' for note in kept['notes']] + ['']
    for title, key in (('Instructions a packet', 'instructions'), ('Millions of connections', 'table')):
        if kept.get(key):
            lines += [f'## {title}', '', '```text', kept[key].replace('## ', '').strip(), '```', '']
    (out / 'bench.md').write_text('\n'.join(lines))
    missed = sum(row[3] != 'yes' for row in held)
    print('\n'.join(f'{what}: {figure} ({bar}) {"held" if state == "yes" else "MISSED"}'
                    for what, figure, bar, state in held))
    print(f'{out / "bench.md"}: {len(held)} bars, {missed} missed')
    return 0
