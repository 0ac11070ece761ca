"""Links to Neuroglancer."""

from __future__ import annotations

import json
import urllib.parse

import pytest

from ffn.utils.geometry import Xyz
from ffn.visualization.neuroglancer_link import Layer, link, viewer_source

VIEWER = 'https://viewer.example'


@pytest.mark.parametrize(
    ('spec', 'source'),
    [
        ('precomputed://gs://bucket/labels', 'precomputed://gs://bucket/labels'),
        ('zarr://https://host:8080/v.zarr:a/b', 'zarr://https://host:8080/v.zarr/a/b'),
        ('n5://s3://bucket/v.n5/', 'n5://s3://bucket/v.n5/'),
        ('precomputed:///data/labels', None),
        ('zarr://relative/v.zarr', None),
        ('train.h5:labels', None),
        ('results', None),
    ],
)
def test_what_a_browser_can_fetch(spec, source):
    assert viewer_source(spec) == source


def state_of(url):
    assert url.startswith(f'{VIEWER}/#!')
    return json.loads(urllib.parse.unquote(url.partition('#!')[2]))


def test_the_state():
    layers = [
        Layer('image', 'precomputed://gs://b/image'),
        Layer('truth', 'local.h5:labels', [1]),
        Layer('found', 'precomputed://gs://b/seg', [2**63 + 1, 7]),
    ]
    url = link(f'{VIEWER}/', layers, Xyz(1, 2, 3), (8, 8, 40))
    state = state_of(url)
    assert state['position'] == [1.5, 2.5, 3.5]
    assert state['dimensions']['z'] == [pytest.approx(40e-9), 'm']
    assert list(state['dimensions']) == ['x', 'y', 'z']
    assert [layer['name'] for layer in state['layers']] == ['image', 'found']
    assert [layer['type'] for layer in state['layers']] == ['image', 'segmentation']
    assert state['layers'][1]['segments'] == [str(2**63 + 1), '7']
    assert ' ' not in url
    assert '"' not in url
    assert 'dimensions' not in state_of(link(VIEWER, layers, Xyz(1, 2, 3)))


def test_nothing_to_show():
    assert link(VIEWER, [Layer('truth', 'local.h5:labels', [1])], Xyz(0, 0, 0)) is None
