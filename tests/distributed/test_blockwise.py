"""Blocks that are done once, however often a stage is run."""

import functools

import pytest

from ffn.distributed.blockwise import block_file, run_blocks
from ffn.distributed.local_pools import InProcess, Processes
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks

BOX = Box(Xyz(-3, 5, 2), Xyz(33, 20, 17))
CORES = functools.partial(blocks, BOX, Xyz(10, 9, 8))


def write_size(number, block, path):
    """A task that fails for the blocks at one x."""
    if block.start.x == number:
        raise UserError(f'nothing at {number}')
    path.parent.mkdir(parents=True, exist_ok=True)
    assert not path.exists()
    path.write_text(str(block.size))


@pytest.mark.parametrize('pool', [InProcess(), Processes(2)], ids=['here', 'processes'])
def test_only_what_is_missing_is_done(tmp_path, pool):
    with pytest.raises(UserError, match='sizes: nothing at 17; 8 more tasks failed'):
        run_blocks(pool, write_size, (17,), CORES, tmp_path, 'sizes', True, '.txt')
    done = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*.txt')}
    assert len(done) == 3 * 3 * 3
    run_blocks(pool, write_size, (99,), CORES, tmp_path, 'sizes', True, '.txt')
    files = {block_file(tmp_path, block, '.txt'): block for block in CORES()}
    assert set(files) == set(tmp_path.rglob('*.txt'))
    assert len(files) == 4 * 3 * 3
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert all(path.read_text() == str(block.size) for path, block in files.items())
    assert block_file(tmp_path, Box(Xyz(7, 14, 2), Xyz(1, 1, 1))) == tmp_path / '2/14/7'
