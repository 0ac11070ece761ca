"""`ffn augmentations` as a user calls it, and what its pictures show."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from ffn.cli.augmentations import main
from ffn.training.augmentation.config import describe
from ffn.training.augmentation.kinds import KINDS
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.visualization import augmentations as show
from ffn.visualization.overlay import label_colors
from tests.calls import check_one_line
from tests.training.augmentation.samples import SIZE, make_config

SHAPE = (23, 31, 41)
VOLUME = ['--image=v.h5:raw', '--labels=v.h5:labels', '--size=17,13,9']


@pytest.fixture
def volume(tmp_path, monkeypatch):
    """v.h5 with an image and labels of two halves, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.ones(SHAPE, np.uint64)
    labels[:, 15:] = 2**60
    with h5py.File('v.h5', 'w') as file:
        file['raw'] = rng.integers(50, 200, SHAPE, np.uint8)
        file['labels'] = labels
        file['small'] = labels[1:]
        file['part'] = labels[5:16, 7:22, 13:32]
        file['part'].attrs.update(resolution=[40, 8, 8], offset=[5 * 40, 7 * 8, 13 * 8])
        file['floats'] = labels.astype(np.float32)
    return tmp_path


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == 'PNG'
        return np.asarray(picture.convert('RGB')).astype(int)


def flat_block(margin=0):
    """A patch of which every voxel is 0, with the label 1."""
    shape = [n + 2 * margin for n in SIZE]
    return show.Patch(
        np.zeros(shape, np.float32), np.ones(shape, np.uint8), np.ones(shape, np.float32)
    )


def test_as_a_user_calls_it(volume):
    def call(*arguments):
        return subprocess.run(
            [
                sys.executable,
                '-W',
                'error:::ffn',
                '-m',
                'ffn.training.show_augmentations',
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = call(*VOLUME, '--output=new/a.png')
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    assert done.stdout.startswith('new/a.png: 16 panels, patches of x,y,z 17,13,9, margin x,y,z ')
    assert len(np.unique(pixels(volume / 'new/a.png').reshape(-1, 3), axis=0)) > 50
    wrong = call(*VOLUME, '--output=a.png', '--augmentation={"nosie": {}}')
    check_one_line(wrong.returncode, wrong.stderr, "no key 'nosie'", 'noise')
    assert not (volume / 'a.png').exists()


def test_same_seed_same_picture(volume, capsys):
    for name, seed in (('a', 3), ('b', 3), ('c', 4)):
        main([*VOLUME, f'--output={name}.png', f'--seed={seed}', '--center=20,15,11'])
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert (volume / 'a.png').read_bytes() == (volume / 'b.png').read_bytes()
    assert (volume / 'a.png').read_bytes() != (volume / 'c.png').read_bytes()


def test_generated_sample(tmp_path, capsys):
    main(
        [
            '--size=21,17,7',
            '--augmentation={"noise": {}, "voxel_size": [6, 6, 30]}',
            f'--output={tmp_path}/a.png',
        ]
    )
    assert '5 panels, patches of x,y,z 21,17,7' in capsys.readouterr().out
    assert len(np.unique(pixels(tmp_path / 'a.png').reshape(-1, 3), axis=0)) > 50


def test_labels_of_a_part_of_the_image(volume, capsys):
    """They say where it is; the patch is in the middle of them."""
    with h5py.File('v.h5', 'a') as file:
        file['raw'].attrs['resolution'] = file['part'].attrs['resolution'] = [40, 8, 8]
    config = make_config({}, (8, 8, 40))
    block = show.read_block(
        'v.h5:raw', 'v.h5:part', None, Zyx(9, 13, 17), Zyx(9, 9, 9), (0, 1), config
    )
    with h5py.File('v.h5') as file:
        np.testing.assert_array_equal(block.image, file['raw'][5:16, 7:22, 13:32])
        np.testing.assert_array_equal(block.labels, file['part'])
    main([*VOLUME, '--output=a.png', '--labels=v.h5:part'])
    assert '16 panels' in capsys.readouterr().out
    with pytest.raises(UserError, match=r'not inside v\.h5:part, which covers start x,y,z 13,7,5'):
        main([*VOLUME, '--output=b.png', '--labels=v.h5:part', '--center=12,15,11'])


def test_list_of_keys(capsys):
    main(['--keys'])
    assert capsys.readouterr().out == describe() + '\n'


def test_panels_without_a_kind_show_all_kinds_strongly():
    panels = show.choose_panels(make_config({}, (4, 4, 40)))
    assert [panel.title for panel in panels[:3]] == ['original', 'rotation_2d', 'rotation_3d']
    assert panels[0].config.chosen() == {}
    assert {panel.title for panel in panels[1:]} == set(KINDS)
    for panel in panels[1:]:
        assert list(panel.config.chosen()) == [panel.title]
        assert panel.config.voxel_size == (4, 4, 40)
    assert 'max_size 20,20,12' in next(p.caption for p in panels if p.title == 'occlusion')


def test_panels_of_a_config_are_each_kind_for_sure_and_all_as_configured():
    config = make_config({'noise': {'probability': 0.1, 'max_sigma': 0.5}, 'affine': {}}, (1, 1, 2))
    panels = show.choose_panels(config)
    assert [panel.title for panel in panels] == ['original', 'affine', 'noise', *['together'] * 3]
    assert panels[2].config == make_config(
        {'noise': {'probability': 1, 'max_sigma': 0.5}}, (1, 1, 2)
    )
    assert panels[2].caption == 'probability 0.1, max_sigma 0.5'
    assert all(panel.config == config and panel.draws == 1 for panel in panels[3:])


def test_a_panel_shows_the_planes_and_outlines():
    rng = np.random.default_rng(0)
    labels = np.zeros(SIZE, np.int32)
    labels[:, 3:10, 4:12] = 5
    block = show.Patch(
        rng.standard_normal(SIZE, dtype=np.float32), labels, np.ones(SIZE, np.float32)
    )
    panel = show.Panel('original', '', make_config({}, (1, 1, 3)))
    sheet = np.asarray(show.draw_panels([panel], block, SIZE, 0, zoom=2)).astype(int)
    top, left = show._GAP + (1 + show._CAPTION_LINES) * show._LINE + 4, show._GAP
    section = sheet[top : top + 26, left : left + 34]
    color = label_colors(np.array(5)).astype(int)
    outlined = (section == color).all(axis=-1)
    # The outermost pixels of the object and no others.
    expected = np.zeros((26, 34), bool)
    expected[6:20, 8:24] = True
    expected[7:19, 9:23] = False
    np.testing.assert_array_equal(outlined, expected)
    gray = section[::2, ::2, 0]
    shown = np.clip((block.image[4] / show._CONTRAST + 1) * 127.5, 0, 255).astype(np.uint8)
    background = labels[4] == 0
    np.testing.assert_array_equal(gray[background], shown[background])
    # xz below, six pixels a section.
    below = top + 26 + show._GAP // 2
    across = sheet[below : below + 54, left : left + 34]
    shown = np.clip((block.image[:, 6] / show._CONTRAST + 1) * 127.5, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(across[::6, ::2, 0][:, :4], shown[:, :4])
    assert (sheet[below + 54 :] == 255).all()


def test_weight_zero_is_red():
    block = flat_block()
    panel = show.Panel('turned', '', make_config({'rotation_2d': {}}))
    sheet = np.asarray(show.draw_panels([panel], block, SIZE, 1, zoom=1)).astype(int)
    red = (sheet[..., 0] == 127) & (sheet[..., 1] == 63)
    assert red.sum() > 20
    panel = show.Panel('not turned', '', make_config({}))
    sheet = np.asarray(show.draw_panels([panel], block, SIZE, 1, zoom=1)).astype(int)
    assert not ((sheet[..., 0] == 127) & (sheet[..., 1] == 63)).any()


def test_of_several_draws_the_one_that_changes_most_is_shown():
    config = make_config({'brightness': {'max_shift': 2}})

    def level(draws, seed):
        panel = show.Panel('brightness', '', config, draws)
        sheet = np.asarray(show.draw_panels([panel], flat_block(), SIZE, seed, zoom=1))
        return abs(int(sheet[-show._GAP * 2 - 3, show._GAP + 5, 0]) - 127)

    one = [level(1, seed) for seed in range(6)]
    assert min(level(8, seed) for seed in range(6)) > 40
    assert min(one) < 40


def test_the_section_that_changes_most_is_shown():
    values = {'missing_section': {'section_probability': 0.15, 'min_fill': -4, 'max_fill': -4}}
    (panel,) = [p for p in show.choose_panels(make_config(values)) if p.title == 'missing_section']
    sheet = np.asarray(show.draw_panels([panel], flat_block(), SIZE, 0, zoom=1))
    top = show._GAP + (1 + show._CAPTION_LINES) * show._LINE + 4
    assert (sheet[top : top + SIZE.y, show._GAP : show._GAP + SIZE.x] == 0).all()


def test_blocks_have_as_much_margin_as_there_is(volume):
    def read(center, margin):
        return show.read_block('v.h5:raw', 'v.h5:labels', center, SIZE, margin, (100, 50))

    with h5py.File('v.h5') as file:
        raw, labels = file['raw'][:], file['labels'][:]
    block = read(Xyz(20, 15, 11), Zyx(2, 3, 4))
    index = np.s_[5:18, 6:25, 8:33]
    np.testing.assert_array_equal(block.labels, labels[index])
    assert block.labels.dtype == np.uint64
    np.testing.assert_allclose(block.image, (raw[index].astype(float) - 100) / 50, atol=1e-6)
    assert block.image.dtype == np.float32
    assert (block.weights == 1).all()
    assert block.weights.shape == block.image.shape
    # The patch is 9, 13, 17; from z 5 to 14 of 23, y 2 to 15 of 31, x 22 to 39 of 41.
    block = read(Xyz(30, 8, 9), Zyx(99, 99, 99))
    np.testing.assert_array_equal(block.labels, labels[0:19, 0:17, 20:41])
    # The middle of the volume.
    np.testing.assert_array_equal(read(None, Zyx(0, 0, 0)).labels, labels[7:16, 9:22, 12:29])


@pytest.mark.parametrize('even', [(0, 0, 1), (0, 1, 0), (1, 0, 0)])
def test_a_patch_as_large_as_the_volume_fits(volume, even):
    with h5py.File('v.h5', 'a') as file:
        kept = tuple(slice(n - cut) for n, cut in zip(SHAPE, even, strict=True))
        file['even'], file['even_labels'] = file['raw'][kept], file['labels'][kept]
        labels = file['even_labels'][:]
    size = Zyx.of(labels.shape)
    block = show.read_block('v.h5:even', 'v.h5:even_labels', None, size, Zyx(0, 0, 0), None)
    np.testing.assert_array_equal(block.labels, labels)


def test_an_image_with_nan_is_normalized_by_its_other_values(volume):
    with h5py.File('v.h5', 'a') as file:
        image = file['raw'][:].astype(np.float32)
        image[5, 6, 7] = np.nan
        file['holes'] = image
    block = show.read_block('v.h5:holes', 'v.h5:labels', None, Zyx.of(SHAPE), Zyx(0, 0, 0), None)
    assert np.isnan(block.image).sum() == 1
    assert np.nanmean(block.image) == pytest.approx(0, abs=1e-3)
    assert np.nanstd(block.image) == pytest.approx(1, abs=1e-3)


def test_a_volume_whose_voxels_have_other_proportions_is_told(volume, caplog):
    with h5py.File('v.h5', 'a') as file:
        file['raw'].attrs['resolution'] = [30.0, 8.0, 8.0]  # z, y, x
    for size, told in (([4, 4, 15], False), ([8, 8, 8], True)):
        text = json.dumps({'voxel_size': size, 'rotation_3d': {}})
        main([*VOLUME, '--size=9,9,5', f'--augmentation={text}', '--output=a.png'])
        assert (
            '8,8,8, has other proportions than x,y,z 8,8,30 nm (v.h5:raw' in caplog.text
        ) == told


WRONG = [
    (['--output=a.jpg'], "'a.jpg'; expected a name that ends in .png"),
    (['--output=a.png', '--image=v.h5:raw'], '--image and --labels are needed together'),
    (['--output=a.png', '--center=1,2,3'], '--center is of a volume'),
    (['--output=a.png', '--image_mean=3'], 'are needed together'),
    (
        ['--output=a.png', '--image_mean=3', '--image_stddev=0'],
        '--image_stddev are 3 and 0; expected',
    ),
    (['--output=a.png', '--image_mean=nan', '--image_stddev=3'], '--image_stddev are nan and 3;'),
    (['--output=a.png', '--image_mean=3', '--image_stddev=inf'], '--image_stddev are 3 and inf;'),
    (['--output=a.png', '--seed=-1'], '--seed is -1; expected 0 or more'),
    (['--output=a.png', '--zoom=0'], '--zoom is 0; expected 1 or more'),
    (['--output=a.png', '--size=0,3,3'], '--size is x,y,z 0,3,3; expected positive numbers'),
    (['--output=a.png', '--size=3,3'], '--size'),
    (['--output=a.png', '--augmentation=a.json'], 'where no file is'),
    ([*VOLUME, '--output=a.png', '--center=8,8,20'], 'not inside v.h5:labels, which covers'),
    ([*VOLUME, '--output=a.png', '--size=99,9,9'], 'x,y,z 99,9,9'),
    ([*VOLUME, '--output=a.png', '--labels=v.h5:small'], 'must be equal'),
    ([*VOLUME, '--output=a.png', '--labels=v.h5:floats'], 'labels must be integers'),
    ([*VOLUME, '--output=a.png', '--labels=v.h5:none'], 'it holds'),
]


@pytest.mark.parametrize(('arguments', 'words'), WRONG)
def test_mistakes(volume, arguments, words):
    with pytest.raises(UserError) as raised:
        main(arguments)
    assert words in str(raised.value)
    assert '\n' not in str(raised.value)
    assert not (volume / 'a.png').exists()


def test_output_is_needed(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert '--output is needed' in capsys.readouterr().err
