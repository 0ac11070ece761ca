"""`ffn evaluate` and the voxel sizes that flags and volumes state."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.cli.evaluate import main
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.outputs import OutputSpec
from tests.evaluation.test_evaluate import SHAPE, bars, run, swc


@pytest.fixture
def folder(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['truth'] = bars()
    return tmp_path


def precomputed(folder, name, voxel_size):
    """The truth as a volume that says what size its voxels have."""
    box = Box.of_shape(SHAPE)
    output = OutputSpec(f'precomputed://{folder}/{name}', box, Xyz(8, 8, 8), voxel_size)
    output.create('x')
    output.open_parallel().write(box, bars().astype(np.uint64))
    output.finish('x')
    return output.spec


def score_skeleton(folder, truth, *more):
    """The line of the first object, in voxels of 8, 9 and 30 nm."""
    line = swc(folder, 'a.swc', [(8 * x + 4, 13, 65) for x in range(19)])
    arguments = ['--segmentation', f'{folder}/v.h5:truth', '--groundtruth', truth, '--quiet']
    return main([*arguments, '--skeletons', str(line), *more]).erl


def test_the_voxel_size_of_the_volumes(folder, caplog):
    truth = precomputed(folder, 'truth', (8.0, 9.0, 30.0))
    erl = score_skeleton(folder, truth)
    assert (erl.voxel_size_xyz, erl.erl) == ((8, 9, 30), pytest.approx(18 * 8))
    assert not caplog.messages
    erl = score_skeleton(folder, truth, '--voxel_size', '8,9,31')
    assert erl.voxel_size_xyz == (8, 9, 31)
    assert 'x,y,z 8,9,31 nm (--voxel_size), but x,y,z 8,9,30 nm (precomputed://' in caplog.text


def test_volumes_whose_voxel_sizes_differ_are_told(folder, caplog):
    truth = precomputed(folder, 'truth', (8.0, 9.0, 30.0))
    found = precomputed(folder, 'found', (4.0, 4.0, 40.0))
    main(['--segmentation', found, '--groundtruth', truth, '--quiet'])
    assert 'contradict each other: x,y,z 8,9,30 nm (' in caplog.text
    assert 'but x,y,z 4,4,40 nm (' in caplog.text


def test_skeletons_without_a_voxel_size_from_anywhere(folder, caplog):
    line = swc(folder, 'a.swc', [(x, 1, 2) for x in range(19)])
    assert run(folder, 'v.h5:truth', '--skeletons', line, '--skeleton_unit', 'voxels').erl.erl == 18
    assert not caplog.messages
    assert run(folder, 'v.h5:truth', '--skeletons', line).erl.erl == 18
    assert 'no voxel size is known: positions and lengths of the skeletons count' in caplog.text
