"""Objects drawn in 3-d, shaded, on the processor alone.

Marching cubes finds the surface. Its triangles are sampled more densely than the picture has pixels, and of the
samples that fall on a pixel the nearest is seen. (Matplotlib sorts whole triangles, so that neurites that wind
around each other would be drawn through each other.)
Hollows are darkened by how far they lie behind their surroundings (Luft, Colditz and Deussen 2006, "Image
enhancement by unsharp masking the depth buffer").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.sparse import coo_array
from skimage.measure import marching_cubes

Rgb = tuple[int, int, int]
BACKGROUND: Rgb = (28, 30, 36)
# From the upper left, in front: right, down, towards the viewer.
_LIGHT = np.array([-0.45, -0.6, 0.66], np.float32)
_AMBIENT, _DIFFUSE, _SPECULAR, _SHININESS = 0.35, 0.6, 0.15, 20
# Every pixel is the mean of this many along each axis.
_OVERSAMPLING = 2
_SMOOTHING_STEPS = 4
# Voxels that decide from where an object is seen.
_SAMPLE = 100_000
# Samples of triangles that are in memory at a time.
_SAMPLES = 1 << 20
# How deep below the surface colours are looked up, in voxels.
_SKIN = (0.5, 1.0, 1.5, 2.5)
_MARGIN, _FONT, _RING = 0.08, 12, 11


@dataclass(frozen=True)
class Solid:
    """An object made of parts, as voxels.

    Attributes:
      parts: uint8 [z, y, x], number of the part that a voxel belongs to, from 1; 0: outside.
      colors: of parts 1, 2, ….
      voxel_xyz: physical size of these voxels.
      start_xyz: physical position of the first voxel's outer corner.
    """

    parts: np.ndarray
    colors: Sequence[Rgb]
    voxel_xyz: Sequence[float] = (1, 1, 1)
    start_xyz: Sequence[float] = (0, 0, 0)


@dataclass(frozen=True)
class _Mesh:
    """Surface of a solid; physical units.

    Attributes:
      vertices: float32 [n, 3], x, y, z.
      faces: int [m, 3], wound such that their normals point outward.
      normals: float32 [n, 3], outward, of length 1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray


def view_of(solid: Solid, marker_xyz: Sequence[float] | None = None) -> np.ndarray:
    """Chooses from where a solid is seen: its longest extent across, its shortest towards the viewer.

    Args:
      solid: what is seen.
      marker_xyz: a place in physical units that should be on the near side.

    Returns:
      float32 [3, 3]: right, down and towards the viewer, in x, y, z.
    """
    inside = np.flatnonzero(solid.parts)
    if not len(inside):
        return np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1]], np.float32)
    some = inside[:: max(len(inside) // _SAMPLE, 1)]
    points = np.stack(np.unravel_index(some, solid.parts.shape)[::-1], axis=1)
    points = points * np.array(solid.voxel_xyz)
    center = points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((points - center).T) if len(points) > 1 else np.eye(3))
    right, toward = axes[:, 2], axes[:, 0]
    right = right if right[np.abs(right).argmax()] > 0 else -right
    toward = toward if toward[np.abs(toward).argmax()] < 0 else -toward
    if marker_xyz is not None:
        offset = np.subtract(marker_xyz, solid.start_xyz) - center
        toward = toward if offset @ toward >= 0 else -toward
    return np.array([right, np.cross(right, toward), toward], np.float32)


def render(
    solid: Solid,
    size: tuple[int, int] = (440, 400),
    *,
    view: np.ndarray | None = None,
    marker_xyz: Sequence[float] | None = None,
    unit: str = 'voxels',
) -> Image.Image:
    """Draws a solid from a distance, with a ring around a place, axes, and a bar of known length.

    Args:
      solid: what is drawn.
      size: width and height in pixels.
      view: of `view_of`; None: chosen.
      marker_xyz: the place, in physical units, if there is one; the ring is drawn over what hides it.
      unit: of the solid's sizes.
    """
    picture = np.empty((size[1], size[0], 3), np.float32)
    picture[:] = BACKGROUND
    if not solid.parts.any():
        return Image.fromarray(picture.astype(np.uint8))
    view = view_of(solid, marker_xyz) if view is None else view
    mesh = _make_mesh(solid)
    projected = mesh.vertices @ view.T
    low, high = projected.min(axis=0), projected.max(axis=0)
    room = (1 - 2 * _MARGIN) * np.array(size)
    scale = float(min(room / np.maximum(high - low, 1e-9)[:2]))
    shift = np.array(size) / 2 - (low + high)[:2] / 2 * scale
    drawn, covered = _draw(solid, mesh, projected, view, (scale, shift, size))
    picture = picture * (1 - covered) + drawn
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    if marker_xyz is not None:
        x, y = (view @ np.array(marker_xyz, np.float32))[:2] * scale + shift
        _draw_ring(draw, float(x), float(y))
    _draw_axes(draw, view, size)
    _draw_bar(draw, scale, size, unit)
    return image


def _make_mesh(solid: Solid) -> _Mesh:
    inside = np.pad(solid.parts > 0, 1).astype(np.float32)
    vertices, faces, _, _ = marching_cubes(inside, 0.5)
    # Voxel i of the padded array has its centre at i, and so at i - 1/2 counted from the outer corner.
    vertices = _smooth(vertices, faces)[:, ::-1] - 0.5
    voxel, start = (np.array(a, np.float32) for a in (solid.voxel_xyz, solid.start_xyz))
    vertices = (vertices * voxel + start).astype(np.float32)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # Which way triangles are wound depends on the order of axes; outward is away from what is filled.
    if not _points_outward(solid, vertices, normals):
        faces, normals = faces[:, ::-1], -normals
    return _Mesh(vertices, faces, normals)


def _points_outward(solid: Solid, vertices: np.ndarray, normals: np.ndarray) -> bool:
    steps = normals * min(solid.voxel_xyz)
    before, after = (_look_up(solid, solid.parts, vertices + sign * steps) for sign in (-1, 1))
    return bool(np.count_nonzero(before) >= np.count_nonzero(after))


def _smooth(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Moves vertices towards the mean of their neighbours, which takes the steps of voxels away."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = len(vertices)
    ones = np.ones(len(edges), np.float32)
    joined = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(count, count)).tocsr()
    degree = np.maximum(joined.sum(axis=1), 1)[:, np.newaxis]
    for _ in range(_SMOOTHING_STEPS):
        vertices = 0.5 * vertices + 0.5 * (joined @ vertices) / degree
    return np.asarray(vertices)


def _look_up(solid: Solid, array: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values of an array over a solid's voxels at physical positions; the nearest, outside of it."""
    start, voxel = (np.array(a, np.float32) for a in (solid.start_xyz, solid.voxel_xyz))
    index = np.floor((positions - start) / voxel)
    x, y, z = (
        np.clip(index[:, axis], 0, n - 1).astype(np.intp)
        for axis, n in enumerate(array.shape[::-1])
    )
    found: np.ndarray = array[z, y, x]
    return found


def _find_parts(solid: Solid, positions: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Returns the parts below points of the surface; the first of those within some voxels: uint8 [n].

    A skin of the last part, such as voxels of an object that its pieces do not reach, is thus not seen.
    """
    last = np.uint8(len(solid.colors))
    absent = np.where(solid.parts > 0, solid.parts, np.uint8(255))
    found = np.full(len(positions), 255, np.uint8)
    for depth in _SKIN:
        below = positions - normals * (depth * min(solid.voxel_xyz))
        here = _look_up(solid, absent, below)
        found = np.where((found < last) | (here == 255), found, np.minimum(found, here))
    return np.where(found == 255, last, found)


def _draw(
    solid: Solid,
    mesh: _Mesh,
    projected: np.ndarray,
    view: np.ndarray,
    frame: tuple[float, np.ndarray, tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the surface: its colours times its coverage, and the coverage, float32 [rows, columns, …]."""
    scale, shift, (width, height) = frame
    wide, high = width * _OVERSAMPLING, height * _OVERSAMPLING
    on_screen = projected.copy()
    on_screen[:, :2] = (projected[:, :2] * scale + shift) * _OVERSAMPLING
    face, weights = _nearest_samples(on_screen, mesh.faces, wide, high)
    seen = face >= 0
    corners = mesh.faces[face[seen]]

    parts_of = weights[seen]

    def interpolate(values: np.ndarray) -> np.ndarray:
        result: np.ndarray = sum(
            parts_of[:, c, np.newaxis] * values[corners[:, c]] for c in range(3)
        )
        return result

    normals = interpolate(mesh.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    palette = np.array([(128, 128, 128), *solid.colors], np.float32)
    colors = palette[_find_parts(solid, interpolate(mesh.vertices), normals)]
    depth = np.full(seen.shape, projected[:, 2].min(), np.float32)
    depth[seen] = interpolate(projected)[:, 2]
    light = _shade(normals @ view.T, depth, seen)
    drawn = np.zeros((*seen.shape, 3), np.float32)
    drawn[seen] = colors * light[:, :1] + 255 * light[:, 1:]

    def reduce(values: np.ndarray) -> np.ndarray:
        parts = values.reshape(height, _OVERSAMPLING, width, _OVERSAMPLING, -1)
        mean: np.ndarray = parts.mean(axis=(1, 3), dtype=np.float32)
        return mean

    return reduce(drawn), reduce(seen)


def _nearest_samples(
    on_screen: np.ndarray, faces: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Samples triangles, and keeps the nearest sample of each pixel.

    Args:
      on_screen: float32 [n, 3], column, row, and depth towards the viewer, of vertices.
      faces: int [m, 3].
      width: pixels.
      height: pixels.

    Returns:
      int64 [height, width], triangle, -1 where there is none; float32 [height, width, 3], weights of its
      corners.
    """
    front = np.flatnonzero(_faces_viewer(on_screen, faces))
    corners = on_screen[faces[front]]
    edges = np.abs(corners[:, :, :2] - np.roll(corners[:, :, :2], 1, axis=1)).max(axis=(1, 2))
    steps = np.ceil(edges).astype(np.int64) + 1
    depth, low = on_screen[:, 2], on_screen[:, 2].min()
    levels = (2**31 - 1) / max(float(depth.max() - low), 1e-9)
    nearest = np.full(width * height, -1, np.int64)
    face = np.full(width * height, -1, np.int64)
    weights = np.zeros((width * height, 3), np.float32)
    for step in np.unique(steps):
        i, j = np.nonzero(np.add.outer(np.arange(step + 1), np.arange(step + 1)) <= step)
        grid = np.stack([i, j, step - i - j], axis=1).astype(np.float32) / step
        of_step = np.flatnonzero(steps == step)
        for which in np.array_split(of_step, -(-len(of_step) * len(grid) // _SAMPLES)):
            points = grid @ corners[which]
            x, y = (np.floor(points[..., axis]).astype(np.int64) for axis in (0, 1))
            kept = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            triangle, sample = np.nonzero(kept)
            pixel = (y * width + x)[kept]
            key = ((points[..., 2][kept] - low) * levels).astype(np.int64)
            np.maximum.at(nearest, pixel, key)
            wins = nearest[pixel] == key
            face[pixel[wins]] = front[which[triangle[wins]]]
            weights[pixel[wins]] = grid[sample[wins]]
    return face.reshape(height, width), weights.reshape(height, width, 3)


def _faces_viewer(on_screen: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Returns which triangles are seen from outside: bool [m]."""
    a, b, c = (on_screen[faces[:, corner], :2] for corner in range(3))
    (x1, y1), (x2, y2) = (b - a).T, (c - a).T
    seen: np.ndarray = x1 * y2 - y1 * x2 < 0  # rows go down
    return seen


def _shade(normals: np.ndarray, depth: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Light on the surface: float32 [n, 2], what multiplies its colour, and what is added as white."""
    lit = np.clip(normals @ _LIGHT, 0, 1)
    halfway = _LIGHT + np.array([0, 0, 1], np.float32)
    shine = np.clip(normals @ (halfway / np.linalg.norm(halfway)), 0, 1) ** _SHININESS
    extent = max(float(np.ptp(depth)), 1e-9)
    # Only what is covered counts, so that silhouettes are not taken for hollows.
    around = _blur(np.where(seen, depth, np.float32(0)))
    around /= np.maximum(_blur(seen.astype(np.float32)), 1e-6)
    behind = ((around - depth) / extent)[seen]
    hollow = 1 - np.clip(3 * behind, -0.1, 0.55)
    far = 0.75 + 0.25 * (depth[seen] - depth.min()) / extent
    strength = (_AMBIENT + _DIFFUSE * lit) * hollow * far
    return np.stack([strength, _SPECULAR * shine * hollow], axis=1)


def _blur(values: np.ndarray) -> np.ndarray:
    size = min(values.shape) // 16
    blurred: np.ndarray = ndimage.uniform_filter(ndimage.uniform_filter(values, size), size)
    return blurred


def _draw_ring(draw: ImageDraw.ImageDraw, x: float, y: float) -> None:
    for width, color in ((4, 'black'), (2, 'white')):
        draw.ellipse((x - _RING, y - _RING, x + _RING, y + _RING), outline=color, width=width)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            begin, end = _RING, _RING + 8
            line = (x + begin * dx, y + begin * dy, x + end * dx, y + end * dy)
            draw.line(line, fill=color, width=width)


def _draw_axes(draw: ImageDraw.ImageDraw, view: np.ndarray, size: tuple[int, int]) -> None:
    """Draws the directions of x, y and z in the lower left corner."""
    font = ImageFont.load_default(size=_FONT)
    x, y = 34, size[1] - 34
    for axis, name in enumerate('xyz'):
        dx, dy = (float(n) * 20 for n in view[:2, axis])
        draw.line((x, y, x + dx, y + dy), fill=(190, 190, 190), width=1)
        if math.hypot(dx, dy) > 6:
            place = (x + 1.35 * dx, y + 1.35 * dy)
            draw.text(place, name, fill='white', font=font, anchor='mm')


def _draw_bar(draw: ImageDraw.ImageDraw, scale: float, size: tuple[int, int], unit: str) -> None:
    """Draws a bar of a round length in the lower right corner."""
    longest = size[0] / 4 / scale
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(n * power for n in (1, 2, 5) if n * power <= longest)
    right, y = size[0] - 14, size[1] - 14
    left = right - length * scale
    draw.line((left, y, right, y), fill='white', width=3)
    font = ImageFont.load_default(size=_FONT)
    # The font has no µ.
    text = f'{length / 1000:g} um' if unit == 'nm' and length >= 1000 else f'{length:g} {unit}'
    draw.text(((left + right) / 2, y - 5), text, fill='white', font=font, anchor='mb')
