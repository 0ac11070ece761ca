"""`ffn plan`: what follows from what it measures, and that the stages take its files."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ffn import synthetic
from ffn.cli import coordinates, partitions, plan, segment, train
from ffn.cli.flags import split_list
from ffn.inference.request import parse_request
from ffn.planning.files import write_plan
from ffn.planning.measure import measure
from ffn.planning.rules import make_plan
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from tests.planning.samples import blocks, write


@pytest.mark.parametrize(
    ('size', 'fov', 'deltas', 'radius', 'axes', 'policy'),
    [
        ((8, 8, 8), (33, 33, 33), (8, 8, 8), (32, 32, 32), '0,1,2', 'PolicyPeaks'),
        ((8, 8, 33), (33, 33, 17), (8, 8, 4), (32, 32, 16), '1,2', 'PolicyPeaks2d'),
        ((9, 9, 20), (33, 33, 23), (8, 8, 5), (32, 32, 21), '1,2', 'PolicyPeaks'),
        ((4, 4, 40), (33, 33, 11), (8, 8, 2), (32, 32, 9), '1,2', 'PolicyPeaks2d'),
    ],
)  # fmt: skip
def test_sizes_follow_the_voxels(tmp_path, size, fov, deltas, radius, axes, policy):
    image, labels = blocks((140, 80, 90))
    found = measure(*write(tmp_path / 'v.h5', image, labels, resolution=size[::-1]), quiet=True)
    made = make_plan(found, memory_gib=80, has_gpu=True, batch_size=4)
    args = made['model_args']
    assert (tuple(args['fov_size']), tuple(args['deltas'])) == (fov, deltas)
    assert args['depth'] == 12
    assert made['lom_radius'] == Xyz(*radius)
    assert made['margin'] == Zyx(*radius[::-1])
    assert made['permutable_axes'] == axes
    assert made['seed_policy'] == policy
    assert made['augmentation']['voxel_size'] == list(size)
    assert ('rotation_3d' in made['augmentation']) == (size[2] < 20)
    assert any(choice.name == 'downsample' for choice in made.choices) == (size[0] < 6)


@pytest.mark.parametrize(
    ('shape', 'has_gpu', 'fov', 'centres', 'is_told'),
    [
        ((300, 60, 70), False, (23, 23, 23), (20, 10, 250), True),
        ((300, 60, 70), True, (27, 27, 27), (20, 10, 250), True),
        ((128, 64, 200), False, (25, 25, 25), (144, 8, 72), True),
        ((128, 150, 30), False, (11, 11, 11), (8, 128, 106), True),
        ((128, 128, 140), True, (33, 33, 33), (76, 64, 64), False),
        ((40, 140, 150), False, (25, 25, 9), (94, 84, 24), True),
        ((300, 9, 140), True, (3, 3, 3), (134, 3, 294), True),
    ],
)  # fmt: skip
def test_a_patch_fits_along_every_axis(tmp_path, shape, has_gpu, fov, centres, is_told):
    """And few voxels are told, whatever the axis."""
    found = measure(*write(tmp_path / 'v.h5', *blocks(), resolution=(8, 8, 8)), quiet=True)
    made = make_plan(dataclasses.replace(found, box=Box.of_shape(shape)), 80, has_gpu, 4)
    assert tuple(made['model_args']['fov_size']) == fov
    radius = made['lom_radius']
    assert tuple(n - 2 * r for n, r in zip(shape[::-1], radius, strict=True)) == centres
    assert any('the labels are few' in line for line in made.warnings) == is_told


def test_axes_are_exchanged_only_where_the_field_of_view_is_a_cube(tmp_path):
    image, labels = blocks((80, 88, 96))
    found = measure(*write(tmp_path / 'v.h5', image, labels, resolution=(8, 8, 8)), quiet=True)
    made = make_plan(found, memory_gib=80, has_gpu=False, batch_size=4)
    assert made['model_args']['fov_size'] == [25, 25, 17]  # few sections
    assert made['permutable_axes'] == '1,2'
    reason = next(choice.reason for choice in made.choices if choice.name == 'permutable_axes')
    assert reason == 'indices in z,y,x; the field of view is shorter along z'


@pytest.mark.parametrize(
    ('nanometres', 'factor'), [(1, 8), (3, 2), (4, 2), (5.5, 2), (6, None), (8, None), (30, None)]
)
def test_advice_on_fine_pixels_is_not_given_twice(tmp_path, nanometres, factor):
    def advice(size):
        found = measure(
            *write(tmp_path / 'v.h5', *blocks(), resolution=(33, size, size)), quiet=True
        )
        made = make_plan(found, memory_gib=80, has_gpu=False, batch_size=4)
        return [choice.value for choice in made.choices if choice.name == 'downsample']

    assert advice(nanometres) == ([f'{factor},{factor},1'] if factor else [])
    if factor:
        assert advice(factor * nanometres) == []


def test_depth_fits_into_memory(tmp_path):
    image, labels = blocks()
    found = measure(*write(tmp_path / 'v.h5', image, labels, resolution=(8, 8, 8)), quiet=True)
    depths = [make_plan(found, gib, True, 8)['model_args']['depth'] for gib in (80, 6, 2, 1)]
    assert depths[0] == 12
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] < 12


def test_min_size_costs_little(tmp_path):
    image = np.zeros((40, 100, 100), np.uint8)
    labels = np.zeros(image.shape, np.uint32)
    labels[:30] = 1
    labels[32:35, :50, :40] = 2  # 6,000 voxels, 2 % of all
    labels[37, :10, :30] = 3  # 300, a thousandth
    found = measure(*write(tmp_path / 'v.h5', image, labels), quiet=True)
    made = make_plan(found, 80, False, 4)
    assert made['min_size'] == 5000
    reason = next(choice.reason for choice in made.choices if choice.name == 'min_size')
    assert reason.startswith('makes 1 of 3 objects background, 0.10% of')


@pytest.mark.parametrize(
    ('resolution', 'axes', 'told'),
    [
        ((8, 8, 8), '0,1,2', False),
        ((40, 8, 8), '1,2', False),
        ((8, 8, 40), '0,1', True),
        ((8, 40, 8), '0,2', True),
        ((4, 16, 16), '1,2', True),
        ((4, 8, 16), '2', True),
    ],
)
def test_axes_of_other_sizes_are_not_exchanged(tmp_path, resolution, axes, told):
    found = measure(*write(tmp_path / 'v.h5', *blocks(), resolution=resolution), quiet=True)
    made = make_plan(dataclasses.replace(found, box=Box.of_shape((300,) * 3)), 80, True, 4)
    assert made['permutable_axes'] == axes
    assert any('is this the order of the axes?' in line for line in made.warnings) == told


def test_small_values_of_an_image_keep_their_digits(tmp_path):
    image, labels = blocks()
    image = (image.astype(np.float32) / 1e4 + 0.0013).astype(np.float32)
    found = measure(*write(tmp_path / 'v.h5', image, labels), quiet=True)
    made = make_plan(found, 80, False, 4)
    assert made['image_mean'] == pytest.approx(found.mean, rel=1e-4)
    assert made['image_stddev'] == pytest.approx(found.stddev, rel=1e-4)
    assert found.stddev < 0.005
    constant = dataclasses.replace(found, stddev=0.0)
    assert any('nothing to learn from' in n for n in make_plan(constant, 80, False, 4).warnings)


def test_what_is_doubtful_is_told(tmp_path):
    def warnings(image, labels, **attributes):
        found = measure(*write(tmp_path / 'v.h5', image, labels, **attributes), quiet=True)
        return make_plan(found, 80, False, 4).warnings

    image, labels = blocks((140, 120, 130))
    halves = np.where(labels == 9, 2**40, labels)
    halves[:, 75:] = 5
    assert warnings(image, halves, resolution=(8, 8, 8)) == ()
    assert 'neither the volumes nor --voxel_size say' in warnings(image, halves)[0]
    few = warnings(image[:20], halves[:20], resolution=(40, 8, 8))
    line = 'the labels are few, x,y,z 130,120,20 voxels: x,y,z 74,64,12 of them can be the centre of a training patch'
    assert any(line in one for one in few)
    none = warnings(image[:, :6], halves[:, :6], resolution=(8, 8, 8))
    assert any('6 voxels along y, and a training patch 7: no patch fits' in n for n in none)
    dust = np.zeros_like(labels)
    dust[60, 60, 40:43] = 7
    assert any('no object has as many as 50 voxels' in n for n in warnings(image, dust))
    tissue = np.full(image.shape, 255, np.uint8)
    tissue[:, ::10] = 32  # membranes in many pieces
    kinds = warnings(image, tissue, resolution=(8, 8, 8))
    assert any('label 255 holds 90% of all labelled voxels' in line for line in kinds)
    assert any('looks like classes of tissue' in line for line in kinds)
    assert any('objects touch each other, without' in line for line in kinds)


def test_the_stages_take_its_files(tmp_path, capsys, monkeypatch):
    sample = synthetic.generate((40, 90, 100), seed=1, voxel_size_zyx=(4, 1, 1))
    image, labels = write(tmp_path / 'v.h5', sample.image, sample.labels, resolution=(33, 8, 8))
    folder = tmp_path / 'plan'
    given = ['--image', image, '--labels', labels, '--output', str(folder), '--notime', '--quiet']
    made = plan.main(given)
    printed = capsys.readouterr().out
    (folder / 'augmentation.json').write_text('{}')
    with pytest.raises(UserError, match=r'plan/augmentation\.json: would be replaced'):
        plan.main(given)
    plan.main([*given, '--replace'])
    for choice in made.choices:
        assert f'{choice.name}: ' in printed
        assert choice.reason in printed
    partitions.main([f'--flagfile={folder}/partitions.flags', '--quiet'])
    coordinates.main([f'--flagfile={folder}/coordinates.flags', '--quiet'])
    assert (folder / 'coordinates.tfrecord.gz').stat().st_size > 100
    called = []
    monkeypatch.setattr(train, 'run', lambda command, flags: called.append(command))
    train.main([f'--flagfile={folder}/train.flags'])
    config = called[0].config
    assert config.voxel_size == (8, 8, 33)
    assert config.model_args == made['model_args']
    assert config.data.image_mean == made['image_mean']
    assert config.data.augmentation is not None
    request = parse_request(str(folder / 'request.pbtxt'))
    monkeypatch.setattr(segment, 'run', called.append)
    segment.main([f'--flagfile={folder}/segment.flags'])
    tiling = called[1].assembly.tiling
    assert (tiling.size, tiling.overlap) == (Xyz(100, 90, 40), made['overlap'])
    assert made['overlap'] == Xyz(24, 24, 8)
    assert parse_request(called[1].inference_request) == parse_request(f'{folder}/request.pbtxt')
    request = parse_request(str(folder / 'request.pbtxt'))
    assert request.seed_policy == 'PolicyPeaks2d'
    assert request.model_checkpoint_path == f'{folder}/model'
    assert json.loads((folder / 'augmentation.json').read_text())['voxel_size'] == [8, 8, 33]


@pytest.mark.parametrize('memory', ['-3', 'nan', 'inf'])
def test_memory_that_no_machine_has(tmp_path, memory):
    arguments = [
        '--image',
        'v.h5:raw',
        '--labels',
        'v.h5:labels',
        '--output',
        str(tmp_path / 'plan'),
    ]
    with pytest.raises(UserError, match=f'--memory is {memory}; expected GiB'):
        plan.main([*arguments, f'--memory={memory}'])


def test_changed_files_are_replaced_only_on_request(tmp_path):
    found = measure(*write(tmp_path / 'v.h5', *blocks()), quiet=True)
    folder = tmp_path / 'plan'

    def write_again(batch_size, **options):
        write_plan(make_plan(found, 80, False, batch_size), found, folder, batch_size, **options)

    write_again(2)
    write_again(2)
    (folder / 'partitions.flags').unlink()
    request = folder / 'request.pbtxt'
    request.write_text(request.read_text().replace('0.6', '0.55'))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        UserError, match=r'train\.flags, \S+/request\.pbtxt: would be .*--replace$'
    ) as told:
        write_again(5)
    assert 'coordinates' not in str(told.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    write_again(5, replace=True)
    assert '--batch_size=5' in (folder / 'train.flags').read_text()
    assert '0.6' in request.read_text()
    assert (folder / 'partitions.flags').exists()


def test_a_remote_image_needs_a_word_on_the_command_line(tmp_path):
    image, labels = blocks((140, 80, 90))
    found = measure(*write(tmp_path / 'v.h5', image, labels), quiet=True)
    made = make_plan(found, memory_gib=80, has_gpu=True, batch_size=4)
    local = write_plan(made, found, tmp_path / 'local', 4)['segment']
    assert local == f'ffn segment --flagfile={tmp_path}/local/segment.flags'
    elsewhere = dataclasses.replace(found, image='precomputed://gs://bucket/image')
    remote = write_plan(made, elsewhere, tmp_path / 'remote', 4)['segment']
    assert remote == f'ffn segment --flagfile={tmp_path}/remote/segment.flags --allow_remote'


@pytest.mark.parametrize(
    ('attributes', 'output'),
    [
        ({'resolution': (33, 8, 8)}, 'zarr3'),
        ({'resolution': (33, 8, 8), 'offset': (66, 0, -16)}, 'precomputed'),
    ],
)
def test_a_segmentation_covers_the_place_of_its_image(tmp_path, monkeypatch, attributes, output):
    """What follows from it, such as labels of objects that are done, lies on the image then."""
    found = measure(*write(tmp_path / 'v.h5', *blocks(), **attributes), quiet=True)
    folder = tmp_path / 'plan'
    write_plan(make_plan(found, 80, False, 4), found, folder, 4)
    called = []
    monkeypatch.setattr(segment, 'run', called.append)
    segment.main([f'--flagfile={folder}/segment.flags'])
    assert called[0].assembly.output.output == f'{output}://{folder}/segmentation'


def test_a_place_that_the_segmentation_cannot_keep_is_told(tmp_path):
    """Precomputed volumes, which keep it, need a voxel size."""
    found = measure(*write(tmp_path / 'v.h5', *blocks()), quiet=True)
    for start in (Xyz(0, 0, 0), Xyz(-2, 0, 2)):
        moved = dataclasses.replace(found, image_box=Box(start, found.image_box.size))
        told = 'the image begins at x,y,z -2,0,2, but without a voxel size the segmentation is written as Zarr'
        lines = make_plan(moved, 80, False, 4).warnings
        assert any(told in line for line in lines) == any(start)


def test_names_that_need_quotes(tmp_path):
    """The folder of the data and that of the plan have characters that separate or end texts."""
    data, folder = tmp_path / 'a,b', tmp_path / 'my "plan"'
    data.mkdir()
    found = measure(*write(data / 'v.h5', *blocks(), resolution=(33, 8, 8)), quiet=True)
    made = make_plan(found, memory_gib=80, has_gpu=True, batch_size=4)
    write_plan(made, found, folder, 4)
    request = parse_request((folder / 'request.pbtxt').read_text())
    assert request.model_checkpoint_path == f'{folder}/model'
    assert request.segmentation_output_dir == f'{folder}/results'
    for name, flag, expected in (
        ('train', 'data_volumes', f'train:{data}/v.h5:raw'),
        ('train', 'label_volumes', f'train:{data}/v.h5:labels'),
        ('coordinates', 'partition_volumes', f'train:{folder}/partitions.h5:af'),
    ):
        lines = (folder / f'{name}.flags').read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(f'--{flag}='))
        assert split_list(line.partition('=')[2]) == [expected]
    with pytest.raises(UserError, match=r'a,b has a comma in its name'):
        write_plan(made, found, data, 4)
