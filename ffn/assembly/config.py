"""What an assembly is asked for: how the box is tiled, when two ids are one object, what is written.

Matching is described in `ffn.assembly.matching`. The commands `ffn segment` and `ffn assemble` take their flags from here.
"""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffn.assembly.matching import Matching
from ffn.assembly.tiling import Tiling
from ffn.assembly.write import default_chunk
from ffn.inference import inference_pb2
from ffn.inference.serialization import absolute_paths
from ffn.utils import protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders, parse_voxel_size
from ffn.utils.settings import section, setting
from ffn.volumes.masks import Mask
from ffn.volumes.outputs import OutputSpec, VoxelSize, choose_voxel_size
from ffn.volumes.shards import Sharding
from ffn.volumes.specs import absolute_spec


def parse_masks(text: str, flag: str) -> tuple[Mask, ...]:
    """Reads MaskConfigs, text format or a file; their paths become absolute.

    Raises:
      UserError: they cannot be parsed, or one is incomplete.
    """
    configs = protos.read_text_or_file(text, inference_pb2.MaskConfigs(), flag)
    absolute_paths(configs)
    return tuple(map(Mask.from_proto, configs.masks))


@dataclass(frozen=True)
class TilingConfig:
    """How a box is cut into overlapping subvolumes."""

    size: Xyz = setting(
        'voxels of a subvolume, overlaps included',
        flag='subvolume_size',
        parse=Xyz.parse,
        metavar='X,Y,Z',
    )
    overlap: Xyz = setting('voxels that two neighbours share', parse=Xyz.parse, metavar='X,Y,Z')
    masks: tuple[Mask, ...] = setting(
        'MaskConfigs, text format or a file; subvolumes masked everywhere are skipped',
        default=(),
        flag='mask',
        parse=parse_masks,
        metavar='MASKS',
    )

    def tile(self, box: Box) -> Tiling:
        """Cuts a box.

        Raises:
          UserError: sizes that do not fit.
        """
        return Tiling(box, self.size, self.overlap)


@dataclass(frozen=True)
class OutputConfig:
    """The whole volume on disk."""

    output: str = setting(
        'FILE.h5:DATASET, or zarr://, zarr3://, n5:// or precomputed:// before a path or URL',
        metavar='VOLUME',
    )
    chunk_size: Xyz | None = setting(
        'voxels of a chunk of the output; by default at most 64,64,64, chosen so that the cores of '
        'subvolumes end with chunks',
        default=None,
        parse=Xyz.parse,
        metavar='X,Y,Z',
    )
    voxel_size: VoxelSize | None = setting(
        'nanometres, stored with the volume (default: that of the request, or of its training)',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    sharding: Sharding = section('Shards', default_factory=Sharding)

    def __post_init__(self) -> None:
        if self.chunk_size is not None and min(self.chunk_size) < 1:
            raise UserError(
                f'chunk size is {both_orders(self.chunk_size)}; expected positive sides'
            )

    def make_spec(self, tiling: Tiling, of_request: VoxelSize | None = None) -> OutputSpec:
        """Describes the output of a tiling; warns where voxel sizes contradict each other.

        Args:
          tiling: what is written.
          of_request: voxel size of the request that it is segmented with, x, y, z; counts where
            `voxel_size` is not given.

        Raises:
          UserError: the output stores a voxel size, and there is none.
        """
        return OutputSpec(
            absolute_spec(self.output),
            tiling.box,
            self.chunk_size or self._default_chunk(tiling),
            choose_voxel_size(self.voxel_size, of_request),
            self.sharding.size,
        )

    def _default_chunk(self, tiling: Tiling) -> Xyz:
        return self.sharding.default_chunk() or default_chunk(tiling)


@dataclass(frozen=True)
class AssemblyConfig:
    """All that decides how subvolumes become one volume, but for the box and the subvolumes."""

    tiling: TilingConfig = section('Subvolumes')
    output: OutputConfig = section('Output')
    matching: Matching = section('When two ids are one object', default_factory=Matching)
    assembly_dir: str = setting(
        'folder for tables, statistics and records; by default `assembly` in the folder of the '
        'subvolumes',
        default='',
        metavar='FOLDER',
    )

    def refusing_missing(self) -> AssemblyConfig:
        """The same, with an error where chunks of a mask do not exist."""
        masks = tuple(mask.refusing_missing() for mask in self.tiling.masks)
        return dataclasses.replace(self, tiling=dataclasses.replace(self.tiling, masks=masks))

    def plan(
        self,
        directory: Path,
        tiling: Tiling,
        masks: tuple[Mask, ...],
        of_request: VoxelSize | None = None,
    ) -> Assembly:
        """Completes what is asked for.

        Args:
          directory: the segmentation's folder.
          tiling: where its subvolumes are.
          masks: subvolumes that are masked everywhere do not exist.
          of_request: see `OutputConfig.make_spec`.

        Raises:
          UserError: the output stores a voxel size, and there is none.
        """
        folder = Path(os.path.abspath(self.assembly_dir or directory / 'assembly'))
        output = self.output.make_spec(tiling, of_request)
        return Assembly(directory, tiling, masks, self.matching, output, folder)


@dataclass(frozen=True)
class Assembly:
    """One assembly: which subvolumes become which output.

    Attributes:
      directory: the segmentation's folder.
      tiling: where its subvolumes are.
      masks: subvolumes that are masked everywhere do not exist.
      matching: which ids are one object.
      output: what is written.
      folder: where tables, statistics and records go.
    """

    directory: Path
    tiling: Tiling
    masks: tuple[Mask, ...]
    matching: Matching
    output: OutputSpec
    folder: Path

    @property
    def overlaps(self) -> Path:
        """Folder of the overlaps, which assemblies with other thresholds and outputs share."""
        return self.directory / 'overlaps'

    @property
    def tiled(self) -> dict[str, Any]:
        """What decides which subvolumes there are, as JSON."""
        return describe_tiling(self.tiling, self.masks)

    def as_dict(self) -> dict[str, Any]:
        """What decides the output, as JSON."""
        output = self.output
        size = output.voxel_size if output.has_voxel_size else None
        return {
            **self.tiled,
            'matching': self.matching.as_dict(),
            'output': output.spec,
            'chunk_xyz': list(output.chunk),
            **({'shard_xyz': list(output.shard)} if output.shard else {}),
            **({'voxel_size_xyz': list(size)} if size else {}),
        }


def describe_tiling(tiling: Tiling, masks: Iterable[Mask]) -> dict[str, Any]:
    """Describes which subvolumes there are, as JSON.

    Args:
      tiling: where they may be.
      masks: leave out those that are masked everywhere.
    """
    text = ''.join(f'masks {{\n{textwrap.indent(mask.text, "  ")}}}\n' for mask in masks)
    return {'tiling': tiling.as_dict(), 'masks': text}
