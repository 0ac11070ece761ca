"""Tables of an assembly: on a disk that is full, and how much of them is read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ffn.assembly.assembly import assemble, assign_global_ids, count_overlaps, describe
from ffn.assembly.masked import find_unmasked_subvolumes
from ffn.assembly.reconcile import Tables
from ffn.assembly.tiling import Tiling
from ffn.distributed.local_pools import InProcess
from ffn.inference import storage
from ffn.utils import checksums
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from tests.assembly.cut import blobs, cut
from tests.assembly.test_assemble import SHAPE, make_assembly
from tests.full_disk import files_of_at_most


@pytest.mark.parametrize('size', [60, 100, 150])
def test_a_full_disk_is_told(tmp_path, size):
    """Of some tables only the end does not fit; none of them may be taken for whole."""
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(20, 30, 21), Xyz(5, 4, 3))
    cut(tmp_path / 'results', blobs(SHAPE, 9, 2).astype(np.uint64), tiling)
    assembly = make_assembly(tmp_path, tiling, f'{tmp_path}/whole.h5:labels')
    assembly.folder.mkdir()
    present = find_unmasked_subvolumes(tiling, (), assembly.overlaps, InProcess(), quiet=True)
    crcs = count_overlaps(assembly, present, InProcess(), quiet=True)
    with files_of_at_most(size), pytest.raises(OSError, match=re.escape(str(assembly.folder))):
        assign_global_ids(assembly, present, crcs, quiet=True)
    done = assemble(assembly, InProcess(), quiet=True)
    assert done['objects_in_cores'] == len(np.unique(blobs(SHAPE, 9, 2))) - 1


def test_tables_are_on_disk_before_they_are_mapped(tmp_path, monkeypatch):
    """Where a mapped file has holes, a full disk ends the process."""
    tiling = Tiling(Box.of_shape(SHAPE), Xyz(20, 30, 21), Xyz(5, 4, 3))
    cut(tmp_path / 'results', blobs(SHAPE, 9, 2).astype(np.uint64), tiling)
    mapped, memmap = {}, np.memmap

    class Watched(memmap):
        def __new__(cls, path, dtype=np.uint8, mode='r+', **kwargs):
            mapped[Path(path).name] = mapped.get(Path(path).name, Path(path).stat().st_size)
            return memmap(path, dtype, mode, **kwargs)

    monkeypatch.setattr(np, 'memmap', Watched)
    assemble(
        make_assembly(tmp_path, tiling, f'{tmp_path}/whole.h5:labels'), InProcess(), quiet=True
    )
    assert mapped['objects.bin'] > 0
    assert mapped['sizes.bin'] > 0


def test_joins_within_a_subvolume_through_another(tmp_path):
    """The second has one object where the first has three; a fourth stays apart."""
    tiling = Tiling(Box.of_shape((5, 16, 19)), Xyz(14, 16, 5), Xyz(6, 4, 3))
    labels = np.zeros((5, 16, 19), np.uint64)
    for number, y in enumerate((1, 4, 7, 12), 1):
        labels[1:4, y : y + 2, 2:12] = number
    first, second = map(tiling.subvolume, tiling.places())
    joined = np.where(labels == 4, 2, labels > 0).astype(np.uint64)
    for box, stored in ((first, labels), (second, joined)):
        storage.save_result(
            tmp_path / 'results', box.start.zyx, stored[box.slices_zyx], {}, b'', {}, {}
        )
    assembly = make_assembly(tmp_path, tiling, f'{tmp_path}/whole.h5:labels')
    found = assemble(assembly, InProcess(), quiet=True)
    assert found['objects'] == 2
    assert found['joined_within_subvolumes'] == 2
    assert '; 2 joins of ids of one subvolume' in describe(found, assembly)


def test_of_tables_what_is_looked_up_is_read(tmp_path):
    """Each task opens them: damage elsewhere, in tables or in checksums, does not show."""
    count = 40_000
    ones = np.ones(count, np.int64)
    tables = {'offsets': np.arange(count + 1), 'ids': ones, 'objects': ones, 'sizes': ones[:2]}
    for name, table in {**tables, 'crcs': np.arange(count, dtype=np.uint32)}.items():
        (tmp_path / f'{name}.bin').write_bytes(table.tobytes())
        checksums.record(tmp_path / f'{name}.bin')
    for name in ('crcs.bin', 'ids.bin.crc', 'crcs.bin.crc'):
        data = bytearray((tmp_path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / name).write_bytes(data)
    opened = Tables(tmp_path)
    assert opened.crcs[7] == 7
    assert [part.tolist() for part in opened.look_up(7)] == [[1], [1]]
    with pytest.raises(UserError, match='is damaged'):
        opened.crcs[count // 2]
