"""The page that `ffn evaluate --html` writes."""

from __future__ import annotations

import base64
import html
import io
import re

import h5py
import numpy as np
import pytest
from PIL import Image

from ffn.cli.evaluate import main
from ffn.evaluation import case_figures
from ffn.utils.errors import UserError

SOLID = 132, 120  # pixels, so that tests are quick


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Object 5 is cut at x = 20 into 1 and 2; segment 3 joins 6 and 7; 8 is missing."""
    monkeypatch.setattr(case_figures, '_SOLID', SOLID)
    truth = np.zeros((20, 60, 50), np.uint32)
    truth[:, :15], truth[:, 15:30], truth[:, 30:45], truth[:, 45:] = 5, 6, 7, 8
    found = np.zeros(truth.shape, np.uint64)
    found[:, :15, :20], found[:, :15, 20:], found[:, 15:45] = 1, 2, 3
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['truth'], file['seg'] = truth, found
        file['raw'] = np.full(truth.shape, 80, np.uint8)
        file['rgb'] = np.zeros((3, 4, 5, 6), np.uint8)
    return tmp_path


def report(folder, *more, name='v.h5:seg'):
    main(
        [
            '--segmentation',
            f'{folder}/{name}',
            '--groundtruth',
            f'{folder}/v.h5:truth',
            '--html',
            f'{folder}/out/a.html',
            '--quiet',
            *more,
        ]
    )
    return (folder / 'out' / 'a.html').read_text()


def has_hue(picture, color):
    """Whether a part of a picture has the direction of a colour."""
    bright = picture.reshape(-1, 3).astype(float)
    bright = bright[bright.max(axis=1) > 80]
    same = (bright @ color) / np.linalg.norm(bright, axis=1) / np.linalg.norm(color) > 0.995
    return np.count_nonzero(same) > 50


def pictures(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_what_is_on_the_page(folder):
    page = report(
        folder,
        '--image',
        f'{folder}/v.h5:raw',
        '--boundary',
        '1',
        '--skeletons_from_groundtruth',
        '--voxel_size',
        '8,8,8',
    )
    for words in (
        'Objects that are split',
        'Segments that merge objects',
        'Objects that are missing',
        'Expected run length',
        'merge threshold',
        '400',
        'labelled in truth, without 1 at borders',
        'v.h5:seg',
        'normalised',
    ):
        assert words in page
    assert '<script' not in page
    assert re.search(r'(href|src)="(?!data:)', page) is None  # it stands alone
    planes, cases = pictures(page)[:3], pictures(page)[3:]
    assert [plane.shape[1] for plane in planes] == [792, 948, 948]  # y is longer than x, x than z
    cut, cut_3d, joined, joined_3d, missing, missing_3d = cases
    captions = re.findall('<figcaption>(.*?)</figcaption>', page)[3:]
    named = [re.findall(r'</span> (\d+)', caption) for caption in captions]
    assert [sorted(ids) for ids in named] == [['1', '2', '5'], ['3', '6', '7'], ['8']]
    # The pieces in 3-d have the colours of the caption too: their hue, which light does not change.
    for picture, caption in ((cut_3d, captions[0]), (joined_3d, captions[1])):
        assert picture.shape == (120, 2 * 132 + 5, 3)
        colors = [tuple(map(int, c)) for c in re.findall(r'rgb\((\d+),(\d+),(\d+)\)', caption)]
        for color in colors[1:]:
            assert has_hue(picture, color), (color, caption)
    assert has_hue(missing_3d, (255, 190, 0))
    assert [ids[0] for ids in named] == ['5', '3', '8']
    # The piece with the colour that the caption gives it is under the cross; so is the image above.
    for picture, caption in ((cut, captions[0]), (joined, captions[1])):
        assert picture[145, 145].tolist() == [80] * 3
        colors = [tuple(map(int, c)) for c in re.findall(r'rgb\((\d+),(\d+),(\d+)\)', caption)]
        drawn = {tuple(p) for p in picture.reshape(-1, 3).tolist()}
        areas = colors[:1] if picture is joined else colors[1:]
        outlines = colors[1:] if picture is joined else colors[:1]
        assert set(outlines) <= drawn
        assert {tuple((80 + c) // 2 for c in color) for color in areas} <= drawn
    assert missing[297 + 155, 200].tolist() == [80] * 3  # no segment is there


def test_a_click_selects_the_position(folder):
    page = report(folder, '--boundary', '0')
    positions = re.findall('<code>([^<]*)</code>', page)
    assert len(positions) == 6
    x, y, z = map(int, positions[0].split(', '))
    assert x in (19, 20)  # the two voxels where the pieces meet
    assert 3 < y < 15
    assert 3 < z < 17
    assert positions[1] == (
        f'ffn view --truth {folder}/v.h5:truth --labels {folder}/v.h5:seg --position {x},{y},{z}'
    )


def test_the_command_that_shows_a_case(folder):
    page = report(
        folder, '--image', f'{folder}/v.h5:raw', '--voxel_size', '8,8,30', '--offset', '0,0,0'
    )
    commands = re.findall('<code>(ffn view[^<]*)</code>', page)
    assert len(commands) == 3
    before = f'ffn view --image {folder}/v.h5:raw --truth {folder}/v.h5:truth --voxel_size 8,8,30'
    assert all(command.startswith(f'{before} --position ') for command in commands)


def test_the_overview_says_what_it_counts_as_missed(folder):
    page = report(folder)
    assert 'of an object that was found in part, the rest is not marked' in page
    assert 'are of missed objects' in page


def test_links(folder, monkeypatch):
    page = report(folder, '--viewer_url', 'https://viewer.example')
    assert 'href' not in page  # nothing there that a browser can fetch
    from ffn.cli import evaluate

    monkeypatch.setattr(evaluate, 'open_truth', lambda spec, *_: original(f'{folder}/v.h5:truth'))
    from ffn.evaluation.sources import open_truth as original

    main(
        [
            '--segmentation',
            f'{folder}/v.h5:seg',
            '--groundtruth',
            'precomputed://gs://b/<t>',
            '--html',
            f'{folder}/b.html',
            '--viewer_url',
            'https://viewer.example',
        ]
    )
    page = (folder / 'b.html').read_text()
    links = [html.unescape(url) for url in re.findall('href="([^"]+)"', page)]
    assert len(links) == 3
    assert all(url.startswith('https://viewer.example/#!%7B%22position') for url in links)
    assert '<t>' not in page


def test_nothing_is_wrong(folder):
    page = report(folder, name='v.h5:truth')
    assert page.count('<p>None.</p>') == 3
    assert len(pictures(page)) == 3  # planes through the middle
    assert page.count(': 0 voxels are in a smaller piece') == 3


def test_the_planes_show_matched_objects_in_one_colour(folder):
    """Planes without an image: truth, segmentation and differences beside each other."""
    xy = pictures(report(folder, '--boundary', '0'))[0].astype(int)
    height, width = 470, round(470 * 50 / 60)
    assert xy.shape == (20 + height, 3 * (width + 8) - 8, 3)
    truth, found, differing = (xy[20:, i * (width + 8) :][:, :width] for i in range(3))
    row = {5: 60, 6: 180, 7: 290, 8: 430}
    assert truth[row[5], 50].tolist() == found[row[5], 250].tolist()  # 5 and its larger piece, 2
    assert len(np.unique(found[40:80, 20:100].reshape(-1, 3), axis=0)) == 2  # 1 is striped
    assert truth[row[6], 50].tolist() == found[row[6], 50].tolist() == found[row[7], 50].tolist()
    assert len(np.unique(truth[270:310, 20:100].reshape(-1, 3), axis=0)) == 2  # 7 is striped
    assert found[row[8], 50].tolist() == [150] * 3
    hues = [int(differing[r, 50].argmax()) for r in (row[5], row[7])]
    assert hues == [2, 0]  # a smaller piece is blue, what is merged red
    assert differing[row[6], 50].tolist() == differing[row[5], 250].tolist() == [150] * 3
    assert differing[row[8], 50, 2] < 60 < 150 < differing[row[8], 50, 1]  # missed: yellow


def test_an_image_of_several_channels_is_refused_before_anything_is_done(folder):
    with pytest.raises(UserError, match='3 channels'):
        report(folder, '--image', f'{folder}/v.h5:rgb')
    assert not (folder / 'out').exists()


def test_the_golden_box(data_dir, goldens_dir, tmp_path):
    """A real segmentation of a part of the volume: the image below the cross is that of the position."""
    from ffn.cli.import_stack import main as import_stack
    from ffn.volumes.importing.import_labels import import_labels

    sample = data_dir / 'fib25' / 'training_sample2'
    import_labels(sample / 'groundtruth.h5.gz', f'{tmp_path}/t.h5:labels')
    import_stack(
        ['--images', f'{sample}/grayscale_maps/iso.*.png', '--output', f'{tmp_path}/t.h5:raw']
    )
    found = main(
        [
            '--segmentation',
            f'{goldens_dir}/segmentation_box.npz',
            '--offset',
            '60,60,60',
            '--groundtruth',
            f'{tmp_path}/t.h5:labels',
            '--image',
            f'{tmp_path}/t.h5:raw',
            '--html',
            f'{tmp_path}/a.html',
            '--worst',
            '3',
        ]
    )
    assert found.box.start == (60, 60, 60)
    assert found.scores['segmentation'].rand_error == pytest.approx(0.0414, abs=1e-4)
    cases = [*found.splits, *found.mergers, *found.missing]
    drawn = pictures((tmp_path / 'a.html').read_text())
    assert len(cases) == 9
    assert len(drawn) == 3 + 2 * 9
    with h5py.File(tmp_path / 't.h5') as file:
        for case, picture in zip(cases, drawn[3::2]):
            assert picture[145, 145].tolist() == [file['raw'][tuple(case.at_xyz.zyx)]] * 3
        for case in (*found.splits, *found.missing):
            assert file['labels'][tuple(case.at_xyz.zyx)] == case.id
