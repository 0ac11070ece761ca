"""Which labels are none, over types and metadata, in the commands that read labels."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import tensorstore as ts

from ffn.agglomeration.candidates import CandidateSearch, find_candidates
from ffn.agglomeration.overlaps import count_overlaps
from ffn.cli import compare, evaluate, export, fill, import_labels, partitions
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.sources import open_truth
from ffn.proofreading.editing.survey import survey
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.unlabelled import Unlabelled
from ffn.volumes.volume import Volume, VolumeSource, open_volume

SHAPE = (6, 8, 10)


@pytest.mark.parametrize(
    ('dtype', 'attrs', 'given', 'values', 'expected'),
    [
        ('i8', {}, None, [-1, -(2**63), 0, 5, 2**63 - 1], [0, 0, 0, 5, 2**63 - 1]),
        ('u8', {}, None, [2**64 - 1, 2**64 - 2, 2**32 - 1], [0, 2**64 - 2, 2**32 - 1]),
        ('u8', {'_FillValue': 2**32 - 1}, None, [2**32 - 1], [2**32 - 1]),
        ('u4', {}, None, [2**32 - 1, 7], [2**32 - 1, 7]),
        ('u4', {'_FillValue': 2**32 - 1}, None, [2**32 - 1, 7], [0, 7]),
        ('u4', {'ignore_label': -1}, None, [2**32 - 1, 7], [0, 7]),
        ('u4', {'unlabelled': np.uint32([2**32 - 1])}, None, [2**32 - 1, 7], [0, 7]),
        ('u4', {'background': 'black', 'count': 2**32 - 1}, None, [2**32 - 1], [2**32 - 1]),
        ('u1', {}, None, [255], [255]),
        ('u1', {}, 255, [255, 254], [0, 254]),
        ('u1', {}, 300, [44], [44]),
        ('i2', {}, 9, [-1, 9, 8], [0, 0, 8]),
        ('?', {}, 1, [True], [True]),
    ],
)
def test_rule(dtype, attrs, given, values, expected):
    labels = np.array(values, dtype).reshape(1, 1, -1)
    volume = Volume('v', labels, attrs).require_labels(given)
    found = volume.read(volume.box)
    assert found.dtype == labels.dtype
    assert found.ravel().tolist() == expected
    rule = Unlabelled('v', labels.dtype, attrs, given)
    rule.clear(labels)
    rule.clear(labels)
    assert rule.count == 2 * sum(a != b for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize('driver', ['zarr', 'zarr3'])
@pytest.mark.parametrize('how', ['fill', 'attribute', 'none'])
def test_zarr_says_it_too(tmp_path, driver, how):
    spec = {'driver': driver, 'kvstore': {'driver': 'file', 'path': str(tmp_path / 'v')}}
    fill = 2**32 - 1 if how == 'fill' else None
    store = ts.open(spec, create=True, dtype=ts.uint32, shape=(2, 3, 4), fill_value=fill).result()
    store[...] = 2**32 - 1
    store[0] = 7
    if how == 'attribute' and driver == 'zarr':
        (tmp_path / 'v/.zattrs').write_text('{"unlabelled": 4294967295}')
    elif how == 'attribute':
        path = tmp_path / 'v/zarr.json'
        metadata = json.loads(path.read_text())
        path.write_text(json.dumps({**metadata, 'attributes': {'unlabelled': 4294967295}}))
    with open_volume(f'{driver}://{tmp_path}/v') as opened:
        found = opened.require_labels().read(opened.box)
    assert (found[0] == 7).all()
    assert (found[1] == (2**32 - 1 if how == 'none' else 0)).all()


def objects():
    labels = np.zeros(SHAPE, np.int64)
    labels[1:4, 1:4, 1:9], labels[4:, 5:, 2:9] = 3, 4
    return labels


@pytest.fixture
def files(tmp_path):
    """Labels as they are, and with the outermost section marked as not labelled in several ways."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['plain'] = objects().astype(np.uint8)
        for name, mark, dtype in (
            ('minus', -1, np.int32),
            ('top', 2**64 - 1, np.uint64),
            ('named', 99, np.uint8),
        ):
            labels = objects().astype(dtype)
            labels[0] = mark
            file[name] = labels
    return tmp_path / 'v.h5'


FLAGS = {'minus': [], 'top': [], 'named': ['--unlabelled=99']}
LINE = '80 of 480 voxels (16.7 %) are not labelled'


@pytest.mark.parametrize('name', FLAGS)
def test_evaluate_and_compare(files, name, caplog):
    volumes = [f'--groundtruth={files}:{name}', f'--segmentation={files}:plain']
    found = evaluate.main([*volumes, '--quiet', '--boundary=0', *FLAGS[name]])
    plain = evaluate.main([f'--groundtruth={files}:plain', volumes[1], '--quiet', '--boundary=0'])
    assert found.as_json() == plain.as_json()
    assert caplog.text.count(LINE) == 1
    differ = compare.main([f'{files}:{name}', f'{files}:plain', '--quiet', *FLAGS[name]])
    assert (differ.objects_a, differ.objects_b) == (2, 2)
    assert caplog.text.count(LINE) == 2


@pytest.mark.parametrize('name', ['minus', 'top'])
def test_components_have_none_of_it(files, name, capsys):
    flags = [f'--segmentation={files}:{name}', f'--groundtruth={files}:plain', '--split_cc']
    evaluate.main([*flags, '--quiet'])
    assert 'of 2 objects, 2 at least by half, 0 not at all; 2 segments' in capsys.readouterr().out


@pytest.mark.parametrize('name', FLAGS)
def test_import_labels(files, tmp_path, name, caplog):
    flags = [f'--input={files}', f'--dataset={name}', f'--output={tmp_path}/out.h5:l', '--quiet']
    import_labels.main([*flags, *FLAGS[name]])
    with h5py.File(tmp_path / 'out.h5') as file:
        np.testing.assert_array_equal(file['l'][:], objects())
    assert caplog.text.count(LINE) == 1


@pytest.mark.parametrize('name', FLAGS)
def test_export(files, tmp_path, name, caplog):
    flags = [f'--labels={files}:{name}', f'--output={tmp_path}/view', '--voxel_size=8,8,8']
    export.main([*flags, '--quiet', *FLAGS[name]])
    with open_volume(f'precomputed://{tmp_path}/view/labels') as volume:
        np.testing.assert_array_equal(volume.single_channel().read(volume.box), objects())
    inline = json.loads((tmp_path / 'view/labels/segment_properties/info').read_text())['inline']
    assert sorted(inline['ids']) == ['3', '4']
    assert caplog.text.count(LINE) == 1


@pytest.mark.parametrize('output', ['v.h5:filled', 'zarr://filled'])
@pytest.mark.parametrize('name', ['minus', 'top'])
def test_fill(files, name, output, caplog, monkeypatch):
    monkeypatch.chdir(files.parent)
    with h5py.File(files, 'a') as file:
        file['image'] = np.ones(SHAPE, np.uint8)
    volumes = [f'--labels=v.h5:{name}', '--image=v.h5:image', f'--output_volume={output}']
    fill.main([*volumes, '--folder=records', '--max_distance=1', '--voxel_size=8,8,8', '--quiet'])
    assert caplog.text.count(LINE) == 1


@pytest.mark.parametrize('name', ['minus', 'top'])
def test_stages_in_blocks(files, tmp_path, name, caplog):
    """What tasks meet, which may be other processes, is added up."""
    labels, plain = VolumeSource(f'{files}:{name}'), VolumeSource(f'{files}:plain')
    box, half = Box.of_shape(SHAPE), Xyz(10, 8, 3)
    search = CandidateSearch(labels, box, (8.0, 8.0, 8.0), 8.0, Xyz(10, 8, 6))
    found = list(find_candidates(search, tmp_path / 'a', InProcess(), quiet=True))
    assert [(one.id_a, one.id_b) for one in found] == [(3, 4)]
    assert caplog.text.count(LINE) == 1
    overlaps = count_overlaps(plain, labels, box, half, InProcess(), 'somata', quiet=True)
    assert overlaps[:, :2].tolist() == [[3, 3], [4, 4]]
    assert caplog.text.count(LINE) == 2
    segments = survey(labels, tmp_path / 'b', InProcess(), quiet=True, block=half)
    assert sorted(segments) == [3, 4]
    assert caplog.text.count(LINE) == 3
    assert caplog.text.count('not labelled') == 3


@pytest.mark.parametrize(
    ('name', 'label'), [('plain', 77), ('plain', 300), ('minus', 300), ('named', 99)]
)
def test_a_label_that_no_voxel_has(files, tmp_path, name, label, caplog):
    """Also one that the type of the volume cannot hold."""
    volume, output = f'{files}:{name}', f'{tmp_path}/out.h5'
    partitions_of = [f'--input_volume={volume}', '--thresholds=0.5', '--lom_radius=1,1,1']
    for main, flags in (
        (evaluate.main, [f'--groundtruth={volume}', f'--segmentation={files}:plain']),
        (compare.main, [volume, f'{files}:top']),
        (import_labels.main, [f'--input={volume}', f'--output={output}:l']),
        (export.main, [f'--labels={volume}', f'--output={tmp_path}/view', '--voxel_size=8,8,8']),
        (partitions.main, [*partitions_of, f'--output_volume={output}:af', '--min_size=1']),
    ):
        caplog.clear()
        main([*flags, '--quiet', f'--unlabelled={label}'])
        line = f'{name}: none of 480 voxels has the label {label} that --unlabelled names'
        is_met = (name, label) == ('named', 99)
        # An export keeps one count of all that is not labelled.
        is_other = main is export.main and name == 'minus'
        assert caplog.text.count(line) == (0 if is_met or is_other else 1), main


@pytest.mark.parametrize(('label', 'named'), [(99, True), (77, False)])
def test_one_of_two_volumes_may_have_the_label(files, label, named, caplog):
    for pair in ([f'{files}:named', f'{files}:plain'], [f'{files}:plain', f'{files}:named']):
        caplog.clear()
        compare.main([*pair, '--quiet', f'--unlabelled={label}'])
        assert caplog.text.count('has the label') == (0 if named else 2)
        assert caplog.text.count('are not labelled') == named


@pytest.mark.parametrize(('label', 'named'), [(99, True), (77, False)])
def test_labels_of_supervoxels(tmp_path, label, named, caplog):
    """Where a body stands in for a supervoxel that is none, its label was met all the same."""
    with h5py.File(tmp_path / 'in.h5', 'w') as file:
        file['stack'] = np.int64([99 if named else 0, 1, 2, 1, 0]).reshape(1, 1, 5)
        file['transforms'] = np.int64([[1, 10], [2, 30]])
    source, output = f'{tmp_path}/in.h5', f'{tmp_path}/out.h5:l'
    import_labels.main(
        [f'--input={source}', f'--output={output}', f'--unlabelled={label}', '--quiet']
    )
    truth = [f'--groundtruth={source}:stack', f'--groundtruth_transforms={source}:transforms']
    flags = [f'--segmentation={output}', f'--unlabelled={label}', '--quiet', '--boundary=0']
    evaluate.main([*truth, *flags])
    assert caplog.text.count('1 of 5 voxels (20.0 %) are not labelled') == (2 if named else 0)
    absent = f'none of 5 voxels has the label {label} that --unlabelled names'
    assert caplog.text.count(absent) == (0 if named else 2)


def test_a_body_may_have_the_number_of_a_supervoxel_that_is_none(tmp_path, caplog):
    source, output = f'{tmp_path}/in.h5', f'{tmp_path}/out.h5:l'
    with h5py.File(source, 'w') as file:
        file['stack'] = np.uint32([5, 17, 18, 1, 2**32 - 1]).reshape(1, 1, 5)
        file['stack'].attrs['nodata'] = -1
        file['transforms'] = np.uint64([[1, 2**32 - 1], [17, 5], [18, 5]])
    import_labels.main([f'--input={source}', f'--output={output}', '--unlabelled=5', '--quiet'])
    with h5py.File(tmp_path / 'out.h5') as file:
        assert file['l'][:].ravel().tolist() == [0, 5, 5, 2**32 - 1, 0]
    with open_truth(f'{source}:stack', f'{source}:transforms', unlabelled=5) as truth:
        assert truth.read(truth.box).ravel().tolist() == [0, 5, 5, 2**32 - 1, 0]
        assert truth.unlabelled.count == 2
    assert '2 of 5 voxels (40.0 %) are not labelled' in caplog.text
    assert 'has the label' not in caplog.text


def test_transforms_may_give_bodies_that_are_none(tmp_path, caplog, capsys):
    with h5py.File(tmp_path / 'in.h5', 'w') as file:
        file['stack'] = np.int64([-1, 1, 2, 3, 0]).reshape(1, 1, 5)
        file['transforms'] = np.int64([[1, 10], [2, -1], [3, 30]])
    import_labels.main([f'--input={tmp_path}/in.h5', f'--output={tmp_path}/out.h5:l', '--quiet'])
    with h5py.File(tmp_path / 'out.h5') as file:
        assert file['l'][:].ravel().tolist() == [0, 10, 0, 30, 0]
    assert '2 of 5 voxels (40.0 %) are not labelled' in caplog.text
    flags = [f'--groundtruth={tmp_path}/in.h5:stack', f'--segmentation={tmp_path}/out.h5:l']
    table = f'--groundtruth_transforms={tmp_path}/in.h5:transforms'
    evaluate.main([*flags, table, '--quiet', '--boundary=0'])
    assert 'of 2 objects, 2 at least by half, 0 not at all; 2 segments' in capsys.readouterr().out
