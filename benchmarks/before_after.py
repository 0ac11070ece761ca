"""Training, inference and assembly of this checkout beside those of an earlier commit, whole commands in turns.

    python -m benchmarks.before_after 1d8e179 [--pairs 9] [--stage train ...]

Both run on the same generated data, with the same interpreter and libraries: a network of two million operations a
voxel is trained for 100 steps, segments 64x80x96 voxels, and 64 subvolumes of 160 voxels a side are assembled to
512x512x512. A pair is one run of each, in changing order. Printed are the medians of the processor time, of all
threads and processes of a command, and the median and quartiles of the ratios of the pairs, above 1 where this checkout
takes longer.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks import bench_assembly, measure
from ffn.synthetic import generate, write_sample
from ffn.utils.progress import progress

MODEL = '{"depth": 4, "features": 8, "fov_size": [17, 17, 13], "deltas": [4, 4, 3]}'
TILING = bench_assembly.make_tiling(bench_assembly.PERIOD)
# What each makes is removed before it runs; in the order in which they need one another.
STAGES = {
    'train': (
        'model',
        'train.py --train_coords coordinates --data_volumes s:sample.h5:image '
        '--label_volumes s:sample.h5:labels --model_name convstack_3d.ConvStack3DFFNModel '
        f"--model_args '{MODEL}' --image_mean 128 --image_stddev 40 --optimizer adam --max_steps 100 "
        '--checkpoint_steps 25 --train_dir model',
    ),
    'inference': (
        'results',
        'run_inference.py --inference_request request.pbtxt '
        "--bounding_box 'start { x:0 y:0 z:0 } size { x:96 y:80 z:64 }'",
    ),
    'assembly': (
        'assembled',
        f"-m ffn.assembly.assemble --segmentation subvolumes --bounding_box '{TILING.box.to_proto()}' "
        f'--subvolume_size {",".join(map(str, TILING.size))} --overlap {",".join(map(str, TILING.overlap))} '
        '--output zarr://assembled/volume --assembly_dir assembled/tables --voxel_size 8,8,8',
    ),
}
REQUEST = """
image { hdf5: "sample.h5:image" }
model_checkpoint_path: "trained"
segmentation_output_dir: "results"
seed_policy: "PolicyPeaks"
inference_options { move_threshold: 0.6 segment_threshold: 0.5 min_segment_size: 50 }
"""


def prepare(folder: Path) -> None:
    """Writes what the stages read, but for the network."""
    write_sample(generate((64, 80, 96), seed=1), str(folder / 'sample.h5'))
    (folder / 'request.pbtxt').write_text(REQUEST)
    bench_assembly.write_subvolumes(folder / 'subvolumes', bench_assembly.labels(), TILING)
    for command in (
        'partitions --input_volume sample.h5:labels --output_volume partitions.h5:af '
        '--lom_radius 8,8,6 --thresholds 0.1,0.3,0.5,0.7,0.9 --min_size 100',
        'coordinates --partition_volumes s:partitions.h5:af --coordinate_output coordinates '
        '--margin 12,12,9 --seed 3',
    ):
        run(measure.ROOT, f'-m ffn {command}', folder)


def run(checkout: Path, command: str, folder: Path) -> float:
    """Runs a command of a checkout in a folder.

    Returns:
      Its processor time, seconds.

    Raises:
      SystemExit: it failed.
    """
    script, *arguments = shlex.split(command)
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = subprocess.run(
        [sys.executable, checkout / script if script.endswith('.py') else script, *arguments],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(checkout), 'TF_CPP_MIN_LOG_LEVEL': '3'},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise SystemExit(f'error: {command} failed in {checkout}:\n{made.stderr}')
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def compare(stage: str, before: Path, pairs: int, folder: Path) -> str:
    """Runs a stage of both checkouts by turns; returns its row."""
    made, command = STAGES[stage]
    checkouts = (before, measure.ROOT)
    times: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
    with progress(total=2 * (pairs + 1), desc=stage, unit='run') as bar:
        for pair in range(-1, pairs):
            for checkout in checkouts if pair % 2 else checkouts[::-1]:
                shutil.rmtree(folder / made, ignore_errors=True)
                seconds = run(checkout, command, folder)
                bar.update()
                if pair >= 0:  # The first pair fills caches.
                    times[checkout].append(seconds)
    earlier, now = times.values()
    ratios = [new / old for new, old in zip(now, earlier, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return (
        f'| {stage} | {statistics.median(earlier):.1f} s | {statistics.median(now):.1f} s '
        f'| {middle:.3f} | {low:.3f}–{high:.3f} |'
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('commit', help='the earlier one')
    parser.add_argument('--pairs', type=int, default=9, help='runs of each, at least 2')
    parser.add_argument('--stage', action='append', choices=STAGES, help='only this; repeatable')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, before = Path(temporary, 'data'), Path(temporary, 'before')
        folder.mkdir()
        git = ('git', '-C', str(measure.ROOT), 'archive', args.commit)
        archive = subprocess.run(git, check=True, stdout=subprocess.PIPE).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(before, filter='data')
        measure.check_checkout(parser, before)
        prepare(folder)
        # The earlier code cannot be asked to read what this one writes.
        run(before, STAGES['train'][1], folder)
        (folder / 'model').rename(folder / 'trained')
        print(f'| | {args.commit} | now | ratio | quartiles |\n|---|---|---|---|---|')
        for stage in args.stage or STAGES:
            print(compare(stage, before, args.pairs, folder), flush=True)


if __name__ == '__main__':
    measure.run_bench(main)
