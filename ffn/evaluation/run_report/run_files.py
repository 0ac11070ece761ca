"""What the argument of `ffn report` names: the folder of a run, its assembly, a written volume."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffn.assembly.reconcile import STATISTICS, again
from ffn.assembly.tiling import Tiling
from ffn.inference import storage
from ffn.utils.checksums import unsealed
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.provenance import MANIFEST, read_claim

MERGES = 'merges.csv'


@dataclass(frozen=True)
class RunFiles:
    """Where the parts of a run are; None where there is none.

    Attributes:
      subvolumes: folder of the segmented subvolumes.
      tiling: where these are.
      assembly: folder of the tables of their assembly, if it is complete.
      statistics: of the assembly.
      min_shared: voxels that two ids must share to be one object.
      volume: the written volume.
      merges: folder of an agglomeration.
      unfinished: whether subvolumes are still missing.
      unread: that the volume was left out, and why; '' if it was not.
    """

    subvolumes: Path | None = None
    tiling: Tiling | None = None
    assembly: Path | None = None
    statistics: dict[str, Any] | None = None
    min_shared: int = 1
    volume: str | None = None
    merges: Path | None = None
    unfinished: bool = False
    unread: str = ''


def find_run(
    run: str, assembly_dir: str = '', volume: str | None = None, merges: str | None = None
) -> RunFiles:
    """Finds out what a user names.

    Args:
      run: the segmentation's folder, its assembly folder, a folder of `ffn agglomerate`, or a volume.
      assembly_dir: folder of the assembly, where it is not `assembly` in the segmentation's folder.
      volume: the volume, where it is not what the assembly wrote.
      merges: folder of an agglomeration.

    Raises:
      UserError: it is none of these, or a record is damaged.
    """
    folder = Path(run)
    found = _find_folders(folder, assembly_dir)
    if assembly_dir and found.assembly != Path(assembly_dir):
        raise UserError(
            f'--assembly_dir {assembly_dir} is for the folder of a segmentation, and {run} is none'
        )
    if merges is not None:
        if not Path(merges, MERGES).exists():
            raise UserError(
                f'--merges {merges} holds no {MERGES}; give a folder of ffn agglomerate'
            )
        found = dataclasses.replace(found, merges=Path(merges))
    if volume is not None:
        return dataclasses.replace(found, volume=volume)
    is_run = found.subvolumes is not None or found.assembly is not None
    if is_run or (folder / MERGES).exists():
        return found
    return dataclasses.replace(found, volume=run)


def _find_folders(folder: Path, assembly_dir: str) -> RunFiles:
    if not folder.is_dir():
        return RunFiles()
    if (folder / MERGES).exists():
        return RunFiles(merges=folder)
    if (folder / STATISTICS).exists() and (folder / MANIFEST).exists():
        above = folder.parent
        run = RunFiles(subvolumes=above) if (above / 'overlaps' / MANIFEST).exists() else RunFiles()
        return _with_assembly(run, folder)
    overlaps = folder / 'overlaps' / MANIFEST
    manifest = overlaps if overlaps.exists() else folder / MANIFEST
    if not manifest.exists():
        return RunFiles()
    tiling = _tiling(read_claim(manifest), manifest)
    if tiling is None:
        return RunFiles()
    run = RunFiles(
        subvolumes=folder, tiling=tiling, unfinished=(folder / storage.UNFINISHED).exists()
    )
    assembly = Path(assembly_dir) if assembly_dir else folder / 'assembly'
    if (assembly / STATISTICS).exists():
        return _with_assembly(run, assembly)
    if assembly_dir:
        raise UserError(f'--assembly_dir {assembly} holds no {STATISTICS}')
    return run


def _with_assembly(run: RunFiles, assembly: Path) -> RunFiles:
    path = assembly / STATISTICS
    statistics = unsealed(path.read_bytes(), path, again(assembly))
    if not all(isinstance(statistics.get(name), int) for name in ('ids', 'objects')):
        raise UserError(f'{path} is damaged: it does not count ids and objects; {again(assembly)}')
    manifest = assembly / MANIFEST
    claim = read_claim(manifest)
    tiling, matching = _tiling(claim, manifest), claim.get('matching')
    least = matching.get('min_voxels') if isinstance(matching, dict) else None
    if tiling is None or not isinstance(least, int):
        raise UserError(f'{manifest} is not that of an assembly; {again(assembly)}')
    return dataclasses.replace(
        run,
        tiling=tiling,
        assembly=assembly,
        statistics=statistics,
        min_shared=least,
        volume=str(claim['output']) if 'output' in claim else None,
    )


def _tiling(claim: dict[str, Any], path: Path) -> Tiling | None:
    """Reads the tiling of a manifest; None if it is of another kind."""
    stored = claim.get('tiling')
    if stored is None:
        return None
    try:
        start, size, subvolume, overlap = (
            Xyz(*map(int, stored[name]))
            for name in ('box_start_xyz', 'box_size_xyz', 'subvolume_size_xyz', 'overlap_xyz')
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path} holds no tiling: {json.dumps(stored)[:100]}') from error
    return Tiling(Box(start, size), subvolume, overlap)
