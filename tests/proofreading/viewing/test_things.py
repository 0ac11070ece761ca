"""From what a user names to layers, and what is said about those that do not fit."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tensorstore as ts
from absl import logging as absl_logging
from google.protobuf import json_format

from ffn.agglomeration.candidates import Candidate, write_candidates
from ffn.agglomeration.merges import MergeDecision, write_decisions
from ffn.distributed.pool import PoolConfig
from ffn.export.neuroglancer import export
from ffn.export.skeletons import SkeletonConfig
from ffn.inference import inference_pb2, storage
from ffn.inference.storage import OriginInfo
from ffn.proofreading.viewing.agreement import agree
from ffn.proofreading.viewing.layers import Layer
from ffn.proofreading.viewing.samples import find_contrast, find_place
from ffn.proofreading.viewing.things import open_layer, open_points, open_thing
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes import provenance
from ffn.volumes.volume import Volume

SHAPE = (20, 30, 40)  # z, y, x


@pytest.fixture
def volume(tmp_path):
    """Path of a file with raw and labels."""
    path = tmp_path / 'volume.h5'
    _, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    with h5py.File(path, 'w') as file:
        file['raw'] = (100 + x + y).astype(np.uint8)
        file['labels'] = (1 + x // 20).astype(np.int64)
        for dataset in file.values():
            dataset.attrs['resolution'] = (40.0, 4.0, 4.0)
    return path


@pytest.fixture
def said(monkeypatch):
    """What is logged as a warning."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = absl_logging.get_absl_logger()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def kinds(layers):
    return [(layer.name, layer.kind) for layer in layers]


def test_volumes_by_their_type(volume):
    (image,), (labels,) = open_thing(f'{volume}:raw'), open_thing(f'{volume}:labels')
    assert (image.name, image.kind) == ('raw', 'image')
    assert (labels.name, labels.kind) == ('labels', 'labels')
    assert image.voxel_size == (4, 4, 40)
    assert image.box == Box(Xyz(0, 0, 0), Xyz(40, 30, 20))
    low, high = image.contrast
    assert 100 <= low < 105
    assert 162 < high <= 169


def test_an_export(volume, tmp_path):
    with PoolConfig().open() as pool:
        volumes = {name: f'{volume}:{name}' for name in ('raw', 'labels')}
        export(
            tmp_path / 'view',
            {'image': volumes['raw'], 'labels': volumes['labels']},
            None,
            pool,
            quiet=True,
        )
    layers = open_thing(str(tmp_path / 'view'))
    assert kinds(layers) == [('image', 'image'), ('labels', 'labels')]
    assert layers[1].data == tmp_path / 'view' / 'labels'  # it has segment properties
    assert all(layer.voxel_size == (4, 4, 40) for layer in layers)
    (alone,) = open_thing(str(tmp_path / 'view' / 'labels'))
    assert (alone.kind, alone.data) == ('labels', tmp_path / 'view' / 'labels')


def test_the_largest_segments_of_an_export_with_shapes_are_chosen(volume, tmp_path):
    with h5py.File(volume, 'a') as file:
        file['labels'][:, 3:, 7:] = 9
    with PoolConfig().open() as pool:
        skeletons = SkeletonConfig(wanted=True)
        labels = {'labels': f'{volume}:labels'}
        export(tmp_path / 'view', labels, None, pool, quiet=True, skeletons=skeletons)
    (layer,) = open_thing(str(tmp_path / 'view'))
    assert list(layer.segments) == [9, 1, 2]
    state = json.loads((tmp_path / 'view' / 'state.json').read_text())
    assert state['layers'][0]['segments'] == ['9', '1', '2']
    path = tmp_path / 'view' / 'labels' / 'segment_properties' / 'info'
    path.write_text(path.read_text().replace('"9"', '"nine"'))
    with pytest.raises(UserError, match='does not list the ids'):
        open_thing(str(tmp_path / 'view'))


def write_results(folder, volume, corners=((0, 0, 0),), image=True):
    """Results of inference, 10×12×14 voxels z, y, x each, with ids 1 and 2."""
    request = inference_pb2.InferenceRequest()
    if image:
        request.image.hdf5 = f'{volume}:raw'
    request.voxel_size.x = request.voxel_size.y = 4
    request.voxel_size.z = 40
    labels = np.ones((10, 12, 14), np.uint8)
    labels[:, 6:] = 2
    for corner in corners:
        origins = {1: OriginInfo((5, 3, 7), 17, 0.5), 2: OriginInfo((5, 9, 7), 3, 0.5)}
        prob = np.full(labels.shape, 200, np.uint8)
        storage.save_result(
            folder, corner, labels, origins, request.SerializeToString(), {}, {}, prob
        )


def test_results(volume, tmp_path, said):
    write_results(tmp_path / 'results', volume, [(2, 4, 6)])
    layers = open_thing(str(tmp_path / 'results'))
    assert kinds(layers) == [
        ('image', 'image'),
        ('probabilities', 'probabilities'),
        ('labels', 'labels'),
        ('seeds', 'annotations'),
    ]
    image, probabilities, labels, seeds = layers
    assert labels.box == probabilities.box == Box(Xyz(6, 4, 2), Xyz(14, 12, 10))
    assert not probabilities.visible
    assert (probabilities.data.read(labels.box) == 200).all()
    assert labels.voxel_size == image.voxel_size == (4, 4, 40)
    np.testing.assert_array_equal(
        seeds.data.points, np.add([[7, 3, 5], [7, 9, 5]], [6.5, 4.5, 2.5])
    )
    assert seeds.data.relations == {'segments': [[1], [2]]}
    assert not said
    assert kinds(open_thing(str(tmp_path / 'results' / '6' / '4' / 'seg-6_4_2.npz'))) == kinds(
        layers
    )


def test_several_results(volume, tmp_path):
    write_results(tmp_path / 'results', volume, [(0, 0, 0), (0, 0, 10)])
    _, probabilities, labels, seeds = open_thing(str(tmp_path / 'results'))
    assert labels.box == Box(Xyz(0, 0, 0), Xyz(24, 12, 10))
    read = labels.data.read(labels.box)
    assert np.unique(read).tolist() == [1, 2, 2**32 + 1, 2**32 + 2]
    assert (read[:, :6, :14] == 1).all()
    assert seeds.data.relations['segments'] == [[1], [2], [2**32 + 1], [2**32 + 2]]
    inside = np.floor(seeds.data.points).astype(int)
    assert [read[z, y, x] for x, y, z in inside] == [1, 2, 2**32 + 1, 2**32 + 2]
    assert (probabilities.data.read(labels.box) == 200).all()


def test_results_whose_image_is_gone(tmp_path, said):
    write_results(tmp_path / 'results', tmp_path / 'none.h5')
    assert kinds(open_thing(str(tmp_path / 'results')))[1:] == [
        ('labels', 'labels'),
        ('seeds', 'annotations'),
    ]
    assert 'the image that these results were made from is not shown' in said[0]


def test_an_image_on_another_machine_is_not_opened(tmp_path, said):
    request = inference_pb2.InferenceRequest()
    request.image.hdf5 = 'zarr://https://example.org/raw'
    labels = np.ones((10, 12, 14), np.uint8)
    storage.save_result(tmp_path, (0, 0, 0), labels, {}, request.SerializeToString(), {}, {})
    assert kinds(open_thing(str(tmp_path))) == [('labels', 'labels')]
    assert '--allow_remote' in said[0]


def test_a_volume_of_several_scales(tmp_path):
    """The viewer reads precomputed volumes itself, others are read here at the scale that is needed."""
    group = tmp_path / 'scan.zarr'
    group.mkdir()
    datasets = []
    for scale, factor in enumerate((1, 2, 4)):
        data = np.full((8 // factor, 48 // factor, 64 // factor), scale + 1, np.uint8)
        ts.open(
            {'driver': 'zarr', 'kvstore': f'file://{group}/{scale}'},
            create=True,
            dtype=ts.uint8,
            shape=data.shape,
        ).result().write(data).result()
        scales = [{'type': 'scale', 'scale': [40.0 * factor, 4.0 * factor, 4.0 * factor]}]
        datasets.append({'path': str(scale), 'coordinateTransformations': scales})
    axes = [{'name': a, 'type': 'space', 'unit': 'nanometer'} for a in 'zyx']
    attributes = {'multiscales': [{'version': '0.4', 'axes': axes, 'datasets': datasets}]}
    (group / '.zattrs').write_text(json.dumps(attributes))
    (group / '.zgroup').write_text('{"zarr_format": 2}')
    (layer,) = open_thing(str(group))
    assert isinstance(layer.data, Volume)
    assert [v.shape_zyx for v in layer.coarser] == [(4, 24, 32), (2, 12, 16)]
    (one,) = open_thing(f'{group}@1')
    assert one.coarser == ()


def test_tables_scores_and_skeletons(tmp_path):
    (tmp_path / 'seeds.csv').write_text('x,y,z\n1,2,3\n')
    (tmp_path / 'scores.json').write_text('{"splits": []}')
    (tmp_path / 'neurons').mkdir()
    (tmp_path / 'neurons' / '17.swc').write_text('1 0 1 2 3 1 -1\n')
    assert kinds(open_thing(str(tmp_path / 'seeds.csv'))) == [('seeds', 'annotations')]
    assert kinds(open_thing(str(tmp_path / 'scores.json'))) == [('errors', 'annotations')]
    assert kinds(open_thing(str(tmp_path / 'neurons'))) == [('skeletons', 'skeletons')]


def test_what_is_nothing(tmp_path):
    with pytest.raises(UserError, match='none'):
        open_thing(str(tmp_path / 'none'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='holds no Zarr'):
        open_thing(str(tmp_path / 'empty'))
    path = tmp_path / 'f.h5'
    with h5py.File(path, 'w') as file:
        file['f'] = np.zeros((3, 4, 5), np.float32)
    with pytest.raises(UserError, match='labels must be integers'):
        open_layer(f'{path}:f', 'labels')


def test_order_and_names(volume):
    given = [
        open_points(write_points(volume.parent)),
        open_layer(f'{volume}:labels', 'labels', 'truth'),
        open_layer(f'{volume}:labels', 'labels'),
        open_layer(f'{volume}:labels', 'labels'),
        open_layer(f'{volume}:raw', 'image'),
    ]
    layers = agree(given, None)
    assert [layer.name for layer in layers] == ['raw', 'truth', 'labels', 'labels 2', 'points']
    assert [layer.visible for layer in layers] == [True, False, True, True, True]
    assert {layer.voxel_size for layer in layers} == {(4, 4, 40)}


def write_points(folder):
    (folder / 'points.csv').write_text('x,y,z\n1,2,3\n')
    return str(folder / 'points.csv')


def make(name='one', size=(4.0, 4.0, 40.0), start=(0, 0, 0), kind='image'):
    box = Box(Xyz(*start), Xyz(40, 30, 20))
    return Layer(name, kind, Volume(name, np.zeros((20, 30, 40), np.uint8), {}), size, box)


def test_doubts_are_told(said):
    agree([make(), make('two', kind='labels')], None)
    assert not said
    agree([make(), make('two', (8, 8, 40))], None)
    assert 'the voxels of one are x,y,z 4,4,40 nm, those of two 8,8,40 nm' in said.pop()
    first, second = agree([make(), make('two', None, kind='labels')], None)
    assert second.voxel_size == first.voxel_size
    assert 'no voxel size is stored with two; that of one is taken' in said.pop()
    (only,) = agree([make(size=None)], None)
    assert only.voxel_size == (1, 1, 1)
    assert 'cubes of 1 nm: give --voxel_size' in said.pop()
    agree([make(size=None)], None, 'set voxel_size')
    assert 'cubes of 1 nm: set voxel_size' in said.pop()
    agree([make(), make('two', start=(0, 30, 0))], None)
    assert 'they do not overlap' in said.pop()
    agree([make(size=None), make('two', (8, 8, 40))], (8, 8, 40))
    assert not said


def test_places_count_the_voxels_of_the_segmentation(volume, said):
    points = open_points(write_points(volume.parent))
    seeds = replace(points, name='seeds', voxel_size=(2.0, 2.0, 20.0))
    image, truth = make('image', (4, 4, 40)), make('truth', (16, 16, 40), kind='labels')
    labels = make('labels', (8, 8, 40), kind='labels')

    def size_of_places(*layers):
        said.clear()
        first, second = agree([*layers, points, seeds], None)[-2:]
        assert second.voxel_size == seeds.voxel_size
        return first.voxel_size

    assert size_of_places(image, truth, labels) == labels.voxel_size
    assert said[-1] == 'points: places are taken to count the voxels of labels'
    assert size_of_places(image, replace(labels, voxel_size=None)) == image.voxel_size
    assert size_of_places(image) == image.voxel_size
    assert size_of_places(replace(image, voxel_size=None), labels) == labels.voxel_size
    assert not any('places are' in line for line in said)
    assert {layer.voxel_size for layer in agree([image, labels, points], (1, 2, 3))} == {(1, 2, 3)}


def test_contrast():
    values = np.zeros((60, 200, 150), np.uint16)
    values[:, 20:180, 20:] = np.random.default_rng(0).normal(5000, 100, (60, 160, 130))
    low, high = find_contrast(Volume('it', values, {}))
    assert 4600 < low < 4800
    assert 5200 < high < 5400
    assert find_contrast(Volume('it', np.zeros((5, 6, 7), np.uint8), {})) is None
    nan = np.full((5, 6, 7), np.nan, np.float32)
    assert find_contrast(Volume('it', nan, {})) is None
    assert find_contrast(Volume('it', np.zeros((5, 6, 7), bool), {})) == (0, 1)


def test_a_place_that_is_not_empty():
    coarse = np.zeros((5, 20, 30), np.uint8)
    coarse[3, 15:, 20:] = 1
    whole = Box(Xyz(100, 200, 300), Xyz(300, 200, 50))
    place = find_place(Volume('it', coarse, {}), whole)
    assert place.z == 300 + 35
    assert 200 + 150 <= place.y < 400
    assert 100 + 200 <= place.x < 400
    assert find_place(Volume('it', np.zeros((5, 6, 7)), {}), whole) is None


def test_an_agglomeration(volume, tmp_path, said):
    folder = tmp_path / 'agglomerated'
    inputs = inference_pb2.InferenceRequest()
    inputs.image.hdf5, inputs.init_segmentation.hdf5 = f'{volume}:raw', f'{volume}:labels'
    provenance.claim(folder, {'inference': json_format.MessageToDict(inputs)})
    found = Candidate(1, 2, 0.5, Xyz(20, 15, 10))
    write_candidates(folder / 'candidates.csv', [found])
    layers = open_thing(str(folder))
    assert kinds(layers) == [
        ('image', 'image'),
        ('labels', 'labels'),
        ('candidates', 'annotations'),
    ]
    write_decisions(folder / 'merges.csv', [MergeDecision(found, None, accepted=True)])
    provenance.record_output(folder / 'joined_volume.json', f'{volume}:labels', 'stamp')
    assert kinds(open_thing(str(folder)))[2:] == [('joined', 'labels'), ('merges', 'annotations')]
    assert not said


def test_an_assembly(volume, tmp_path):
    results = tmp_path / 'results'
    write_results(results, volume, [(0, 0, 0), (0, 0, 10)])
    provenance.claim(results / 'assembly', {'output': f'{volume}:labels'})
    assert kinds(open_thing(str(results)))[2:] == [('labels', 'labels'), ('seeds', 'annotations')]
    (results / 'assembly' / 'statistics.json').write_text('{}')  # written last
    layers = open_thing(str(results))
    assert [(layer.name, layer.visible) for layer in layers] == [
        ('image', True),
        ('probabilities', False),
        ('labels', True),
        ('subvolumes', False),
        ('seeds', True),
    ]
    assert kinds(open_thing(str(results / 'assembly'))) == [('labels', 'labels')]


def test_a_volume_that_a_run_has_not_written_is_left_out_and_told(volume, tmp_path, said):
    results, folder = tmp_path / 'results', tmp_path / 'agglomerated'
    write_results(results, volume, [(0, 0, 0), (0, 0, 10)])
    provenance.claim(results / 'assembly', {'output': f'zarr://{tmp_path}/out'})
    (results / 'assembly' / 'statistics.json').write_text('{}')
    layers = open_thing(str(results))
    assert [(one.name, one.visible) for one in layers if one.kind == 'labels'] == [('labels', True)]
    with pytest.raises(UserError, match='cannot be opened'):
        open_thing(str(results / 'assembly'))  # there is nothing else
    inputs = inference_pb2.InferenceRequest()
    inputs.image.hdf5, inputs.init_segmentation.hdf5 = f'{volume}:raw', f'{volume}:labels'
    provenance.claim(folder, {'inference': json_format.MessageToDict(inputs)})
    write_candidates(folder / 'candidates.csv', [Candidate(1, 2, 0.5, Xyz(20, 15, 10))])
    provenance.record_output(folder / 'joined_volume.json', f'zarr://{tmp_path}/out', 'stamp')
    assert kinds(open_thing(str(folder)))[1:] == [
        ('labels', 'labels'),
        ('candidates', 'annotations'),
    ]
    told = [one for one in said if 'that this run writes is not shown' in one]
    assert len(told) == 2
