"""Compares a segmentation of the whole of training_sample2 with the published one and the truth.

    python run_inference.py --inference_request=configs/inference_training_sample2.pbtxt \
      --bounding_box='start { x:0 y:0 z:0 } size { x:250 y:250 z:250 }' --precision=bfloat16
    python -m benchmarks.whole_volume --results results/training_sample2 --data FOLDER

Adapted Rand errors against the ground truth are over the voxels that a segmentation labels.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import measure, real_segmentation
from ffn.evaluation.rand import rand_score
from ffn.inference import storage
from ffn.utils.npz import read_npz


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.add_argument('--results', type=Path, required=True, help='segmentation_output_dir')
    args = parser.parse_args()
    ours = real_segmentation.stored(args.results, (0, 0, 0))
    published = real_segmentation.published(args.data)
    truth = measure.sample_labels(args.data)
    path = storage.subvolume_path(args.results, (0, 0, 0), 'npz')
    counters = json.loads(read_npz(path, ['counters'], [])['counters'].item())
    steps = counters['predict-calls']
    print(f'objects                          {len(set(ours.ravel().tolist()) - {0}):8d}')
    print(f'network steps                    {steps:8d}')
    print(f'time in the network              {counters["predict-time-ms"] / 1e3:8.0f} s')
    print(f'around it                        {counters["inference-not-predict-ms"] / 1e3:8.1f} s')
    print(f'filled                           {(ours > 0).mean():8.1%}   (published 88.7%)')
    print(f'error against the published      {rand_score(published, ours).error:8.4f}')
    print(f'error against ground truth       {real_segmentation.truth_error(truth, ours):8.4f}')
    print(
        f'the published one against it     {real_segmentation.truth_error(truth, published):8.4f}'
    )


if __name__ == '__main__':
    measure.run_bench(main)
