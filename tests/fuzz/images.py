"""Loaders of image files, and of labels that are imported."""

from __future__ import annotations

import gzip
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import tifffile
from PIL import Image

from ffn.utils.geometry import Box, Xyz
from ffn.volumes.importing.image_files import open_image
from ffn.volumes.importing.label_sources import open_labels
from tests.fuzz.case import Loader
from tests.fuzz.mutations import Rng, pick
from tests.fuzz.volumes import LARGEST, voxels

# Image files.


def _read_image(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        with open_image(folder / name) as image:
            sections = [image.read(z) for z in range(min(image.count, 32))]
            return (
                sections,
                image.count,
                image.shape_yx,
                image.stated_size and image.stated_size.xyz,
            )

    return read


def _good_image(value: Any) -> bool:
    sections, count, shape, size = value
    lengths = [n for n in size or () if n is not None]
    return (
        count > 0
        and all(s.shape[:2] == tuple(shape) for s in sections)
        and all(n > 0 for n in lengths)
    )


def _write_png(folder: Path) -> None:
    Image.fromarray(voxels()[0]).save(folder / 'section.png')


def _edit_png(path: Path, rng: Rng) -> None:
    """Another number in the header of a PNG, with the right checksum."""
    data = bytearray(path.read_bytes())
    match int(rng.integers(3)):
        case 0:
            at = 16 + 4 * int(rng.integers(2))
            data[at : at + 4] = struct.pack(
                '>I', pick(rng, (0, 1, 11, 2**16, 2**24, 2**31 - 1, 2**32 - 1))
            )
        case 1:
            data[24] = pick(rng, (0, 1, 2, 4, 8, 16, 255))
        case _:
            data[25] = pick(rng, (0, 1, 2, 3, 4, 6, 99))
    data[29:33] = struct.pack('>I', zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)


def _write_tiff(folder: Path) -> None:
    for section in voxels(np.uint16):
        tifffile.imwrite(folder / 'stack.tif', section, append=True, compression='zlib')


def _write_imagej(folder: Path) -> None:
    metadata = {'axes': 'ZYX', 'spacing': 0.04, 'unit': 'um'}
    tifffile.imwrite(
        folder / 'stack.tif', voxels(), imagej=True, resolution=(125, 125), metadata=metadata
    )


def _write_ome(folder: Path) -> None:
    metadata = {
        'axes': 'ZYX',
        'PhysicalSizeX': 0.004,
        'PhysicalSizeY': 0.008,
        'PhysicalSizeZ': 0.04,
    }
    tifffile.imwrite(folder / 'stack.ome.tif', voxels(), metadata=metadata, tile=(16, 16))


def _edit_tiff(path: Path, rng: Rng) -> None:
    """Another type, count or value in an entry of a directory."""
    data = bytearray(path.read_bytes())
    places = []
    at = struct.unpack_from('<I', data, 4)[0]
    while at and at + 2 <= len(data) and len(places) < 400:
        entries = struct.unpack_from('<H', data, at)[0]
        places += [at + 2 + 12 * i for i in range(entries)]
        at = struct.unpack_from('<I', data, at + 2 + 12 * entries)[0]
    entry, field = pick(rng, places), int(rng.integers(4))
    if field == 0:
        struct.pack_into('<H', data, entry + 2, pick(rng, (0, 1, 2, 3, 4, 5, 12, 16, 99)))
    else:
        value = pick(rng, (0, 1, 2, 3, 11, 255, 2**16, 2**24, 2**31 - 1, 2**32 - 1))
        struct.pack_into('<I', data, entry + (4 if field == 1 else 8), value)
    path.write_bytes(data)


def _edit_ome(path: Path, rng: Rng) -> None:
    """Another number in the XML."""
    data = path.read_bytes()
    name = pick(
        rng, (b'SizeZ="13"', b'SizeY="12"', b'SizeX="14"', b'PhysicalSizeZ="0.04"', b'Type="uint8"')
    )
    length = len(name.partition(b'"')[2]) - 1
    value = pick(rng, (b'0', b'1', b'-3', b'9', b'x', b'nan', b'9e9', b'inf', b'99'))[
        :length
    ].ljust(length)
    path.write_bytes(data.replace(name, name.partition(b'"')[0] + b'"' + value + b'"', 1))


def _write_mrc(folder: Path) -> None:
    with mrcfile.new(folder / 'stack.mrc') as file:
        file.set_data(voxels().astype(np.int16))
        file.voxel_size = (40, 80, 400)


def _edit_mrc(path: Path, rng: Rng) -> None:
    """Another number in the header."""
    data = bytearray(path.read_bytes())
    at = 4 * int(rng.integers(0, 30))
    if rng.random() < 0.3:
        struct.pack_into('<f', data, at, pick(rng, (0.0, -1.0, float('nan'), float('inf'), 1e30)))
    else:
        struct.pack_into(
            '<i', data, at, pick(rng, (0, -1, 1, 2, 3, 4, 6, 12, 101, 2**16, 2**31 - 1, -(2**31)))
        )
    path.write_bytes(data)


# Labels that are imported.


def _write_packed(folder: Path) -> None:
    with h5py.File(folder / 'labels.h5', 'w') as file:
        file['labels'] = voxels(np.uint64)
    with (
        open(folder / 'labels.h5', 'rb') as plain,
        gzip.open(folder / 'labels.h5.gz', 'wb') as packed,
    ):
        shutil.copyfileobj(plain, packed)
    (folder / 'labels.h5').unlink()


def _write_neuroproof(folder: Path) -> None:
    with h5py.File(folder / 'labels.h5', 'w') as file:
        file['stack'] = voxels(np.uint32) % 5
        file['transforms'] = np.array([[0, 0], [1, 7], [2, 7], [3, 2**40], [4, 9]], np.uint64)


def _edit_neuroproof(path: Path, rng: Rng) -> None:
    """Another table of bodies."""
    with h5py.File(path, 'a') as file:
        table = file['transforms'][:]
        del file['transforms']
        match int(rng.integers(4)):
            case 0:
                table[int(rng.integers(5)), int(rng.integers(2))] = int(rng.integers(2**63))
            case 1:
                table = table[: int(rng.integers(5))]
            case 2:
                table = table.astype(pick(rng, ('f4', 'i2', 'u1', '>u8', 'S3', bool)))
            case _:
                table = pick(
                    rng,
                    (table.T, table.ravel(), table[:, :1], table[np.newaxis], table[:, [0, 1, 1]]),
                )
        file['transforms'] = table


def _read_labels(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        with open_labels(str(folder / name), None, None, None, folder) as source:
            size = Xyz(*map(min, zip(source.box.size, LARGEST, strict=True)))
            return source.read(Box(source.box.start, size), 0)

    return read


LOADERS = (
    Loader(
        'PNG',
        _write_png,
        _read_image('section.png'),
        ('*.png',),
        (('*.png', _edit_png),),
        sealed=True,
        check=_good_image,
    ),
    Loader(
        'TIFF',
        _write_tiff,
        _read_image('stack.tif'),
        ('*.tif',),
        (('*.tif', _edit_tiff),),
        check=_good_image,
    ),
    Loader(
        'TIFF of ImageJ', _write_imagej, _read_image('stack.tif'), ('*.tif',), check=_good_image
    ),
    Loader(
        'OME-TIFF',
        _write_ome,
        _read_image('stack.ome.tif'),
        ('*.tif',),
        (('*.tif', _edit_tiff), ('*.tif', _edit_ome)),
        check=_good_image,
    ),
    Loader(
        'MRC',
        _write_mrc,
        _read_image('stack.mrc'),
        ('*.mrc',),
        (('*.mrc', _edit_mrc),),
        check=_good_image,
    ),
    Loader(
        'labels (HDF5, gzipped)',
        _write_packed,
        _read_labels('labels.h5.gz'),
        ('*.gz',),
        sealed=True,
    ),
    Loader(
        'labels (NeuroProof)',
        _write_neuroproof,
        _read_labels('labels.h5'),
        ('*.h5',),
        (('*.h5', _edit_neuroproof),),
    ),
)
