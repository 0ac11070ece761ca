"""The loop from a network to a better one, on real data: segment, proofread, train on what is done, segment again.

    python -m benchmarks.bootstrap_real --data FOLDER

The network of models/fib25_small has been trained on the labels of training_sample2 with z < 150. It segments half of the
rest, the voxels with y < 125, and a simulated proofreader corrects that: `--decisions` error cases are judged, and objects are
marked as done which are one body for 90 % and hold 90 % of its labelled voxels, boundaries left out. `ffn apply-edits` makes labels and
weights of them, and `ffn train` goes on from the network with the old labels and these. Both networks segment the other half,
y >= 125, which nothing of this has seen. Two trainings of the same length tell how much of the difference is due to proofreading:
on the old labels alone, and on these and the ground truth of what was proofread, which is what dense labels would give.

Rand and VOI (bits) are over the voxels labelled in truth or segmentation: what is left empty counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure, real_segmentation, simulated_proofreader
from benchmarks.proofreading_real import bodies
from ffn.evaluation.held_out_box import HeldOutBox
from ffn.evaluation.held_out_score import HEADER
from ffn.inference.request import parse_request
from ffn.proofreading.editing.journal import Base, open_journal
from ffn.proofreading.editing.merge_table import MergeTable
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.utils.geometry import Box
from ffn.volumes.volume import open_volume

NETWORK = 'models/fib25_small.weights.h5'
REQUEST = """
image {{ hdf5: "{folder}/{part}.h5:raw" }}
model_checkpoint_path: "{network}"
seed_policy: "PolicyPeaks"
inference_options {{
  move_threshold: 0.9 segment_threshold: 0.3 min_segment_size: 500 min_boundary_dist {{ x: 1 y: 1 z: 1 }}
}}
"""
PARTS = {'old': np.s_[:150, :], 'near': np.s_[150:, :125], 'far': np.s_[150:, 125:]}
# Radius of an example, a field of view of 25 that moves by 8 twice; and half of the field of view.
EXAMPLE, AROUND = '28,28,28', '12,12,12'
DONE, MIN_VOXELS = 0.9, 2000


def ffn(*arguments: str) -> None:
    """Runs a command, shown."""
    print('ffn', *arguments, flush=True)
    command = [sys.executable, '-m', 'ffn', *arguments]
    subprocess.run(command, cwd=measure.ROOT, check=True, stdout=subprocess.DEVNULL)


def write_parts(data: Path, folder: Path) -> None:
    """Writes image and bodies of three parts as old.h5, near.h5 and far.h5."""
    real_segmentation.write_image(data, folder / 'all.h5')
    truth = bodies(data)
    with h5py.File(folder / 'all.h5', 'r') as whole:
        for part, inside in PARTS.items():
            with h5py.File(folder / f'{part}.h5', 'w') as file:
                file['raw'], file['truth'] = whole['raw'][inside], truth[inside]


def held_out(folder: Path, part: str) -> HeldOutBox:
    """One of the halves, to be segmented."""
    with open_volume(f'{folder}/{part}.h5:raw') as image:
        box: Box = image.box
    request = parse_request(REQUEST.format(folder=folder, part=part, network=NETWORK))
    return HeldOutBox(request, f'{folder}/{part}.h5:truth', box, max_steps=0)


def proofread(folder: Path, decisions: int) -> None:
    """Judges error cases of near.h5:labels and marks objects as done, in edits.jsonl."""
    labels, truth = f'{folder}/near.h5:labels', f'{folder}/near.h5:truth'
    queue = simulated_proofreader.error_cases(truth, labels)
    with (
        open_volume(truth) as bodies_volume,
        open_volume(labels) as volume,
        open_journal(folder / 'edits.jsonl', Base(labels)) as journal,
    ):
        expected, found = bodies_volume.read(volume.box), volume.read(volume.box)
        session = Proofreading(volume, MergeTable(), journal, queue)
        body = simulated_proofreader.bodies_of(found, expected)
        judged = wrong = 0
        while judged < decisions and session.item is not None:
            wrong += simulated_proofreader.judge(session, body, expected, found)
            judged += 1
        done = simulated_proofreader.mark_done(session, expected, DONE, MIN_VOXELS)
        print(f'{judged} decisions, {wrong} wrong; {done} objects are done', flush=True)


def partitions(folder: Path, labels: str) -> str:
    """Makes the partitions of labels; returns their volume."""
    made = f'{folder}/{Path(labels).name.replace(":", "-")}.h5:af'
    ffn(
        *('partitions', f'--input_volume={labels}', f'--output_volume={made}'),
        *(f'--lom_radius={EXAMPLE}', f'--min_size={MIN_VOXELS}', measure.thresholds_flag()),
    )
    return made


def train_on(folder: Path, name: str, old: str, labels: str, steps: int, *flags: str) -> str:
    """Trains the network on the old labels and labels of near.h5, if any; returns the folder of the training."""
    images, truth = f'old:{folder}/old.h5:raw', f'old:{folder}/old.h5:truth'
    if labels:
        old += f',new:{partitions(folder, labels)}'
        images, truth = f'{images},new:{folder}/near.h5:raw', f'{truth},new:{labels}'
    coordinates, trained = f'{folder}/{name}.tfrecord.gz', f'{folder}/{name}'
    ffn(
        *('coordinates', f'--partition_volumes={old}', f'--coordinate_output={coordinates}'),
        *(f'--margin={EXAMPLE}', '--seed=1', '--max_coordinates=200000'),
    )
    ffn(
        *('train', '--flagfile=configs/train_fib25_small.flags', f'--train_dir={trained}'),
        *(f'--train_coords={coordinates}', f'--data_volumes={images}', f'--label_volumes={truth}'),
        *(f'--init_checkpoint={NETWORK}', '--precision=bfloat16', f'--max_steps={steps}'),
        *('--learning_rate=0.0002', '--learning_rate_schedule=cosine', f'--decay_steps={steps}'),
        *flags,
    )
    return trained


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = measure.parser(__doc__)
    parser.add_argument('--decisions', type=int, default=100, help='of the simulated proofreader')
    parser.add_argument('--steps', type=int, default=300, help='of each training')
    parser.add_argument('--folder', type=Path, help='keeps everything there; default: a temporary')
    return parser.parse_args()


def run(args: argparse.Namespace, folder: Path) -> None:
    """Prints the table."""
    began = time.monotonic()
    write_parts(args.data, folder)
    with held_out(folder, 'near') as near:
        segmented = near.segment(NETWORK).labels
    with h5py.File(folder / 'near.h5', 'a') as file:
        file['labels'] = segmented.astype(np.uint64)
    proofread(folder, args.decisions)
    labels = f'{folder}/near.h5:labels'
    done, weights = f'{folder}/done.h5:labels', f'{folder}/done.h5:weights'
    ffn(
        *('apply-edits', f'--labels={labels}', f'--edits={folder}/edits.jsonl'),
        *(f'--done_labels={done}', f'--done_weights={weights}', '--voxel_size=10,10,10'),
        f'--around_done={AROUND}',
    )
    old = f'old:{partitions(folder, f"{folder}/old.h5:truth")}'
    weighted = f'--loss_weight_volumes=new:{weights}'
    networks = {
        'as it was': NETWORK,
        'trained on: old labels': train_on(folder, 'old', old, '', args.steps),
        'and objects that are done': train_on(folder, 'done', old, done, args.steps, weighted),
        'and the ground truth': train_on(
            folder, 'truth', old, f'{folder}/near.h5:truth', args.steps
        ),
    }
    print(f'{HEADER}  y >= 125, z >= 150')
    with held_out(folder, 'far') as far:
        for name, network in networks.items():
            print(f'{far.evaluate(network).row()}  {name}', flush=True)
    print(f'{(time.monotonic() - began) / 60:.0f} minutes')


def main() -> None:
    """Runs it in a folder."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    args = parse()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run(args, folder.absolute())


if __name__ == '__main__':
    measure.run_bench(main)
