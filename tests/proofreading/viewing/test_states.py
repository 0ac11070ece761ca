"""State files of the viewer."""

from __future__ import annotations

import json

import pytest

from ffn.proofreading.viewing.states import SavedView, read_view, with_sources, without_sources
from ffn.utils import trust
from ffn.utils.errors import UserError

FLAGS = ('things', 'image', 'labels')


def test_paths_move_with_the_file(tmp_path):
    (tmp_path / 'a').mkdir()
    shown = {
        'image': [f'{tmp_path}/a/volume.h5:raw', 'precomputed://gs://bucket/raw'],
        'labels': [f'zarr://{tmp_path}/a/labels.zarr', '/elsewhere/labels.zarr'],
        'things': [],
    }
    SavedView(shown, '4,4,40', {'layers': []}).write(tmp_path / 'a' / 'view.json')
    stored = json.loads((tmp_path / 'a' / 'view.json').read_text())
    assert stored['shown'] == {
        'image': ['volume.h5:raw', 'precomputed://gs://bucket/raw'],
        'labels': ['zarr://labels.zarr', '/elsewhere/labels.zarr'],
    }
    (tmp_path / 'a').rename(tmp_path / 'b')
    with trust.only(trust.Trust(remote=True)):
        view = read_view(tmp_path / 'b' / 'view.json', FLAGS)
    assert view.shown == {
        'image': [f'{tmp_path}/b/volume.h5:raw', 'precomputed://gs://bucket/raw'],
        'labels': [f'zarr://{tmp_path}/b/labels.zarr', '/elsewhere/labels.zarr'],
    }
    assert (view.voxel_size, view.state) == ('4,4,40', {'layers': []})


GOOD = {'ffn_view': 1, 'shown': {'image': ['v.h5:raw']}, 'voxel_size': '', 'state': {}}


@pytest.mark.parametrize(
    ('content', 'why'),
    [
        ('{', 'not JSON'),
        ('[]', 'no JSON object'),
        ({'layers': []}, 'no state file of ffn view'),
        ({**GOOD, 'ffn_view': 2}, 'no state file of ffn view'),
        ({**GOOD, 'shown': ['v']}, 'damaged'),
        ({**GOOD, 'shown': {'model': ['v']}}, 'damaged'),
        ({**GOOD, 'shown': {'image': 'v'}}, 'damaged'),
        ({**GOOD, 'shown': {'image': [3]}}, 'damaged'),
        ({**GOOD, 'state': []}, 'damaged'),
        ({**GOOD, 'voxel_size': 3}, 'damaged'),
        ({**GOOD, 'shown': {'image': ['zarr://https://example.org/x']}}, '--allow_remote'),
    ],
)
def test_other_files_are_refused(tmp_path, content, why):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / 'view.json').write_text(text)
    with pytest.raises(UserError, match=rf'view\.json.*{why}'):
        read_view(tmp_path / 'view.json', FLAGS)


SERVED = [
    {'name': 'raw', 'type': 'image', 'source': 'python://volume/1', 'shader': 'x'},
    {'name': 'labels', 'type': 'segmentation', 'source': 'precomputed://http://127.0.0.1:1/f/2'},
]
DRAWN = {'name': 'mine', 'type': 'annotation', 'source': {'url': 'local://annotations'}}


def test_addresses_are_left_out_and_put_in_again():
    state = {'position': [1, 2, 3], 'layers': [*SERVED, DRAWN]}
    saved = without_sources(state, ['raw', 'labels'])
    assert '127.0.0.1' not in json.dumps(saved)
    assert 'python://' not in json.dumps(saved)
    saved['layers'][0]['shader'] = 'y'
    saved['layers'].reverse()
    now = [
        {**SERVED[0], 'source': 'python://volume/9'},
        SERVED[1],
        {'name': 'new', 'type': 'image'},
    ]
    shown = with_sources(saved, {'position': [0, 0, 0], 'layers': now})
    assert shown['position'] == [1, 2, 3]
    assert [layer['name'] for layer in shown['layers']] == ['mine', 'labels', 'raw', 'new']
    assert shown['layers'][2] == {**SERVED[0], 'source': 'python://volume/9', 'shader': 'y'}
    assert shown['layers'][0] == DRAWN


def test_sources_on_other_machines_need_trust():
    for source in (
        'precomputed://https://example.org/x',
        {'url': 'precomputed://https://example.org/x'},
        ['local://annotations', 'precomputed://https://example.org/x'],
        None,
        3,
    ):
        saved = {'layers': [{'name': 'far', 'type': 'image', 'source': source}]}
        assert with_sources(saved, {'layers': SERVED})['layers'] == SERVED
    with trust.only(trust.Trust(remote=True)):
        saved = {'layers': [{'name': 'far', 'source': 'precomputed://https://example.org/x'}]}
        assert len(with_sources(saved, {'layers': SERVED})['layers']) == 3


@pytest.mark.parametrize('layers', [3, ['raw'], [{'type': 'image'}], [{'name': 3}]])
def test_damaged_layers(layers):
    with pytest.raises(UserError, match='damaged'):
        with_sources({'layers': layers}, {'layers': SERVED})
