"""Image stacks in TIFF files as tifffile and Pillow write them: every layout, one known value each."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from ffn.utils.errors import UserError
from ffn.volumes.importing import import_stack

SHAPE_ZYX = (5, 7, 11)
STACK = np.random.default_rng(0).integers(0, 256, SHAPE_ZYX).astype(np.uint8)
STACK[3, 2, 8] = 201
WIDE = STACK.astype(np.uint16) * 257


def imported(tmp_path: Path, name: str = 's.tif', **settings) -> np.ndarray:
    import_stack.import_stack(f'{tmp_path}/{name}', f'{tmp_path}/v.h5:raw', quiet=True, **settings)
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        assert file['raw'].dtype.isnative
        return file['raw'][:]


LAYOUTS = {
    'pages': {},
    'bigtiff': {'bigtiff': True},
    'big-endian': {'byteorder': '>'},
    'big-endian bigtiff': {'bigtiff': True, 'byteorder': '>'},
    'ImageJ': {'imagej': True, 'metadata': {'axes': 'ZYX'}},
    'ImageJ, big-endian': {'imagej': True, 'metadata': {'axes': 'ZYX'}, 'byteorder': '>'},
    'ImageJ, one directory': {'imagej': True, 'truncate': True, 'metadata': {'axes': 'ZYX'}},
    'OME': {'ome': True, 'metadata': {'axes': 'ZYX'}},
    'no metadata': {'metadata': None},
    'deflate': {'compression': 'zlib'},
    'deflate with predictor': {'compression': 'zlib', 'predictor': True},
    'one strip a row': {'rowsperstrip': 1, 'compression': 'zlib'},
    'tiles': {'tile': (16, 16), 'photometric': 'minisblack'},
    'volumetric tiles': {
        'tile': (16, 16, 16),
        'photometric': 'minisblack',
        'volumetric': True,
    },
    'volumetric page': {'volumetric': True, 'photometric': 'minisblack', 'compression': 'zlib'},
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('stack', [STACK, WIDE], ids=['uint8', 'uint16'])
def test_layouts(tmp_path, layout, stack):
    tifffile.imwrite(tmp_path / 's.tif', stack, **LAYOUTS[layout])
    result = imported(tmp_path)
    assert result.dtype == stack.dtype
    np.testing.assert_array_equal(result, stack)


def test_pages_that_were_written_one_by_one(tmp_path):
    """tifffile takes each for a series of its own."""
    with tifffile.TiffWriter(tmp_path / 's.tif') as writer:
        for section in STACK:
            writer.write(section)
    np.testing.assert_array_equal(imported(tmp_path), STACK)


@pytest.mark.parametrize('dtype', [np.int8, np.int16, np.float32])
def test_signed_and_float_values_are_kept(tmp_path, caplog, dtype):
    stack = (STACK.astype(int) - 128).astype(dtype)
    tifffile.imwrite(tmp_path / 's.tif', stack)
    result = imported(tmp_path)
    assert result.dtype == dtype
    assert result[3, 2, 8] == 201 - 128
    np.testing.assert_array_equal(result, stack)
    assert f'{np.dtype(dtype)} values are kept' in caplog.text or dtype == np.float32


@pytest.mark.parametrize('dtype', [np.float16, np.float64])
def test_other_floats_become_float32(tmp_path, caplog, dtype):
    tifffile.imwrite(tmp_path / 's.tif', (STACK / 8).astype(dtype))
    result = imported(tmp_path)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, STACK / 8)
    assert 'stored as float32' in caplog.text


@pytest.mark.parametrize(
    ('dtype', 'stored', 'read'),
    [(np.uint8, 201, 54), (np.uint16, 201, 65334), (np.int8, -3, 2), (np.float32, 1.5, -1.5)],
)
def test_white_is_zero(tmp_path, caplog, dtype, stored, read):
    stack = np.zeros(SHAPE_ZYX, dtype)
    stack[3, 2, 8] = stored
    tifffile.imwrite(tmp_path / 's.tif', stack, photometric='miniswhite')
    result = imported(tmp_path)
    assert result.dtype == dtype
    assert result[3, 2, 8] == read
    assert 'white is zero: values are inverted' in caplog.text


def test_palette_of_8_bits(tmp_path):
    palette = np.tile((np.arange(256) // 2).astype(np.uint16), (3, 1))
    tifffile.imwrite(tmp_path / 's.tif', STACK, photometric='palette', colormap=palette)
    np.testing.assert_array_equal(imported(tmp_path), STACK // 2)


def test_palette_of_greys(tmp_path):
    palette = np.tile((np.arange(256) // 2 * 257).astype(np.uint16), (3, 1))
    tifffile.imwrite(tmp_path / 's.tif', STACK, photometric='palette', colormap=palette)
    np.testing.assert_array_equal(imported(tmp_path), STACK // 2)
    palette[1] = 0
    tifffile.imwrite(tmp_path / 's.tif', STACK, photometric='palette', colormap=palette)
    with pytest.raises(UserError, match='has a palette of colours; expected grey'):
        imported(tmp_path)


@pytest.mark.parametrize(
    'layout', [{'imagej': True}, {'ome': True}, {'imagej': True, 'truncate': True}], ids=str
)
def test_channels_of_hyperstacks(tmp_path, layout):
    hyperstack = np.stack([WIDE, WIDE // 2, WIDE // 3], axis=1)
    tifffile.imwrite(tmp_path / 's.tif', hyperstack, metadata={'axes': 'ZCYX'}, **layout)
    with pytest.raises(UserError, match='has 3 channels; choose one with --channel, 0 to 2'):
        imported(tmp_path)
    with pytest.raises(UserError, match='--channel is 3, but'):
        imported(tmp_path, channel=3)
    np.testing.assert_array_equal(imported(tmp_path, channel=1), WIDE // 2)
    assert imported(tmp_path, channel=2)[3, 2, 8] == 201 * 257 // 3


def test_channels_first_in_ome(tmp_path):
    both = np.stack([WIDE, WIDE // 2])
    tifffile.imwrite(
        tmp_path / 's.tif', both, ome=True, compression='zlib', metadata={'axes': 'CZYX'}
    )
    np.testing.assert_array_equal(imported(tmp_path, channel=1), WIDE // 2)


@pytest.mark.parametrize('planar', ['contig', 'separate'])
@pytest.mark.parametrize('compression', [None, 'zlib'])
def test_a_colour_as_channel(tmp_path, planar, compression):
    colours = np.stack([STACK, STACK // 2, STACK // 3], axis=-1 if planar == 'contig' else 1)
    tifffile.imwrite(
        tmp_path / 's.tif',
        colours,
        photometric='rgb',
        planarconfig=planar,
        compression=compression,
    )
    with pytest.raises(UserError, match='3 numbers per voxel'):
        imported(tmp_path)
    np.testing.assert_array_equal(imported(tmp_path, channel=1), STACK // 2)


def test_time_points(tmp_path, caplog):
    tifffile.imwrite(tmp_path / 's.tif', STACK, imagej=True, metadata={'axes': 'TYX'})
    np.testing.assert_array_equal(imported(tmp_path), STACK)
    assert 'has 5 time points and no z; they are taken as sections' in caplog.text
    both = np.stack([STACK, STACK])
    tifffile.imwrite(tmp_path / 's.tif', both, imagej=True, metadata={'axes': 'TZYX'})
    with pytest.raises(UserError, match='several axes besides y and x: T 2, Z 5'):
        imported(tmp_path)


def test_files_of_an_ome_data_set_are_read_each_by_itself(tmp_path):
    """Every file describes them all: tifffile opens them all from each."""
    names = [f's{z}.ome.tif' for z in range(5)]
    planes = ''.join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:'
        f'00000000-0000-0000-0000-00000000000{z}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    description = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
        'BigEndian="false" DimensionOrder="XYZCT" ID="Pixels:0" SizeC="1" SizeT="1" SizeX="11" SizeY="7" '
        f'SizeZ="5" Type="uint8" PhysicalSizeX="4">{planes}</Pixels></Image></OME>'
    )
    for name, section in zip(names, STACK):
        tifffile.imwrite(tmp_path / name, section, description=description, metadata=None)
    np.testing.assert_array_equal(imported(tmp_path, 's*.tif'), STACK)
    np.testing.assert_array_equal(imported(tmp_path, 's2*.tif'), STACK[2:3])


@pytest.mark.parametrize('compression', ['lzw', 'zlib'])
def test_compressions_without_imagecodecs(tmp_path, monkeypatch, compression):
    stack = np.tile(STACK, (5, 1, 1))  # of more pages than tifffile keeps
    pages = [Image.fromarray(section) for section in stack]
    pages[0].save(
        tmp_path / 's.tif',
        save_all=True,
        append_images=pages[1:],
        compression={'lzw': 'tiff_lzw', 'zlib': 'tiff_adobe_deflate'}[compression],
    )

    def fail(page):
        raise ValueError(f"{page.compression!r} requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, 'asarray', fail)
    monkeypatch.setattr(tifffile.TiffFrame, 'asarray', fail)
    np.testing.assert_array_equal(imported(tmp_path), stack)


@pytest.mark.parametrize(
    'error',
    [
        ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package"),
        ModuleNotFoundError("No module named 'compression'"),
    ],
)
def test_a_compression_that_needs_imagecodecs_is_named(tmp_path, monkeypatch, error):
    pytest.importorskip('imagecodecs')
    tifffile.imwrite(tmp_path / 's.tif', STACK.astype(np.float32), compression='lzw')
    np.testing.assert_array_equal(imported(tmp_path), STACK)

    def fail(page):
        raise error

    monkeypatch.setattr(tifffile.TiffPage, 'asarray', fail)
    monkeypatch.setattr(tifffile.TiffFrame, 'asarray', fail)
    message = r'compressed with LZW, which needs the package imagecodecs: pip install imagecodecs'
    with pytest.raises(UserError, match=message):
        imported(tmp_path)


@pytest.mark.parametrize(
    'layout', ['pages', 'ImageJ', 'ImageJ, one directory', 'deflate', 'OME', 'bigtiff', 'tiles']
)
def test_files_cut_anywhere_are_errors_or_whole(tmp_path, layout):
    """What is cut off at the end may be text that nothing needs; sections are never short or missing."""
    tifffile.imwrite(tmp_path / 's.tif', STACK, **LAYOUTS[layout])
    whole = (tmp_path / 's.tif').read_bytes()
    refused = 0
    for keep in range(8, len(whole), len(whole) // 23):
        (tmp_path / 's.tif').write_bytes(whole[:keep])
        try:
            np.testing.assert_array_equal(imported(tmp_path), STACK)
        except UserError as error:
            refused += 's.tif' in str(error)
    assert refused > 10


def test_damaged_compression_is_an_error(tmp_path):
    tifffile.imwrite(tmp_path / 's.tif', STACK, compression='zlib')
    with tifffile.TiffFile(tmp_path / 's.tif') as tif:
        start = tif.pages[3].dataoffsets[0]
    whole = bytearray((tmp_path / 's.tif').read_bytes())
    whole[start : start + 12] = bytes(12)
    (tmp_path / 's.tif').write_bytes(whole)
    with pytest.raises(UserError, match=r's.tif cannot be read as an image'):
        imported(tmp_path)


def test_two_images_of_ome(tmp_path):
    with tifffile.TiffWriter(tmp_path / 's.tif', ome=True) as writer:
        writer.write(STACK, metadata={'axes': 'ZYX'})
        writer.write(STACK, metadata={'axes': 'ZYX'})
    with pytest.raises(UserError, match='holds 2 images of OME-TIFF; expected one'):
        imported(tmp_path)


def test_coarse_pages_of_a_pyramid_are_passed_over(tmp_path):
    with tifffile.TiffWriter(tmp_path / 's.tif') as writer:
        writer.write(STACK, subifds=1, photometric='minisblack')
        writer.write(STACK[:, ::2, ::2], subfiletype=1, photometric='minisblack')
    np.testing.assert_array_equal(imported(tmp_path), STACK)


def test_integers_of_32_bits_are_labels(tmp_path):
    tifffile.imwrite(tmp_path / 's.tif', STACK.astype(np.uint32))
    with pytest.raises(UserError, match=r'holds uint32; expected grey .* use ffn import-labels'):
        imported(tmp_path)


@pytest.mark.parametrize(
    ('layout', 'size'),
    [
        (
            {
                'imagej': True,
                'resolution': (1 / 0.0046, 1 / 0.0048),
                'metadata': {'axes': 'ZYX', 'spacing': 0.045, 'unit': 'um'},
            },
            (4.6, 4.8, 45),
        ),
        (
            {
                'imagej': True,
                'resolution': (1 / 4.6, 1 / 4.8),
                'metadata': {'axes': 'ZYX', 'spacing': 45, 'unit': 'nm'},
            },
            (4.6, 4.8, 45),
        ),
        (
            {
                'imagej': True,
                'resolution': (1 / 4.6, 1 / 0.0048),
                'metadata': {
                    'axes': 'ZYX',
                    'spacing': 0.045,
                    'unit': 'nm',
                    'yunit': 'um',
                    'zunit': '\\u00B5m',
                },
            },
            (4.6, 4.8, 45),
        ),
        (
            {
                'ome': True,
                'metadata': {
                    'axes': 'ZYX',
                    'PhysicalSizeX': 4.6,
                    'PhysicalSizeXUnit': 'nm',
                    'PhysicalSizeY': 0.0048,
                    'PhysicalSizeZ': 0.045,
                    'PhysicalSizeZUnit': 'µm',
                },
            },
            (4.6, 4.8, 45),
        ),
        ({'resolution': (72, 72), 'resolutionunit': 'INCH'}, None),
        (
            {'resolution': (2.5e6, 2e6), 'resolutionunit': 'CENTIMETER'},
            'x,y,z 4,5,?',
        ),
        ({'imagej': True, 'metadata': {'axes': 'ZYX', 'unit': 'pixel', 'spacing': 3}}, None),
        ({}, None),
    ],
    ids=[
        'ImageJ µm',
        'ImageJ nm',
        'ImageJ both',
        'OME',
        'screen',
        'x and y only',
        'pixels',
        'nothing',
    ],
)
def test_voxel_sizes(tmp_path, caplog, layout, size):
    tifffile.imwrite(tmp_path / 's.tif', STACK, **layout)
    imported(tmp_path)
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        stored = file['raw'].attrs.get('resolution')
    if isinstance(size, tuple):
        assert stored.dtype == np.float64
        assert stored.tolist() == list(size[::-1])
        assert caplog.text == ''
    else:
        assert stored is None
        expected = size or 'nothing says how large its voxels are'
        assert expected in caplog.text
        assert 'give --voxel_size X,Y,Z in nanometres' in caplog.text
        assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ('flag', 'told'), [((4.6, 4.8, 45), False), ((4.6, 4.8, 50), True), ((5, 4.8, 45), True)]
)
def test_contradictions_are_told_with_both_values(tmp_path, caplog, flag, told):
    tifffile.imwrite(
        tmp_path / 's.tif',
        STACK,
        imagej=True,
        resolution=(1 / 4.6, 1 / 4.8),
        metadata={'axes': 'ZYX', 'spacing': 45, 'unit': 'nm'},
    )
    imported(tmp_path, voxel_size=flag)
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        assert file['raw'].attrs['resolution'].tolist() == list(flag[::-1])
    shown = ','.join(f'{n:g}' for n in flag)
    both = f'x,y,z {shown} nm (--voxel_size), but x,y,z 4.6,4.8,45 nm (the ImageJ metadata of'
    assert (both in caplog.text) is told
