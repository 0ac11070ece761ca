"""Candidates of a volume: whatever its blocks are, the same pairs."""

import collections
import itertools
import tracemalloc

import h5py
import numpy as np
import pytest
from scipy import ndimage

from ffn.agglomeration.candidates import (
    Candidate,
    CandidateSearch,
    find_candidates,
    iterate_candidates,
    read_candidates,
    write_candidates,
)
from ffn.agglomeration.decision_points import find_decision_points
from ffn.distributed.local_pools import InProcess, Processes
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.volume import VolumeSource, open_volume

SIZE = (4.0, 4.0, 8.0)  # x, y, z


@pytest.fixture
def volume(tmp_path):
    """Many bodies with gaps between them."""
    random = np.random.default_rng(3)
    centers = np.zeros((24, 30, 37), bool)
    centers.flat[random.choice(centers.size, 40, replace=False)] = True
    distance, nearest = ndimage.distance_transform_edt(~centers, return_indices=True)
    labels = (np.arange(centers.size).reshape(centers.shape) + 1)[tuple(nearest)]
    labels[(distance > 5) | (random.random(centers.shape) < 0.3)] = 0
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file['labels'] = labels.astype(np.uint64) * 2**33
    with open_volume(f'{tmp_path}/labels.h5:labels') as opened:
        yield opened


@pytest.fixture
def found(volume, tmp_path):
    """Finds the candidates of blocks of a size."""
    source = VolumeSource(volume.name)
    count = itertools.count()

    def find(block_size, box=None, distance=12.0, pool=None, folder=None):
        search = CandidateSearch(source, box or volume.box, SIZE, distance, Xyz(*block_size))
        folder = folder or tmp_path / f'blocks{next(count)}'
        return list(find_candidates(search, folder, pool or InProcess(), quiet=True))

    return find


def test_one_block_is_the_whole(volume, found):
    whole = find_decision_points(volume.read(volume.box), SIZE, 12.0)
    assert [(one.id_a, one.id_b) for one in found((99, 99, 99))] == sorted(whole)
    assert len(whole) > 40


@pytest.mark.parametrize('block_size', [(20, 99, 99), (13, 11, 9), (37, 8, 24)])
def test_blocks_do_not_show(found, block_size):
    whole = {one[:2]: one for one in found((99, 99, 99))}
    parts = {one[:2]: one for one in found(block_size)}
    # Who gets a voxel that is equally far from two may depend on the block; who touches does not.
    touching = {pair for pair, one in whole.items() if one.distance == 0}
    assert touching == {pair for pair, one in parts.items() if one.distance == 0}
    assert len(touching) > 20
    common = set(whole) & set(parts)
    assert len(common) > 0.9 * max(len(whole), len(parts))
    equal = [parts[pair].distance == whole[pair].distance for pair in common]
    assert np.mean(equal) > 0.9


def test_points_are_in_the_volume_at_their_segments(volume, found):
    box = Box(Xyz(5, 3, 2), Xyz(30, 20, 21))
    for one in found((9, 9, 9), box):
        assert box.contains(Box(one.point, Xyz(1, 1, 1)))
        near = Box(one.point, Xyz(1, 1, 1)).grow(Xyz(4, 4, 3)).intersection(box)
        assert {one.id_a, one.id_b} <= set(volume.read(near).ravel().tolist())


def test_blocks_that_are_there_are_not_searched_again(found, tmp_path):
    folder = tmp_path / 'blocks'
    whole = found((20, 20, 20), pool=Processes(2), folder=folder)
    assert whole == found((20, 20, 20))
    tables = sorted(folder.rglob('*.csv'))
    assert len(tables) == 2 * 2 * 2
    before = [path.stat().st_mtime_ns for path in tables]
    tables[3].unlink()
    assert found((20, 20, 20), folder=folder) == whole
    after = [path.stat().st_mtime_ns for path in tables]
    assert [a == b for a, b in zip(before, after, strict=True)] == [i != 3 for i in range(8)]
    tables[3].write_text('something\n')
    with pytest.raises(UserError, match=r'is damaged.*; remove it, and run again'):
        found((20, 20, 20), folder=folder)
    tables[3].with_name(f'{tables[3].name}.crc').unlink()
    with pytest.raises(UserError, match='not a table of candidates'):
        found((20, 20, 20), folder=folder)


def test_the_table_comes_back(tmp_path):
    candidates = [Candidate(3, 2**63 + 1, 2.5, Xyz(1, 2, 3)), Candidate(5, 6, 0.0, Xyz(0, 0, 9))]
    write_candidates(tmp_path / 'c.csv', candidates)
    assert read_candidates(tmp_path / 'c.csv') == candidates
    (tmp_path / 'c.csv').write_text('id_a,id_b,distance,x,y,z\n1,2,3,4,5\n')
    (tmp_path / 'c.csv.crc').unlink()
    with pytest.raises(UserError, match='line 2'):
        read_candidates(tmp_path / 'c.csv')
    (tmp_path / 'c.csv').write_text('something\n')
    with pytest.raises(UserError, match='not a table of candidates'):
        read_candidates(tmp_path / 'c.csv')


def test_many_candidates_are_not_held_in_memory(tmp_path):
    count = 30_000
    rows = (Candidate(i, i + 2**40, 0.5, Xyz(i, 2, 3)) for i in range(1, count + 1))
    tracemalloc.start()
    try:
        write_candidates(tmp_path / 'c.csv', rows)
        last = collections.deque(iterate_candidates(tmp_path / 'c.csv'), maxlen=1)
        _, streamed = tracemalloc.get_traced_memory()
        assert len(read_candidates(tmp_path / 'c.csv')) == count
        _, held = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last[0] == Candidate(count, count + 2**40, 0.5, Xyz(count, 2, 3))
    assert streamed < 1_000_000 < held


def test_bad_input(volume, found):
    with pytest.raises(UserError, match='block size x,y,z 4,0,4'):
        list(blocks(volume.box, Xyz(4, 0, 4)))
    with pytest.raises(UserError, match='max_distance is 0'):
        found((9, 9, 9), distance=0)
