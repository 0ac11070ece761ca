"""Labels from image files, and from volumes of every format."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile
from PIL import Image

from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.volumes.importing import label_sources
from ffn.volumes.importing.import_labels import import_labels
from ffn.volumes.importing.import_stack import import_stack

SHAPE_ZYX = (5, 7, 11)
LABELS = np.random.default_rng(0).integers(0, 6, SHAPE_ZYX)
LABELS[3, 2, 8] = 5


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(label_sources, '_BLOCK_ZYX', Zyx(4, 5, 7))
    monkeypatch.setattr(label_sources, '_SLAB_VOXELS', 160)  # two sections


def imported(tmp_path: Path, source: str, **settings) -> np.ndarray:
    import_labels(f'{tmp_path}/{source}', f'{tmp_path}/out.h5:l', quiet=True, **settings)
    with h5py.File(tmp_path / 'out.h5', 'r') as file:
        return file['l'][:]


def write_sections(folder: Path, sections, ending: str = 'png') -> None:
    for z, section in enumerate(sections):
        section = section if isinstance(section, Image.Image) else Image.fromarray(section)
        section.save(folder / f's{z}.{ending}')


@pytest.mark.parametrize('ending', ['png', 'tif'])
def test_1_bit(tmp_path, ending):
    write_sections(tmp_path, LABELS > 2, ending)
    result = imported(tmp_path, f's*.{ending}')
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, LABELS > 2)


@pytest.mark.parametrize('ending', ['png', 'tif'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_8_and_16_bits(tmp_path, ending, dtype):
    labels = (LABELS * (50 if dtype == np.uint8 else 13000)).astype(dtype)
    write_sections(tmp_path, labels, ending)
    np.testing.assert_array_equal(imported(tmp_path, f's*.{ending}'), labels)


@pytest.mark.parametrize('dtype', [np.uint32, np.int32, np.uint64])
def test_more_bits_in_tiff(tmp_path, dtype):
    labels = LABELS.astype(dtype) * 70000
    tifffile.imwrite(tmp_path / 'l.tif', labels)
    result = imported(tmp_path, 'l.tif')
    assert result.dtype == np.uint32
    np.testing.assert_array_equal(result, labels)


@pytest.mark.parametrize('bits', [2, 4])
def test_png_of_few_bits(tmp_path, bits):
    """Pillow stretches them over 0 to 255: right for images, wrong for labels."""
    small = (LABELS % 2**bits).astype(np.uint8)
    for z, section in enumerate(small):
        write_small_png(tmp_path / f's{z}.png', section, bits)
    np.testing.assert_array_equal(imported(tmp_path, 's*.png'), small)
    import_stack(f'{tmp_path}/s*.png', f'{tmp_path}/out.h5:raw', quiet=True)
    with h5py.File(tmp_path / 'out.h5', 'r') as file:
        np.testing.assert_array_equal(file['raw'][:], small * (255 // (2**bits - 1)))


def write_small_png(path: Path, section: np.ndarray, bits: int) -> None:
    """Writes grey of 2 or 4 bits, which Pillow reads and does not write."""
    height, width = section.shape
    rows = b''
    for row in section:
        packed = ''.join(format(v, f'0{bits}b') for v in row)
        packed += '0' * (-len(packed) % 8)
        rows += b'\0' + int(packed, 2).to_bytes(len(packed) // 8, 'big')

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        )

    header = struct.pack('>2I5B', width, height, bits, 0, 0, 0, 0)
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('ending', ['png', 'tif'])
def test_palettes_are_colours_of_labels(tmp_path, ending):
    sections = []
    for section in LABELS.astype(np.uint8):
        image = Image.new('P', (11, 7))
        image.putdata(section.ravel().tolist())
        image.putpalette([0, 0, 0, 200, 1, 2, 3, 200, 4, 5, 6, 200, 9, 9, 9, 50, 60, 70])
        sections.append(image)
    write_sections(tmp_path, sections, ending)
    np.testing.assert_array_equal(imported(tmp_path, f's*.{ending}'), LABELS)


@pytest.mark.parametrize('ending', ['png', 'tif'])
@pytest.mark.parametrize('opacity', [False, True])
def test_ids_as_colours(tmp_path, caplog, ending, opacity):
    ids = LABELS * 70001
    channels = [ids >> 16, ids >> 8 & 255, ids & 255] + [np.full_like(ids, 255)] * opacity
    write_sections(tmp_path, np.stack(channels, axis=-1).astype(np.uint8), ending)
    result = imported(tmp_path, f's*.{ending}')
    assert result[3, 2, 8] == 350005
    np.testing.assert_array_equal(result, ids)
    assert caplog.text.count('red·65536 + green·256 + blue') == 1


def test_planes_of_colours(tmp_path):
    ids = LABELS * 70001
    planes = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=1).astype(np.uint8)
    tifffile.imwrite(tmp_path / 'l.tif', planes, photometric='rgb', planarconfig='separate')
    np.testing.assert_array_equal(imported(tmp_path, 'l.tif'), ids)


def test_opacity_that_varies(tmp_path):
    colours = np.full((*SHAPE_ZYX, 4), 9, np.uint8)
    colours[2, 3, 4, 3] = 1
    write_sections(tmp_path, colours)
    with pytest.raises(UserError, match=r's2\.png has opacity that varies'):
        imported(tmp_path, 's*.png')


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ([0.0, 7.0, 2.0**24], None),
        ([0.0, 7.5, 1.0], 'numbers that are not whole'),
        ([0.0, np.nan, 1.0], 'numbers that are not whole'),
        ([0.0, 2.0**24 + 2, 1.0], 'no longer exact'),
    ],
)
def test_labels_of_imagej_are_float_beyond_16_bits(tmp_path, caplog, values, message):
    labels = np.array(values, np.float32)[LABELS % 3]
    tifffile.imwrite(tmp_path / 'l.tif', labels, imagej=True, metadata={'axes': 'ZYX'})
    if message:
        with pytest.raises(UserError, match=message):
            imported(tmp_path, 'l.tif')
    else:
        np.testing.assert_array_equal(imported(tmp_path, 'l.tif'), labels)
        assert 'float32 values are taken as labels' in caplog.text


def test_white_is_zero_does_not_count_for_labels(tmp_path, caplog):
    tifffile.imwrite(tmp_path / 'l.tif', LABELS.astype(np.uint16), photometric='miniswhite')
    np.testing.assert_array_equal(imported(tmp_path, 'l.tif'), LABELS)
    assert 'labels are the numbers as stored' in caplog.text


NANOMETRES = ['4nm', '5nm', '40nm', None]
SCHEMAS = {
    'zarr': ({'shape': SHAPE_ZYX}, None),
    'zarr3': ({'shape': SHAPE_ZYX, 'labels': ['z', 'y', 'x']}, None),
    'n5': ({'shape': SHAPE_ZYX[::-1], 'labels': ['x', 'y', 'z']}, None),
    'precomputed': ({'inclusive_min': [3, 4, 5, 0], 'shape': [11, 7, 5, 1]}, NANOMETRES),
}


@pytest.mark.parametrize('scheme', SCHEMAS)
@pytest.mark.parametrize('with_scheme', [False, True])
def test_other_volumes(tmp_path, scheme, with_scheme):
    """With voxel size and place where the format has them."""
    domain, units = SCHEMAS[scheme]
    folder = tmp_path / 'l'
    driver = 'neuroglancer_precomputed' if scheme == 'precomputed' else scheme
    store = ts.open(
        {'driver': driver, 'kvstore': {'driver': 'file', 'path': str(folder)}},
        create=True,
        dtype=ts.uint64,
        domain=ts.IndexDomain(**domain),
        dimension_units=units,
    ).result()
    labels = LABELS.astype(np.uint64) * 2**40
    store[...] = labels if scheme.startswith('zarr') else labels.T.reshape(store.shape)
    source = f'{scheme}://{folder}' if with_scheme else str(folder)
    source += '@0' if scheme == 'precomputed' else ''
    done = import_labels(source, f'{tmp_path}/out.h5:l', quiet=True)
    with h5py.File(tmp_path / 'out.h5', 'r') as file:
        np.testing.assert_array_equal(file['l'][:], labels)
        attrs = dict(file['l'].attrs)
    if scheme == 'precomputed':
        assert done.voxel_size == (4, 5, 40)
        assert attrs['resolution'].tolist() == [40, 5, 4]
        assert attrs['offset'].tolist() == [200, 20, 12]
    else:
        assert 'resolution' not in attrs


def test_hdf5_by_name_with_its_size_and_place(tmp_path, caplog):
    with h5py.File(tmp_path / 'in.h5', 'w') as file:
        file['a'], file['b'] = LABELS, LABELS + 1
        file['b'].attrs.update(resolution=[40.0, 5, 4], offset=[80.0, 0, -8])
    np.testing.assert_array_equal(imported(tmp_path, 'in.h5:b'), LABELS + 1)
    with h5py.File(tmp_path / 'out.h5', 'r') as file:
        assert file['l'].attrs['resolution'].tolist() == [40, 5, 4]
        assert file['l'].attrs['offset'].tolist() == [80, 0, -8]
    assert caplog.text == ''
    imported(tmp_path, 'in.h5', dataset='b', voxel_size=(4, 5, 50))
    assert 'x,y,z 4,5,50 nm (--voxel_size), but x,y,z 4,5,40 nm (its attribute resolution of' in (
        caplog.text
    )


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('l.wkw', b'WKW' + bytes(20), 'is one cube of a WKW volume; .* name the folder'),
        ('l.jpg', b'\xff\xd8\xff\xe0' + bytes(20), 'is JPEG, which blurs what it stores'),
        ('l.raw', b'hello', 'is neither PNG nor TIFF nor MRC'),
    ],
)
def test_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        imported(tmp_path, name)
    assert not (tmp_path / 'out.h5').exists()


@pytest.mark.parametrize('source', ['no.h5', 'no/*.png'])
def test_nothing_there(tmp_path, source):
    with pytest.raises(UserError, match=r'no such file|matches no file'):
        imported(tmp_path, source)
