"""The rules by which settings follow from what was measured; each says why.

The sizes follow published flood-filling networks: fields of view of 33×33×33 voxels at 8 to 10 nm (fly, isotropic),
33×33×17 at 8×8×33 nm (human cortex, thick sections): in z, the field of view shrinks with the square root of the
anisotropy. Januszewski et al. 2018; Shapson-Coe et al. 2024, doi:10.1126/science.adk4858.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ffn.planning.measure import Measurements
from ffn.utils.geometry import Xyz, whole_voxels

THRESHOLDS = (0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Sizes of networks: depth, features and field of view in the plane; the larger for a GPU.
_LARGE, _SMALL = (12, 32, 33), (6, 16, 25)
_DELTA = 8
# Least share of the voxels along an axis that should be the centre of a patch: a smaller field of view in the plane costs more
# than one of fewer sections.
_CENTRES_IN_PLANE, _CENTRES_ALONG_Z = 1 / 8, 1 / 2
# Nanometres; pixels for which twice their width comes nearer to this cost more than they show.
_TARGET_NM = 8.0
# Sizes below which objects may become background, the largest that costs little is taken.
_MIN_SIZES = (10000, 5000, 2000, 1000, 500, 200, 100, 50)
_DUST = 0.01
# Share of the places where objects follow each other and touch, above which membranes are no background.
_DENSE = 0.95
_ISOTROPIC, _THICK = 1.25, 4.0
# Sides of a subvolume: what one canvas of some 5 GB holds.
_SUBVOLUME = 512
# Activations of a training step, per layer and voxel and feature: those kept for gradients, and gradients.
_COPIES, _BYTES = 3, 4


@dataclass(frozen=True)
class Choice:
    """One setting.

    Attributes:
      name: what it is called where it is used.
      value: its value.
      reason: why.
    """

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """All settings.

    Attributes:
      choices: in the order in which they are explained.
      warnings: what is doubtful in the data.
    """

    choices: tuple[Choice, ...]
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        return next(choice.value for choice in self.choices if choice.name == name)


def make_plan(measured: Measurements, memory_gib: float, has_gpu: bool, batch_size: int) -> Plan:
    """Chooses the settings of a training and of inference after it.

    Args:
      measured: the data.
      memory_gib: of the device that trains.
      has_gpu: whether it is a GPU.
      batch_size: examples of a step.
    """
    size = measured.voxel_size.xyz if measured.voxel_size else None
    anisotropy = 1.0 if size is None else max(1.0, size[2] / max(size[:2]))
    choices = [*_image_choices(measured, size, anisotropy)]
    network = _Network.choose(measured.box.size, anisotropy, memory_gib, has_gpu, batch_size)
    choices += network.choices(anisotropy, has_gpu)
    choices += _sampling_choices(measured, network)
    choices += _augmentation_choices(size, anisotropy, network)
    min_size = next(c.value for c in choices if c.name == 'min_size')
    choices.append(
        Choice(
            'seed_policy',
            'PolicyPeaks2d' if anisotropy >= _THICK else 'PolicyPeaks',
            'sections are thick: seeds are found in each by itself'
            if anisotropy >= _THICK
            else 'seeds lie where the nearest edge is farthest, in physical distance',
        )
    )
    choices.append(
        Choice(
            'min_segment_size',
            max(50, min_size // 10),
            'a tenth of min_size: smaller objects are left to agglomeration',
        )
    )
    choices += _tiling_choices(measured.image_box.size, network.fov)
    choices.append(
        Choice(
            'max_steps',
            math.ceil(measured.labelled / batch_size),
            'as many fields of view as there are labelled voxels; training may be stopped and extended',
        )
    )
    return Plan(tuple(choices), tuple(_warnings(measured, network, size, min_size)))


@dataclass(frozen=True)
class _Network:
    """Sizes of a network, x, y, z."""

    depth: int
    features: int
    fov: Xyz
    deltas: Xyz
    is_cut: bool = False

    @classmethod
    def choose(
        cls, size: Xyz, anisotropy: float, memory_gib: float, has_gpu: bool, batch_size: int
    ) -> _Network:
        depth, features, usual = _LARGE if has_gpu else _SMALL
        side = _fitting(usual, usual, min(size.x, size.y), _CENTRES_IN_PLANE)
        usual_z = _odd(side / math.sqrt(anisotropy))
        fov = Xyz(side, side, _fitting(usual_z, usual, size.z, _CENTRES_ALONG_Z))
        deltas = Xyz(*(_moves(n, usual) for n in fov))
        is_cut = (side, fov.z) != (usual, usual_z)
        network = cls(depth, features, fov, deltas, is_cut)
        while network.depth > 4 and network.memory_gib(batch_size) > memory_gib / 2:
            network = dataclasses.replace(network, depth=network.depth - 1)
        return network

    @property
    def radius(self) -> Xyz:
        """Radius of a training patch."""
        return Xyz(*map(_radius, self.fov, self.deltas))

    def memory_gib(self, batch_size: int) -> float:
        """Estimated memory of a training step, in GiB."""
        layers = 2 * self.depth
        values = batch_size * math.prod(self.fov) * self.features * layers * _COPIES
        return values * _BYTES / 2**30

    def choices(self, anisotropy: float, has_gpu: bool) -> Iterator[Choice]:
        device = 'a GPU was found' if has_gpu else 'no GPU was found: a small network'
        yield Choice(
            'model_args',
            {
                'depth': self.depth,
                'features': self.features,
                'fov_size': list(self.fov),
                'deltas': list(self.deltas),
            },
            f'{device}; in z, the field of view shrinks with the root of the anisotropy, {anisotropy:.3g}, '
            'and so do the moves'
            + (
                '; it is smaller than usual so that patches fit into the labels'
                if self.is_cut
                else ''
            ),
        )


def _odd(value: float) -> int:
    return max(3, 2 * round((value - 1) / 2) + 1)


def _moves(fov: int, usual: int) -> int:
    """Moves along an axis: in proportion to the field of view, where the usual one has `_DELTA`."""
    return max(1, _DELTA * fov // usual)


def _fitting(fov: int, usual: int, voxels: int, share: float) -> int:
    """The largest field of view along an axis, at most `fov`, with which a share of the voxels can be the centre of a patch."""
    while fov > 3 and voxels - 2 * _radius(fov, _moves(fov, usual)) < share * voxels:
        fov -= 2
    return fov


def _radius(fov: int, delta: int) -> int:
    """Radius of a training patch, with two moves in each direction."""
    return fov // 2 + 2 * delta


def _image_choices(
    measured: Measurements, size: tuple[float, float, float] | None, anisotropy: float
) -> Iterator[Choice]:
    if measured.voxel_size is not None:
        yield Choice(
            'voxel_size',
            size,
            f'nanometres, {measured.voxel_size.source}; sections are {anisotropy:.3g} times as thick as '
            'pixels are wide',
        )
    mean, stddev = (float(f'{n:.5g}') for n in (measured.mean, measured.stddev))
    yield Choice('image_mean', mean, 'of the image where it is labelled')
    yield Choice('image_stddev', stddev, 'likewise')
    # In ratio: the power of 2 that comes nearest.
    factor = 1 if size is None else 2 ** max(0, round(math.log2(_TARGET_NM / max(size[:2]))))
    if size is not None and factor > 1:
        along_z = whole_voxels(factor * max(size[:2]), size[2])
        factors = [factor, factor, max(1, min(factor, along_z))]
        yield Choice(
            'downsample',
            ','.join(map(str, factors)),
            f'advice: pixels of {max(size[:2]):g} nm show little that {max(size[:2]) * factor:g} nm do not, '
            f'at {factor**2} times the cost; import image and labels with --downsample and plan again',
        )


def _sampling_choices(measured: Measurements, network: _Network) -> Iterator[Choice]:
    radius = network.radius
    yield Choice('lom_radius', radius, 'x,y,z: the radius of a training patch')
    yield Choice(
        'margin', radius.zyx, 'z,y,x: patches of centres farther from the faces lie inside'
    )
    yield Choice('thresholds', THRESHOLDS, 'the published classes: thin and thick processes alike')
    total = measured.labelled
    for min_size in _MIN_SIZES:
        small = measured.sizes[measured.sizes < min_size]
        share = float(small.sum()) / total
        if share <= _DUST or min_size == _MIN_SIZES[-1]:
            break
    yield Choice(
        'min_size',
        min_size,
        f'makes {len(small)} of {len(measured.sizes)} objects background, {share:.2%} of the labelled voxels',
    )


def _tiling_choices(image_size: Xyz, fov: Xyz) -> Iterator[Choice]:
    sides = Xyz(*(min(n, _SUBVOLUME) for n in image_size))
    yield Choice(
        'subvolume_size',
        sides,
        f'x,y,z: at most {_SUBVOLUME}, about 35 bytes a voxel for each box that is segmented at a time',
    )
    overlap = Xyz(*(min(n - 1, f - 1) for n, f in zip(sides, fov, strict=True)))
    yield Choice('overlap', overlap, 'x,y,z: the field of view less one voxel')


def _augmentation_choices(
    size: tuple[float, float, float] | None, anisotropy: float, network: _Network
) -> Iterator[Choice]:
    axes, why = _permutable_axes(size, network)
    yield Choice('permutable_axes', ','.join(map(str, axes)), f'indices in z,y,x; {why}')
    sections = anisotropy >= 2
    yield Choice(
        'augmentation',
        _augmentation(size, sections),
        'changes and defects of single sections'
        if sections
        else 'changes in three dimensions, for blocks imaged face by face',
    )


def _permutable_axes(
    size: tuple[float, float, float] | None, network: _Network
) -> tuple[tuple[int, ...], str]:
    """Which axes training may exchange, and why."""
    if size is None:
        return (1, 2), 'x and y are taken to look alike'
    is_cube = len(set(network.fov)) == len(set(network.deltas)) == 1
    if _alike(size):
        if is_cube:
            return (0, 1, 2), 'all axes look alike'
        return (1, 2), 'the field of view is shorter along z'
    if _alike(size[:2]):
        return (1, 2), 'x and y look alike, z does not'
    if is_cube and (_alike(size[1:]) or _alike(size[::2])):
        axes = (0, 1) if _alike(size[1:]) else (0, 2)
        return (
            axes,
            f'{"z and y" if axes[1] == 1 else "z and x"} look alike, the other axis does not',
        )
    return (2,), 'no two axes look alike'


def _alike(sizes: Sequence[float]) -> bool:
    return max(sizes) < _ISOTROPIC * min(sizes)


def _augmentation(size: tuple[float, float, float] | None, sections: bool) -> dict[str, Any]:
    kinds: dict[str, Any] = {'voxel_size': list(size or (1, 1, 1))}
    if sections:
        kinds |= {
            'rotation_2d': {'max_degrees': 180},
            'affine': {
                'probability': 0.5,
                'max_scale': 0.02,
                'max_shear': 0.02,
                'per_section': True,
            },
            'elastic': {'probability': 0.5, 'amplitude': 3, 'smoothness': 12},
            'misalignment': {'probability': 0.3, 'max_displacement': 5},
            'partially_missing_section': {'probability': 0.2, 'section_probability': 0.04},
            'out_of_focus_section': {'probability': 0.3, 'section_probability': 0.05},
        }
    else:
        kinds |= {
            'rotation_3d': {'probability': 0.5, 'max_degrees': 30},
            'affine': {'probability': 0.5, 'max_scale': 0.1, 'max_scale_z': 0.1, 'max_shear': 0.1},
            'elastic': {'probability': 0.5, 'amplitude': 2, 'smoothness': 8},
        }
    by_section = {'per_section': True} if sections else {}
    return kinds | {
        'contrast': {'min_factor': 0.8, 'max_factor': 1.2, **by_section},
        'brightness': {'max_shift': 0.2, **by_section},
        'missing_section': {'probability': 0.1, 'section_probability': 0.02},
        'noise': {'probability': 0.5, 'max_sigma': 0.2},
    }


def _warnings(
    measured: Measurements,
    network: _Network,
    size: tuple[float, float, float] | None,
    min_size: int,
) -> Iterator[str]:
    if size is None:
        yield (
            'neither the volumes nor --voxel_size say how large a voxel is: it is taken for a cube, and nothing '
            'is in physical units'
        )
        if any(measured.image_box.start):
            yield (
                f'the image begins at {measured.image_box.start}, but without a voxel size the segmentation is written as '
                'Zarr, which begins at 0,0,0: give --voxel_size to keep its place (precomputed://)'
            )
    elif not _alike(size[:2]) or size[2] * _ISOTROPIC < max(size[:2]):
        yield (
            f'voxels are x,y,z {",".join(f"{n:g}" for n in size)} nm: field of view, seeds and augmentation are planned for '
            'z as the thickest axis, or for cubes; is this the order of the axes? Otherwise import the volume with its '
            'sections along z'
        )
    if not measured.stddev > 0:
        yield f'the image is {measured.mean:g} wherever it was looked at: there is nothing to learn from'
    shape, radius = measured.box.size, network.radius
    centres = [n - 2 * r for n, r in zip(shape, radius, strict=True)]
    if min(centres) <= 0:
        axis = 'xyz'[centres.index(min(centres))]
        yield (
            f'the labels have {shape["xyz".index(axis)]} voxels along {axis}, and a training patch '
            f'{2 * radius["xyz".index(axis)] + 1}: no patch fits; more labels are needed'
        )
    elif network.is_cut or any(2 * c < n for c, n in zip(centres, shape, strict=True)):
        yield (
            f'the labels are few, {shape} voxels: {Xyz(*centres)} of them can be the centre of a training patch'
            + (
                f', with a field of view of {network.fov}, less than voxels of this size deserve'
                if network.is_cut
                else ''
            )
        )
    if measured.sizes.max() < min_size:
        yield (
            f'no object has as many as {min_size} voxels (min_size), so a network would learn background alone; if they '
            'are whole, choose a lower min_size'
        )
    share = float(measured.sizes[-1]) / measured.labelled
    if share > 0.5:
        yield (
            f'label {measured.largest_id} holds {share:.0%} of all labelled voxels; if it means a kind of tissue '
            '(inside of cells), these are no objects: see import-labels --instances'
        )
    many = {i: n for i, n in measured.components.items() if n > 5}
    if len(measured.sizes) < 20 and many:
        worst = max(many, key=many.__getitem__)
        yield (
            f'there are only {len(measured.sizes)} labels, and label {worst} is in {many[worst]} pieces in the '
            'middle of the volume: this looks like classes of tissue, not like objects: see import-labels '
            '--instances'
        )
    if measured.touching > _DENSE:
        yield (
            'objects touch each other, without background between them: the network learns their borders best where '
            'membranes are 0 (background)'
        )
