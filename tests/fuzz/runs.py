"""Loaders of what `ffn report` reads: tables of decisions, counters of subvolumes, records of an assembly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ffn.assembly.reconcile import STATISTICS
from ffn.assembly.tiling import Tiling
from ffn.evaluation.run_report.joins import Joins, read_joins
from ffn.evaluation.run_report.run_files import find_run
from ffn.evaluation.run_report.subvolume_facts import read_row
from ffn.inference import storage
from ffn.utils.atomic import write_json
from ffn.utils.checksums import sealed
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes import provenance
from tests.fuzz.case import Loader
from tests.fuzz.mutations import edit_csv_file, edit_json_file, edit_npz_file, edit_text_file

_SHAPE = (5, 6, 7)
_TILING = Tiling(Box.of_shape(_SHAPE), Xyz(7, 6, 5), Xyz(0, 0, 0))
_MERGES = """id_a,id_b,distance,x,y,z,accepted,iou,note
1,2,1.5,10,20,30,1,0.9500,
18446744073709551614,3,2,4,5,6,0,0.4000,
4,5,1,7,8,9,0,,too close
"""


def _good_joins(found: Joins) -> bool:
    examples = (*found.weakest_accepted, *found.strongest_rejected)
    scored = sum(found.histogram_accepted) + sum(found.histogram_rejected)
    return (
        scored + found.not_scored == found.accepted + found.rejected
        and all(0 <= one.score <= 1 for one in examples)
        and all(0 <= i < 2**64 for one in examples for i in one.ids)
    )


def _write_subvolume(folder: Path) -> None:
    counters = {'predict-calls': 7, 'predict-time-ms': 12, 'seeds': 3, 'rejected-weak': 1}
    labels = np.arange(210, dtype=np.uint16).reshape(_SHAPE)
    storage.save_result(folder, (0, 0, 0), labels, {}, b'', counters, {})


def _read_subvolume(folder: Path) -> bytes:
    _, (fact,) = read_row(folder, _TILING, None, 1, [Xyz(0, 0, 0)])
    if not fact['present']:  # the file is gone: nothing is segmented there
        raise UserError(f'{folder} holds no result')
    return fact.tobytes()


def _write_assembly(folder: Path) -> None:
    claim = {'tiling': _TILING.as_dict(), 'matching': {'min_voxels': 5}, 'output': 'zarr://out'}
    provenance.claim(folder, claim)
    write_json(folder / STATISTICS, sealed({'ids': 7, 'objects': 5}))


def _read_assembly(folder: Path) -> tuple[Any, ...]:
    found = find_run(str(folder))
    if found.statistics is None:  # a file is gone: this is not an assembly
        raise UserError(f'{folder} is no assembly')
    counts = [found.statistics.get(name) for name in ('ids', 'objects')]
    return found.tiling, found.min_shared, found.volume, counts


def _good_run(found: tuple[Any, ...]) -> bool:
    return found[:3] == (_TILING, 5, 'zarr://out')


LOADERS = (
    Loader(
        'table of decisions (CSV)',
        lambda folder: (folder / 'merges.csv').write_text(_MERGES),
        read_joins,
        ('*.csv',),
        (('*.csv', edit_csv_file), ('*.csv', edit_text_file)),
        check=_good_joins,
    ),
    Loader(
        'counters of a subvolume (npz)',
        _write_subvolume,
        _read_subvolume,
        ('*/*/*.npz',),
        (('*/*/*.npz', edit_npz_file),),
        sealed=True,
    ),
    Loader(
        'records of an assembly (JSON)',
        _write_assembly,
        _read_assembly,
        ('*.json',),
        (('*.json', edit_json_file),),
        sealed=True,
        check=_good_run,
    ),
)
