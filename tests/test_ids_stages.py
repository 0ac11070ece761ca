"""What becomes of a volume does not depend on what its objects are called, nor on where it lies.

Every stage that reads labels gets one volume whose objects have ids of all types, byte orders and ranges; all
must give what they give with ids 1, 2, 3, under the names of the ids.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.agglomeration.candidates import CandidateSearch, find_candidates
from ffn.agglomeration.consensus import split_consensus
from ffn.agglomeration.decision_points import find_decision_points
from ffn.agglomeration.joined_volume import write_joined
from ffn.agglomeration.merges import join_ids
from ffn.assembly.assembly import assemble
from ffn.assembly.config import Assembly
from ffn.assembly.matching import Matching
from ffn.assembly.tiling import Tiling
from ffn.cli import consensus, import_labels
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.sources import open_segmentation, open_truth
from ffn.export.neuroglancer import export
from ffn.inference import storage
from ffn.planning.measure import measure
from ffn.training.input.patches import PatchReader
from ffn.training.sampling.partition_config import PartitionConfig
from ffn.training.sampling.partitions import compute_partitions
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.visualization.augmentations import find_outlines
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.volume import Volume, VolumeSource, open_volume
from tests.ids import CASES, MANY, Stored, same_objects

SHAPE = (4, 7, 12)
BOX = Box.from_zyx((-2, -3, -20), SHAPE)
stored = st.sampled_from(CASES)
seeds = st.integers(0, 99)


def blocks(seed: int) -> np.ndarray:
    """Objects 0 … MANY in boxes of 1 by 2 by 3 voxels, all of which occur."""
    rng = np.random.default_rng(seed)
    objects = rng.integers(0, MANY + 1, (4, 4, 4))
    objects.flat[: MANY + 1] = np.arange(MANY + 1)
    return np.kron(objects, np.ones((1, 2, 3), int))[: SHAPE[0], : SHAPE[1], : SHAPE[2]]


def write_hdf5(folder, **datasets: np.ndarray) -> str:
    with h5py.File(folder / 'v.h5', 'w') as file:
        for name, data in datasets.items():
            file[name] = data
    return f'{folder}/v.h5'


def save(folder, corner_zyx, labels) -> None:
    """Writes a result of inference, as another program may: labels as they are."""
    storage.save_npz(storage.subvolume_path(folder, corner_zyx, 'npz'), segmentation=labels)


@given(stored, stored, seeds)
@settings(max_examples=60, deadline=None)
def test_split_consensus(a: Stored, b: Stored, seed):
    first, second = blocks(seed), blocks(seed + 1)[:, :, ::-1]
    found = split_consensus(*(Volume('v', s.of(o), {}).read(Box.of_shape(SHAPE))
                              for s, o in ((a, first), (b, second)))).labels  # fmt: skip
    same_objects(found, np.where(first, first * (MANY + 1) + second, 0))
    assert set(a.ids) <= set(found.ravel().tolist())
    assert found.max() < 2**64 - 1


@given(stored, stored, seeds)
@settings(max_examples=15, deadline=None)
def test_consensus_of_results(tmp_path_factory, a: Stored, b: Stored, seed):
    folder = tmp_path_factory.mktemp('consensus')
    first, second = blocks(seed), blocks(seed + 1)[:, :, ::-1]
    save(folder / 'a', BOX.start.zyx, a.of(first))
    save(folder / 'b', BOX.start.zyx, b.of(second))
    request = (
        f'segmentation1 {{ directory: "{folder}/a" }} segmentation2 {{ directory: "{folder}/b" }}'
        f' segmentation_output_dir: "{folder}/out" type: CONSENSUS_SPLIT'
    )
    consensus.main(['--consensus_request', request, '--workers', '0', '--quiet'])
    volume = open_segmentation(f'{folder}/out')
    assert volume.box == BOX
    same_objects(volume.read(BOX), np.where(first, first * (MANY + 1) + second, 0))


@given(stored, stored)
@settings(max_examples=15, deadline=None)
def test_assemble(tmp_path_factory, a: Stored, b: Stored):
    """Results that share voxels along x."""
    folder = tmp_path_factory.mktemp('assemble')
    objects = np.repeat(np.array([0, 1, 2, 3, 4, 5, 6])[:, np.newaxis], SHAPE[2], axis=1)
    objects = np.broadcast_to(objects, SHAPE)
    tiling = Tiling(BOX, Xyz(8, 7, 4), Xyz(4, 0, 0))
    assert len(tiling) > 1
    for place in tiling.places():
        box = tiling.subvolume(place)
        save(
            folder / 'r',
            box.start.zyx,
            (a, b)[place.x % 2].of(objects)[box.relative_to(BOX.start).slices_zyx],
        )
    output = OutputSpec(f'precomputed://{folder}/out', BOX, Xyz(16, 16, 16), (8.0, 8.0, 8.0))
    assembly = Assembly(folder / 'r', tiling, (), Matching(min_voxels=1), output, folder / 'ids')
    assert assemble(assembly, InProcess(), quiet=True)['voxels'] == np.count_nonzero(objects)
    with open_volume(output.spec) as volume:
        same_objects(volume.read(BOX), objects)


@pytest.mark.parametrize('stored', CASES)
def test_decision_points(stored: Stored):
    objects = blocks(3)
    expected = find_decision_points(objects)
    assert len(expected) > 9
    volume = Volume('v', stored.of(objects), {})
    found = find_decision_points(volume.read(volume.box))
    assert found == {(stored.ids[a], stored.ids[b]): p for (a, b), p in expected.items()}


@given(stored, seeds)
@settings(max_examples=15, deadline=None)
def test_agglomerate(tmp_path_factory, stored: Stored, seed):
    """Candidates are found and written by id, and what is joined gets the lowest id."""
    folder = tmp_path_factory.mktemp('agglomerate')
    objects = blocks(seed)
    source = VolumeSource(f'{write_hdf5(folder, v=stored.of(objects))}:v')
    box = Box.of_shape(SHAPE)
    search = CandidateSearch(source, box, (1.0, 1.0, 1.0), 2.0, Xyz(8, 8, 8))
    pairs = [(c.id_a, c.id_b) for c in find_candidates(search, folder / 'c', InProcess(), True)]
    assert {i for pair in pairs for i in pair} == set(stored.ids[1:])
    equivalences = join_ids([(stored.ids[5], stored.ids[2]), (stored.ids[2], stored.ids[6])])
    output = OutputSpec(f'{folder}/out.h5:v', box, Xyz(8, 8, 8), (1.0, 1.0, 1.0))
    write_joined(source, equivalences, output, folder, InProcess(), quiet=True)
    joined = np.where(np.isin(objects, [5, 6]), 2, objects)
    with open_volume(output.spec) as volume:
        np.testing.assert_array_equal(volume.read(box), np.array(stored.ids, np.uint64)[joined])


@given(stored, seeds)
@settings(max_examples=12, deadline=None)
def test_export(tmp_path_factory, stored: Stored, seed):
    folder = tmp_path_factory.mktemp('export')
    objects = blocks(seed)
    volumes = {'labels': f'{write_hdf5(folder, v=stored.of(objects))}:v'}
    export(folder / 'view', volumes, (8, 8, 30), InProcess(), quiet=True)
    with open_volume(f'precomputed://{folder}/view/labels') as volume:
        found = volume.read(volume.box)
    np.testing.assert_array_equal(found, np.array(stored.ids, np.uint64)[objects])
    properties = json.loads((folder / 'view/labels/segment_properties/info').read_text())['inline']
    sizes = dict(zip(properties['ids'], properties['properties'][0]['values'], strict=True))
    counts = np.bincount(objects.ravel()).tolist()
    assert sizes == {str(stored.ids[i]): counts[i] for i in range(1, MANY + 1)}


@given(stored, stored, seeds)
@settings(max_examples=25, deadline=None)
def test_import_labels(tmp_path_factory, stack: Stored, bodies: Stored, seed):
    """Plain labels, and supervoxels with the bodies that they belong to; also as ground truth."""
    folder = tmp_path_factory.mktemp('import')
    objects = blocks(seed)
    wide = stack.dtype[0] + bodies.dtype[1] + '8'
    fits = max(stack.ids) <= np.iinfo(wide).max
    table = np.array([stack.ids, bodies.ids] if fits else [bodies.ids, bodies.ids], wide).T
    source = write_hdf5(folder, stack=stack.of(objects) if fits else bodies.of(objects), t=table)
    truth = open_truth(f'{source}:stack', f'{source}:t')
    expected = np.array(bodies.ids, np.uint64)[objects]
    np.testing.assert_array_equal(truth.read(truth.box), expected)
    truth.close()
    with h5py.File(source, 'a') as file:
        file.move('t', 'transforms')
    for dataset, values in ((None, bodies.ids), ('stack', stack.ids if fits else bodies.ids)):
        more = () if dataset is None else ('--dataset', dataset)
        output = f'{folder}/out.h5:{dataset or "bodies"}'
        import_labels.main(['--input', source, '--output', output, '--quiet', *more])
        with open_volume(output) as volume:
            assert volume.dtype == np.min_scalar_type(max(values))
            found = volume.read(volume.box)
        np.testing.assert_array_equal(found, np.array(values, np.uint64)[objects])


@pytest.mark.parametrize('stored', CASES)
def test_partitions(stored: Stored):
    objects, box = blocks(5), Box.from_zyx((-2, -3, -20), SHAPE).shrink(Xyz(2, 1, 1))
    whitelist = [2, 3, 5]
    expected, found = (
        list(
            compute_partitions(
                Volume('v', volume, {}, BOX.start.zyx),
                PartitionConfig((0.15, 0.25), Xyz(2, 1, 1), tuple(ids), min_size=2),
                quiet=True,
            )
        )
        for volume, ids in (
            (objects, whitelist),
            (stored.of(objects), [stored.ids[i] for i in whitelist]),
        )
    )
    ((area, partitions),) = found
    assert area == box
    np.testing.assert_array_equal(partitions, expected[0][1])
    assert set(partitions.ravel().tolist()) == {0, 1, 2, 3}


@given(stored, seeds)
@settings(max_examples=12, deadline=None)
def test_results_as_they_are_loaded(tmp_path_factory, stored: Stored, seed):
    """By consensus and by people's scripts, and cut into components; beside them their origins."""
    folder = tmp_path_factory.mktemp('loaded')
    objects = blocks(seed)
    corner = BOX.start.zyx
    origins = {i: storage.OriginInfo((1, 2, n), 3, 0.5) for n, i in enumerate(stored.ids) if n}
    storage.save_npz(
        storage.subvolume_path(folder, corner, 'npz'),
        segmentation=stored.of(objects),
        origins=np.array(origins, object),
    )
    assert storage.subvolumes(folder) == {
        Zyx(*corner): storage.subvolume_path(folder, corner, 'npz')
    }
    found, kept = storage.load_segmentation(folder, corner, split_cc=False)
    np.testing.assert_array_equal(found, np.array(stored.ids, np.uint64)[objects])
    assert kept == origins
    sizes = np.bincount(objects.ravel())
    large = [stored.ids[i] for i in range(1, MANY + 1) if sizes[i] >= np.median(sizes)]
    assert set(
        storage.load_segmentation(folder, corner, split_cc=False, min_size=int(np.median(sizes)))[1]
    ) == set(large)
    parts, kept = storage.load_segmentation(folder, corner)
    assert len(kept) == parts.max()
    for part, origin in kept.items():
        assert set(objects[parts == part].tolist()) == {origin.start_zyx[2]}


@pytest.mark.parametrize('stored', CASES)
def test_planning(tmp_path, stored: Stored):
    objects = blocks(11)
    file = write_hdf5(tmp_path, raw=np.zeros(SHAPE, np.uint8), plain=objects, v=stored.of(objects))
    plain, found = (measure(f'{file}:raw', f'{file}:{name}', quiet=True) for name in ('plain', 'v'))
    np.testing.assert_array_equal(found.sizes, plain.sizes)
    assert found.largest_id == stored.ids[plain.largest_id]
    assert found.components == {stored.ids[i]: n for i, n in plain.components.items()}
    assert (found.unlabelled, found.touching) == (plain.unlabelled, plain.touching)


@pytest.mark.parametrize('stored', CASES)
def test_training_patches(stored: Stored):
    """What training compares with the label in the middle of a patch."""
    objects = blocks(7)
    reader = PatchReader(Volume('v', stored.of(objects), {}, BOX.start.zyx))
    found, inside = reader.read_around(Box.from_zyx((-2, -2, -19), (2, 3, 4)), Zyx(1, 1, 1))
    np.testing.assert_array_equal(
        found, stored.of(objects)[[0, 0, 1, 2], :5, :6].astype(found.dtype)
    )
    assert not inside[0].any()
    assert inside[1:].all()
    assert found.dtype.isnative
    np.testing.assert_array_equal(find_outlines(found[1]), find_outlines(objects[0, :5, :6]))
