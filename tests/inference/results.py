"""What decides whether two runs gave the same result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffn.inference import storage
from ffn.utils.npz import read_npz

COUNTS = ('predict-calls', 'seeds', 'voxels-segmented')


def whole_result(directory: Path, corner_zyx: Sequence[int] = (0, 0, 0)) -> dict:
    """Everything in the files of a subvolume that does not depend on the time."""
    path = storage.subvolume_path(directory, corner_zyx, 'npz')
    members = ['segmentation', 'origins', 'overlaps', 'counters']
    data = read_npz(path, members, [storage.OriginInfo])
    counters = json.loads(data['counters'].item())
    probability = storage.subvolume_path(directory, corner_zyx, 'prob')
    return {
        'segmentation': data['segmentation'],
        'qprob': read_npz(probability, ['qprob'], [])['qprob'],
        'origins': {i: (o.start_zyx, o.iters) for i, o in data['origins'].items()},
        'overlaps': {i: np.asarray(o).tolist() for i, o in data['overlaps'].items()},
        'counts': {name: counters[name] for name in COUNTS},
    }


def check_same(found: dict, expected: dict) -> None:
    """Checks that two results are equal, voxel for voxel."""
    for name in ('segmentation', 'qprob'):
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for name in ('origins', 'overlaps', 'counts'):
        assert found[name] == expected[name], name
    assert found['origins']
