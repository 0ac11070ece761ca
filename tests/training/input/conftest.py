from __future__ import annotations

import pytest

from tests.training.input.records import write_shards


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp('one'))


@pytest.fixture(scope='module')
def mixed(tmp_path_factory):
    """Two thirds are of u, v and w share the rest."""
    folder = tmp_path_factory.mktemp('mixed')
    return write_shards(folder, 90, names=['u', 'v', 'u', 'u', 'w', 'u'])
