"""What a run of inference is to do: a request, completed, checked and frozen.

`ffn.inference.request` makes it; whatever runs a request is given this and never sees the message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffn.inference.core.options import CanvasOptions
from ffn.models.checkpoints import resolve_checkpoint
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.texts import check_folder
from ffn.volumes.masks import Mask
from ffn.volumes.volume import VolumeSource


@dataclass(frozen=True)
class ShiftMaskConfig:
    """Where sections are shifted against each other.

    Attributes:
      source: volume of two channels, x and y shifts; coarser than the image in x and y.
      scale: voxels of the image per voxel of the volume, in x and y.
      threshold: least magnitude of a shift that counts.
      around: box around a position that must be free of shifts, its start relative to the position;
        None: the field of view.
    """

    source: VolumeSource
    scale: int
    threshold: int
    around: Box | None


@dataclass(frozen=True)
class MaskingConfig:
    """Where the field of view may not be centred, and where no seed is placed.

    Attributes:
      masks: voxels where the field of view may not be centred.
      seed_masks: voxels where no seed is placed.
      shift_mask: shifts that the field of view avoids.
    """

    masks: tuple[Mask, ...] = ()
    seed_masks: tuple[Mask, ...] = ()
    shift_mask: ShiftMaskConfig | None = None

    def refusing_missing(self) -> MaskingConfig:
        """The same, with an error where chunks of a volume do not exist."""
        shifts = self.shift_mask
        if shifts is not None:
            shifts = dataclasses.replace(shifts, source=shifts.source.refusing_missing())
        return MaskingConfig(
            tuple(mask.refusing_missing() for mask in self.masks),
            tuple(mask.refusing_missing() for mask in self.seed_masks),
            shifts,
        )


@dataclass(frozen=True)
class InferenceConfig:
    """A complete and consistent request; see inference.proto for what its fields mean.

    `dataclasses.replace` makes another one, with other paths, policies or ways to carry it out. Image,
    masks, options and voxel size can only be changed in the request itself, since results store it.

    Attributes:
      image: the volume.
      image_mean: subtracted from the image.
      image_stddev: by which it is divided then.
      options: how objects grow.
      voxel_size: physical size of a voxel, x, y, z, in any unit; None where the request does not say.
      init_segmentation: labels with which subvolumes are filled beforehand.
      masking: where movement and seeds are forbidden.
      reference_histogram: npz whose histogram the image is matched to, '' for none.
      histogram_per_subvolume: match a subvolume as a whole, and not section by section.
      histogram_masks: voxels that are ignored in the image's histogram.
      model_name: '[package.]module.Class', '' where a network is given.
      model_args: its arguments.
      model_checkpoint_path: its weights; a folder stands for the latest ones.
      use_ema: load the running averages of the weights.
      precision: what the network computes in; '' is float32, 'auto' the fastest that the device does well.
      int8_ranges: greatest activations that precision 'int8' represents, one for each of its convolutions; empty:
        they are found before the run.
      seed_policy: name; '' only where no subvolume is segmented as a whole.
      seed_policy_args: its arguments.
      movement_policy_name: '' is the default.
      movement_policy_args: its arguments; deltas are z, y, x.
      segmentation_output_dir: folder of the results, '' where nothing is written.
      checkpoint_interval: seconds; 0 or less: only when the run is stopped.
      batch_size: fields of view that go through the network together.
      concurrent_requests: subvolumes that are segmented at a time.
      request: the message, serialized; see `ffn.inference.serialization.to_message`.
    """

    image: VolumeSource
    image_mean: float
    image_stddev: float
    options: CanvasOptions
    voxel_size: tuple[float, float, float] | None
    init_segmentation: VolumeSource | None
    masking: MaskingConfig
    reference_histogram: str
    histogram_per_subvolume: bool
    histogram_masks: tuple[Mask, ...]
    model_name: str
    model_args: Mapping[str, Any]
    model_checkpoint_path: str
    use_ema: bool
    precision: str
    int8_ranges: tuple[float, ...]
    seed_policy: str
    seed_policy_args: Mapping[str, Any]
    movement_policy_name: str
    movement_policy_args: Mapping[str, Any]
    segmentation_output_dir: str
    checkpoint_interval: int
    batch_size: int
    concurrent_requests: int
    request: bytes = field(repr=False, compare=False)

    @property
    def voxel_size_zyx(self) -> tuple[float, float, float]:
        """Physical size of a voxel; voxels are cubes where the request does not say."""
        x, y, z = self.voxel_size or (1.0, 1.0, 1.0)
        return z, y, x

    @property
    def results_folder(self) -> Path:
        """Folder of the results.

        Raises:
          UserError: it is not set, or a URL.
        """
        if not self.segmentation_output_dir:
            raise UserError('segmentation_output_dir is not set; it says where the result goes')
        check_folder(self.segmentation_output_dir, 'segmentation_output_dir')
        return Path(self.segmentation_output_dir)

    def refusing_missing(self) -> InferenceConfig:
        """The same, with an error where chunks of a volume that is read do not exist."""
        labels = self.init_segmentation
        return dataclasses.replace(
            self,
            image=self.image.refusing_missing(),
            init_segmentation=None if labels is None else labels.refusing_missing(),
            masking=self.masking.refusing_missing(),
            histogram_masks=tuple(mask.refusing_missing() for mask in self.histogram_masks),
        )

    def resolve(self) -> InferenceConfig:
        """Replaces what depends on when and where the run takes place, so that all of it agrees.

        These are the checkpoint that a folder stands for now, and the precision for 'auto'.
        """
        precision = self.precision
        if precision == 'auto':
            from ffn.models.precision import choose_precision

            precision = choose_precision(precision)
        path = resolve_checkpoint(self.model_checkpoint_path)
        return dataclasses.replace(self, model_checkpoint_path=path, precision=precision)
