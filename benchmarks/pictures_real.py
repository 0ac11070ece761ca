"""Pictures of real data in README.md and doc/tutorial.md.

    python -m benchmarks.pictures_real --data FOLDER

draws doc/neurons.png, the published segmentation of training_sample2 as `ffn view` shows it, without its largest segments, which
would hide the others, and doc/tutorial_scores.png, the first picture of the page of `ffn evaluate` in the tutorial. Both need
Chromium and Playwright.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure, real_segmentation
from ffn.proofreading.viewing.browser import open_page

DOC = measure.ROOT / 'doc'
# Segments by size: the first hide the others, and the last are too small to be seen.
SHOWN = slice(8, 44)
# doc/tutorial.md
BOX = 'start { x:0 y:130 z:150 } size { x:120 y:120 z:100 }'
REQUEST = """
image {{ hdf5: "{folder}/v.h5:raw" }}
model_checkpoint_path: "models/fib25_small.weights.h5"
segmentation_output_dir: "{folder}/results"
seed_policy: "PolicyPeaks"
inference_options {{
  move_threshold: 0.9 segment_threshold: 0.3 min_segment_size: 500 min_boundary_dist {{ x: 1 y: 1 z: 1 }}
}}
"""


def ffn(*arguments: str | Path) -> None:
    """Runs a command."""
    subprocess.run(
        [sys.executable, '-m', 'ffn', *map(str, arguments)], cwd=measure.ROOT, check=True
    )


def draw_neurons(folder: Path, labels: np.ndarray) -> None:
    """Draws image and segmentation in a section, and meshes."""
    measure.write_labels(folder / 'labels.h5', labels)
    ffn(
        *('export', '--output', folder / 'view', '--image', f'{folder}/v.h5:raw', '--meshes'),
        *('--labels', f'{folder}/labels.h5:stack', '--voxel_size', '10,10,10'),
    )
    ids, voxels = np.unique(labels[labels > 0], return_counts=True)
    segments = ids[np.argsort(-voxels, kind='stable')][SHOWN]
    ffn(
        *('view', folder / 'view', '--layout', 'xy-3d', '--position', '125,125,60'),
        *('--segments', ','.join(map(str, segments.tolist())), '--pixels', '1000,420'),
        *('--screenshot', DOC / 'neurons.png'),
    )


def draw_scores(folder: Path) -> None:
    """Draws a section of image, truth, segmentation and differences."""
    segmentation = f'precomputed://{folder}/segmentation'
    ffn(
        *('segment', '--inference_request', REQUEST.format(folder=folder), '--bounding_box', BOX),
        *('--subvolume_size', '120,120,100', '--overlap', '24,24,24', '--output', segmentation),
        *('--assembly_dir', folder / 'assembly'),
    )
    ffn(
        *('evaluate', '--segmentation', segmentation, '--groundtruth', f'{folder}/v.h5:labels'),
        *('--image', f'{folder}/v.h5:raw', '--html', folder / 'scores.html'),
    )
    with open_page(f'file://{folder}/scores.html', (660, 700)) as page:
        page.locator('figure').first.screenshot(path=DOC / 'tutorial_scores.png')


def main() -> None:
    """Draws both."""
    args = measure.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        real_segmentation.write_image(args.data, folder / 'v.h5')
        with h5py.File(folder / 'v.h5', 'a') as file:
            file['labels'] = measure.sample_labels(args.data).astype(np.uint32)
            for dataset in file.values():
                dataset.attrs['resolution'] = (10, 10, 10)
        draw_neurons(folder, real_segmentation.published(args.data))
        draw_scores(folder)


if __name__ == '__main__':
    measure.run_bench(main)
