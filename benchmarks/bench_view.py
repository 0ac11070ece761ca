"""Viewing a large volume: time until the first picture, and memory.

    python -m benchmarks.bench_view

The volume, made here, is precomputed: 4096 x 2560 x 1024 voxels (10.7 Gvx) of 8 x 8 x 16 nm, an image (uint8) and labels
(uint64), of which 40 blocks of 128 x 128 x 128 voxels are stored; once at six scales, which the viewer reads as files, and
once at one, of which this project makes the coarser ones.

Measured in a process of its own: seconds from its beginning until the address is printed, imports included; seconds from
the opening of the page until all that is visible has been drawn, and the same for a volume of 16 x 24 x 32 voxels, in Chromium without a window, which draws on the
processor at 1200 x 800 pixels and was started before; the process's peak resident memory, with Playwright's client in it
and without the browser.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BEGAN = time.monotonic()
SHAPE, VOXEL = (4096, 2560, 1024), (8, 8, 16)  # x, y, z
BLOCK, BLOCKS, SCALES = 128, 40, 6
SIZE = (1200, 800)


def make_volume(folder: Path, labels: bool, scales: int) -> None:
    """Writes a sparse precomputed volume."""
    import tensorstore as ts

    rng = np.random.default_rng(1)
    places = rng.integers(0, np.array(SHAPE) // BLOCK, (BLOCKS, 3)) * BLOCK
    texture = rng.integers(0, 256, 3 * (BLOCK,), np.uint8)
    for scale in range(scales):
        factor = 2**scale
        store = ts.open(
            {
                'driver': 'neuroglancer_precomputed',
                'kvstore': f'file://{folder}',
                'multiscale_metadata': {
                    'type': 'segmentation' if labels else 'image',
                    'data_type': 'uint64' if labels else 'uint8',
                    'num_channels': 1,
                },
                'scale_metadata': {
                    'size': [n // factor for n in SHAPE],
                    'resolution': [n * factor for n in VOXEL],
                    'chunk_size': [64, 64, 64],
                    'encoding': 'compressed_segmentation' if labels else 'raw',
                    **({'compressed_segmentation_block_size': [8, 8, 8]} if labels else {}),
                },
            },
            create=True,
            open=True,
        ).result()
        side = max(BLOCK // factor, 1)
        for number, place in enumerate(places, 1):
            x, y, z = (int(n) // factor for n in place)
            block: Any = np.uint64(number * 10**12) if labels else texture[:side, :side, :side]
            store[x : x + side, y : y + side, z : z + side, 0].write(block).result()


def draw(browser: Any, viewer: Any) -> float:
    """Opens a viewer in a new page; returns the seconds until all that is visible has been drawn."""
    page = browser.new_page(viewport={'width': SIZE[0], 'height': SIZE[1]})
    began = time.monotonic()
    page.goto(viewer.url)
    drawn: list[bytes] = []
    viewer.neuroglancer.async_screenshot(lambda reply: drawn.append(reply.screenshot.image))
    while not drawn:
        page.wait_for_timeout(5)
    seconds = time.monotonic() - began
    page.close()
    return seconds


def view(specs: list[str]) -> dict[str, float]:
    """Opens volumes in a viewer, in this process; returns what was measured."""
    from ffn.proofreading.viewing.agreement import agree
    from ffn.proofreading.viewing.layers import Layer
    from ffn.proofreading.viewing.things import open_thing
    from ffn.proofreading.viewing.viewer import Viewer
    from ffn.volumes.volume import Volume

    layers = agree([layer for spec in specs for layer in open_thing(spec)], None)
    with Viewer() as viewer:
        for layer in layers:
            viewer.add(layer)
        ready = time.monotonic() - BEGAN

        from ffn.proofreading.viewing.browser import launch

        with launch() as browser:
            tiny = Volume('tiny', np.zeros((16, 24, 32), np.uint8), {})
            with Viewer() as small:
                small.add(Layer('tiny', 'image', tiny, VOXEL, tiny.box))
                nothing = draw(browser, small)
            seconds = draw(browser, viewer)
    status = Path('/proc/self/status').read_text()
    peak = int(status.split('VmHWM:')[1].split()[0]) / 1024
    return {'ready_s': ready, 'tiny_s': nothing, 'drawn_s': seconds, 'peak_mib': peak}


def main() -> None:
    """Makes the volumes, and prints a line for each kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # What the processes that are measured are called with.
    parser.add_argument('--view', nargs='+', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.view:
        print(json.dumps(view(args.view)))
        return
    with tempfile.TemporaryDirectory() as made:
        for title, scales in (('six scales', SCALES), ('one scale', 1)):
            folder = Path(made, title.replace(' ', '_'))
            specs = [str(folder / name) for name in ('image', 'labels')]
            for spec in specs:
                make_volume(Path(spec), spec.endswith('labels'), scales)
            command = [sys.executable, '-m', 'benchmarks.bench_view', '--view', *specs]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f'{title:10}: address after {found["ready_s"]:.1f} s; page drawn after {found["drawn_s"]:.1f} s, '
                f'of 16 x 24 x 32 voxels {found["tiny_s"]:.1f} s; peak {found["peak_mib"]:.0f} MiB',
                flush=True,
            )


if __name__ == '__main__':
    from benchmarks import measure  # here, since what it loads is measured

    measure.run_bench(main)
