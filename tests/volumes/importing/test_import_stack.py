"""Image stacks to HDF5."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import tifffile
from PIL import Image

from ffn.cli import import_stack as cli_import_stack
from ffn.utils.errors import UserError
from ffn.volumes.importing import image_sources, import_stack, stacks

SHAPE_ZYX = (13, 7, 10)


def random_stack(dtype: type, shape_zyx=SHAPE_ZYX) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, shape_zyx, dtype, endpoint=True)


def write_sections(folder: Path, stack: np.ndarray, ending: str) -> None:
    for z, section in enumerate(stack):
        Image.fromarray(section).save(folder / f's{z}.{ending}')


def read(path: Path, name: str = 'raw') -> np.ndarray:
    with h5py.File(path, 'r') as file:
        return file[name][:]


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('ending', ['png', 'tif'])
@pytest.mark.parametrize('slab_bytes', [1, 5 * 7 * 10 * 2, 2**28])
def test_sections(tmp_path, monkeypatch, dtype, ending, slab_bytes):
    monkeypatch.setattr(import_stack, '_SLAB_BYTES', slab_bytes)
    stack = random_stack(dtype)
    write_sections(tmp_path, stack, ending)
    cli_import_stack.main(
        ['--images', f'{tmp_path}/s*.{ending}', '--output', f'{tmp_path}/v.h5:raw']
    )
    result = read(tmp_path / 'v.h5')
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, stack)
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        assert file['raw'].compression == 'gzip'
        assert all(c <= n for c, n in zip(file['raw'].chunks, SHAPE_ZYX))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.dtype('>u2')])
def test_multipage_tiffs_are_joined_in_natural_order(tmp_path, dtype):
    stack = random_stack(np.uint8).astype(dtype) * np.dtype(dtype).itemsize
    for name, part in (('b2.tif', stack[:9]), ('b10.tif', stack[9:])):
        pages = [Image.fromarray(section) for section in part]
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    import_stack.import_stack(f'{tmp_path}/*.tif', f'{tmp_path}/v.h5:raw')
    result = read(tmp_path / 'v.h5')
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, stack)


def test_natural_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ['z10.png', 'z9.png', 'z09b.png', 'a/z100.png', '7.png', '10.png']
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    expected = ['7.png', '10.png', 'a/z100.png', 'z9.png', 'z09b.png', 'z10.png']
    assert [str(path) for path in stacks.find_images('**/*.png')] == expected


def test_other_datasets_stay(tmp_path):
    write_sections(tmp_path, random_stack(np.uint8), 'png')
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = np.arange(4)
        file['raw'] = np.arange(3)
    import_stack.import_stack(f'{tmp_path}/*.png', f'{tmp_path}/v.h5:raw')
    np.testing.assert_array_equal(read(tmp_path / 'v.h5', 'labels'), np.arange(4))
    assert read(tmp_path / 'v.h5').shape == SHAPE_ZYX


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_clahe_spreads_contrast_over_the_type(tmp_path, dtype):
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:48, :80]
    faint = (top // 2 + np.sin(y / 3) * np.cos(x / 5) * top / 20).astype(dtype)
    blank = np.full_like(faint, top // 3)
    write_sections(tmp_path, np.stack([faint, blank]), 'png')
    cli_import_stack.main(
        ['--images', f'{tmp_path}/*.png', '--output', f'{tmp_path}/v.h5:raw', '--clahe', '--quiet']
    )
    result = read(tmp_path / 'v.h5')
    assert result.dtype == dtype
    assert np.ptp(result[0]) > 3 * np.ptp(faint.astype(int))
    assert np.corrcoef(result[0].ravel(), faint.ravel())[0, 1] > 0.8
    assert np.ptp(result[1]) == 0


def test_clahe_names_the_section_that_is_not_finite(tmp_path):
    sections = np.random.default_rng(3).random((4, 9, 12), np.float32)
    sections[2, 3, 4:6] = np.nan
    tifffile.imwrite(tmp_path / 's.tif', sections, photometric='minisblack')
    with pytest.raises(
        UserError, match=r's\.tif: 2 voxels of what becomes section 2 are not finite'
    ):
        import_stack.import_stack(f'{tmp_path}/s.tif', f'{tmp_path}/v.h5:raw', clahe=True)
    assert not (tmp_path / 'v.h5').exists()
    import_stack.import_stack(f'{tmp_path}/s.tif', f'{tmp_path}/v.h5:raw')


@pytest.mark.parametrize('dtype', [np.int8, np.int16, np.uint16, np.float32])
def test_clahe_depends_on_contrast_alone(dtype):
    """Not on the type in which it is stored, nor on where 0 is."""
    section = np.random.default_rng(0).integers(0, 200, (64, 80)).astype(np.uint8)
    expected = import_stack.equalize(section) / 255
    stored = (section.astype(float) - 100) * (0.03 if dtype is np.float32 else 1)
    if dtype is np.uint16:
        stored = section * 50.0
    found = import_stack.equalize(stored.astype(dtype)).astype(float)
    limits = (0, 1) if dtype is np.float32 else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    scaled = (found - limits[0]) / (limits[1] - limits[0])
    np.testing.assert_allclose(scaled, expected, atol=0.01)


def test_large_sections_are_no_decompression_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 30)  # of 70
    write_sections(tmp_path, random_stack(np.uint8), 'png')
    import_stack.import_stack(f'{tmp_path}/*.png', f'{tmp_path}/v.h5:raw')
    assert Image.MAX_IMAGE_PIXELS == 30


def damage_size(folder: Path) -> None:
    Image.fromarray(np.zeros((7, 11), np.uint8)).save(folder / 's4.png')


def damage_depth(folder: Path) -> None:
    Image.fromarray(np.zeros((7, 10), np.uint16)).save(folder / 's4.png')


def damage_color(folder: Path) -> None:
    Image.fromarray(np.zeros((7, 10, 3), np.uint8)).save(folder / 's4.png')


def damage_truncate(folder: Path) -> None:
    data = (folder / 's4.png').read_bytes()
    (folder / 's4.png').write_bytes(data[: len(data) // 2])


def damage_foreign(folder: Path) -> None:
    (folder / 's4.png').write_text('hello')


def damage_page(folder: Path) -> None:
    pages = [Image.fromarray(np.zeros(size, np.uint8)) for size in ((7, 10), (8, 10))]
    pages[0].save(folder / 's4.png', format='TIFF', save_all=True, append_images=pages[1:])


@pytest.mark.parametrize(
    ('damage', 'messages'),
    [
        (damage_size, ['11×7', 's4.png', '10×7', 's0.png']),
        (damage_depth, ['uint16', 's4.png', 'uint8', 's0.png']),
        (damage_color, ['s4.png has 3 numbers per voxel (colour or opacity); expected grey']),
        (damage_truncate, ['s4.png cannot be read']),
        (damage_foreign, ['s4.png is neither PNG nor TIFF']),
        (damage_page, ['10×8', 's4.png (page 1)', '10×7', 's4.png (page 0)']),
    ],
)
def test_bad_sections(tmp_path, damage, messages):
    write_sections(tmp_path, random_stack(np.uint8), 'png')
    damage(tmp_path)
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'] = np.arange(3)
    before = (tmp_path / 'v.h5').read_bytes()
    with pytest.raises(UserError) as caught:
        import_stack.import_stack(f'{tmp_path}/*.png', f'{tmp_path}/v.h5:raw')
    for message in messages:
        assert message in str(caught.value)
    assert (tmp_path / 'v.h5').read_bytes() == before
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--images', 'no/*.png', '--output', 'v.h5:raw'], "'no/*.png' matches no file"),
        (['--images', 'no/*.png', '--output', 'v.h5'], 'expected path:dataset'),
    ],
)
def test_command_line_errors(repository, tmp_path, arguments, message):
    process = subprocess.run(
        [sys.executable, '-m', 'ffn.utils.import_stack', *arguments],
        cwd=tmp_path,
        env={'PYTHONPATH': str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.startswith('error: ')
    assert len(process.stderr.splitlines()) == 1
    assert message in process.stderr


def test_sample_volume(data_dir, tmp_path):
    folder = data_dir / 'fib25' / 'training_sample2' / 'grayscale_maps'
    import_stack.import_stack(f'{folder}/iso.*.png', f'{tmp_path}/v.h5:raw')
    image = read(tmp_path / 'v.h5')
    assert image.shape == (250, 250, 250)
    assert image.dtype == np.uint8
    paths = sorted(folder.iterdir())
    for z in (0, 63, 64, 249):
        np.testing.assert_array_equal(image[z], np.asarray(Image.open(paths[z])))


def test_memory_does_not_grow_with_the_stack(tmp_path, monkeypatch):
    """A stack of 200 MB passes through slabs of 10 MB."""
    monkeypatch.setattr(import_stack, '_SLAB_BYTES', 10 * 2**20)
    section = np.zeros((1000, 2000), np.uint8)
    Image.fromarray(section).save(tmp_path / 's0.png')
    for z in range(1, 100):
        (tmp_path / f's{z}.png').symlink_to('s0.png')
    process = psutil.Process()
    peaks = []
    keep = image_sources.read_sections

    def watched(stack, *limits):
        for one in keep(stack, *limits):
            peaks.append(process.memory_info().rss)
            yield one

    monkeypatch.setattr(image_sources, 'read_sections', watched)
    import_stack.import_stack(f'{tmp_path}/*.png', f'{tmp_path}/v.h5:raw')
    assert len(peaks) == 100
    assert max(peaks) - peaks[0] < 60 * 2**20
