"""Offsets beyond 2^31, arrays of more than 2^31 voxels, a million objects: on small or sparse stand-ins."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore as ts

from ffn.assembly.tiling import Tiling
from ffn.cli import assemble, coordinates, evaluate, export, partitions
from ffn.inference import storage
from ffn.inference.storage import OriginInfo
from ffn.training.input.examples import ExampleSource
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import open_volume
from tests.assembly.cut import blobs, check_same_objects, local
from tests.training import sample
from tests.volumes.test_tensorstores import write_precomputed

SHAPE = (20, 40, 50)
FAR = [2**31 - 11, 2**40 + 3]


def box_text(box: Box) -> str:
    """A BoundingBox as flags take it."""
    return ' '.join(
        f'{name} {{ x: {n[0]} y: {n[1]} z: {n[2]} }}'
        for name, n in (('start', box.start), ('size', box.size))
    )


@pytest.fixture(params=FAR)
def place(request) -> Xyz:
    """Where a volume begins; another number along each axis."""
    return Xyz(request.param, request.param + 17, request.param - 9)


def test_training_far_from_the_origin(tmp_path, place):
    """From labels to examples, each stage by its command."""
    image, labels = sample.image(), sample.labels().astype(np.uint64)
    for name, array in (('raw', image), ('labels', labels)):
        write_precomputed(tmp_path / name, array, place)
    volumes = {name: f'precomputed://{tmp_path}/{name}' for name in ('raw', 'labels')}
    at = ['--thresholds=0.2,0.6', '--lom_radius=3,2,1', '--min_size=1', '--quiet']
    partitions.main(
        [f'--input_volume={volumes["labels"]}', f'--output_volume={tmp_path}/p.h5:af', *at]
    )
    coordinates.main(
        [
            f'--partition_volumes=v:{tmp_path}/p.h5:af',
            f'--coordinate_output={tmp_path}/c',
            '--margin=3,4,5',
            '--seed=1',
            '--quiet',
        ]
    )
    config = sample.data_config(
        tmp_path,
        train_coords=f'{tmp_path}/c',
        data_volumes={'v': volumes['raw']},
        label_volumes={'v': volumes['labels']},
        permutable_axes=(),
        reflectable_axes=(),
    )
    with ExampleSource(config, Zyx(5, 7, 9), 0, 4) as examples:
        for example in itertools.islice(examples, 20):
            z, y, x = (c - p for c, p in zip(example.center[::-1], place.zyx, strict=True))
            assert 2 < z < image.shape[0] - 3
            cut = image[z - 2 : z + 3, y - 3 : y + 4, x - 4 : x + 5]
            np.testing.assert_allclose(example.image, (cut - 140.0) / 50, atol=1e-5)
        assert examples.skipped == 0


def test_a_whole_volume_far_from_the_origin(tmp_path, place):
    """Subvolumes, their assembly, its export, and the score of both."""
    labels = blobs(SHAPE, 9, seed=3)
    write_precomputed(tmp_path / 'truth', labels.astype(np.uint64), place)
    tiling = Tiling(Box.from_zyx(place.zyx, SHAPE), Xyz(20, 24, 20), Xyz(8, 8, 8))
    random = np.random.default_rng(0)
    for number in tiling.places():
        box = tiling.subvolume(number)
        part = local(labels[box.relative_to(place).slices_zyx], random)
        storage.save_result(tmp_path / 'results', box.start.zyx, part, {}, b'', {}, {})
    whole = f'precomputed://{tmp_path}/whole'
    assemble.main(
        [
            *('--segmentation', f'{tmp_path}/results', '--output', whole, '--quiet'),
            *('--bounding_box', box_text(tiling.box), '--min_overlap_voxels', '1'),
            *('--subvolume_size', '20,24,20', '--overlap', '8,8,8', '--voxel_size', '8,8,33'),
        ]
    )
    with open_volume(whole) as volume:
        assert volume.box.contains(tiling.box)
        check_same_objects(volume.read(tiling.box), labels)
    export.main(['--output', f'{tmp_path}/view', '--labels', whole, '--scales', '2', '--quiet'])
    truth = ['--groundtruth', f'precomputed://{tmp_path}/truth', '--quiet']
    for spec in (whole, f'precomputed://{tmp_path}/view/labels'):
        score = evaluate.main(['--segmentation', spec, *truth])
        assert score.scores['either'].rand_error == 0


LARGE = (2**10, 2**11, 2**11)
CORNER = Box(Xyz(2**11 - 9, 2**11 - 7, 2**10 - 5), Xyz(9, 7, 5))


def write_corner(spec: str, labels: np.ndarray) -> None:
    """Writes labels into the last voxels of a volume of 2^32, and nothing else."""
    path, _, dataset = spec.rpartition(':')
    if not spec.startswith('zarr3'):
        with h5py.File(path, 'a') as file:
            array = file.create_dataset(dataset, LARGE, np.uint32, chunks=(64, 64, 64))
            array[CORNER.slices_zyx] = labels
        return
    metadata = {
        'shape': LARGE,
        'data_type': 'uint32',
        'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [64, 64, 64]}},
    }
    place = {'driver': 'file', 'path': spec.removeprefix('zarr3://')}
    store = ts.open({'driver': 'zarr3', 'kvstore': place, 'metadata': metadata}, create=True)
    store.result()[CORNER.slices_zyx] = labels


@pytest.mark.parametrize('form', ['{}/v.h5:v', 'zarr3://{}/v'])
def test_more_voxels_than_2_to_the_31(tmp_path, form):
    labels = np.arange(1, 5 * 7 * 9 + 1, dtype=np.uint32).reshape(5, 7, 9)
    spec = form.format(tmp_path)
    write_corner(spec, labels)
    with open_volume(spec) as volume:
        assert np.prod(volume.shape_zyx, dtype=object) == 2**32
        np.testing.assert_array_equal(volume.read(CORNER), labels)
    arguments = ['--segmentation', spec, '--groundtruth', spec, '--boundary', '0', '--quiet']
    score = evaluate.main([*arguments, '--bounding_box', box_text(CORNER)])
    assert score.scores['either'].rand_error == 0


def test_a_million_objects_in_one_subvolume(tmp_path: Path):
    shape = (100, 100, 100)
    labels = np.arange(1, 10**6 + 1).reshape(shape)
    ids = np.arange(50, 10**6 + 1, 50)
    places = np.stack(np.unravel_index(ids - 1, shape), axis=1).tolist()
    starts = zip(ids.tolist(), places, strict=True)
    origins = {i: OriginInfo(tuple(at), 1, 0.0) for i, at in starts}
    storage.save_result(tmp_path, (0, 0, 0), labels, origins, b'', {}, {})
    found, known = storage.load_segmentation(tmp_path, (0, 0, 0), split_cc=False)
    np.testing.assert_array_equal(found, labels)
    assert known[10**6] == origins[10**6]
    assert len(known) == len(ids)
