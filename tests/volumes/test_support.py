"""The table of formats in doc/formats.md, made from the tests that show each of its cells.

To print it: python -m tests.volumes.test_support
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = '<!-- made by tests/volumes/test_support.py -->\n', '<!-- end -->'

_D, _C, _O, _W = 'test_descriptions', 'test_chunks', 'test_outputs', 'test_wkw_datasets'
_Z = 'test_scales'
_S, _T, _M = (f'importing/test_{name}' for name in ('import_stack', 'tiff_files', 'mrc_files'))
COLUMNS = ('axes', 'voxel size', 'first voxel', 'scales', 'missing data told', 'written')
# Format → for each column the test that shows it: 'module.function', '' where the format has no such thing or we
# do not read it.
SUPPORT = {
    'HDF5': (
        f'{_D}.test_axes_of_hdf5', f'{_D}.test_voxel_size_in_attributes', f'{_D}.test_offset_of_cremi', '',
        f'{_D}.test_hdf5_that_cannot_be_read_is_not_black', f'{_O}.test_every_format_keeps_the_voxel_size',
    ),
    'Zarr 2': (
        f'{_D}.test_names_of_xarray_and_zarr3', f'{_D}.test_offset_of_cremi', f'{_D}.test_offset_of_cremi', '',
        f'{_C}.test_missing_chunks_are_told_once_and_read_as_the_fill_value',
        f'{_O}.test_every_format_keeps_the_voxel_size',
    ),
    'Zarr 3': (
        f'{_D}.test_names_of_xarray_and_zarr3', 'test_oracles.test_zarr', 'test_oracles.test_zarr', '',
        f'{_C}.test_missing_chunks_are_told_once_and_read_as_the_fill_value',
        f'{_O}.test_every_format_keeps_the_voxel_size',
    ),
    'OME-Zarr 0.4, 0.5': (
        f'{_D}.test_ome_zarr_of_other_axes_and_units', f'{_D}.test_ome_zarr', f'{_D}.test_ome_zarr',
        f'{_D}.test_ome_zarr', f'{_C}.test_a_volume_without_any_chunk_is_refused', '',
    ),
    'zipped Zarr, N5': (
        f'{_D}.test_a_zipped_zarr', f'{_Z}.test_zipped_groups_of_scales', f'{_Z}.test_zipped_groups_of_scales',
        f'{_Z}.test_zipped_groups_of_scales', f'{_Z}.test_missing_chunks_in_a_zip_are_told', '',
    ),
    'N5': (
        'test_tensorstores.test_named_dimensions_are_followed', f'{_D}.test_voxel_size_of_n5',
        f'{_D}.test_funlib_in_n5_counts_from_z', f'{_D}.test_scales_of_n5',
        f'{_C}.test_missing_chunks_are_told_once_and_read_as_the_fill_value',
        f'{_O}.test_every_format_keeps_the_voxel_size',
    ),
    'precomputed': (
        'test_tensorstores.test_every_way_to_name_it', f'{_D}.test_precomputed', f'{_D}.test_precomputed',
        f'{_D}.test_precomputed', f'{_C}.test_compressed_files_are_refused',
        f'{_O}.test_every_format_keeps_the_voxel_size',
    ),
    'WKW': (
        f'{_W}.test_every_way_to_name_it', f'{_W}.test_scale_with_a_unit', f'{_W}.test_every_way_to_name_it',
        f'{_W}.test_magnifications', f'{_W}.test_missing_cubes', '',
    ),
    'TIFF, ImageJ, OME-TIFF (imported)': (
        f'{_T}.test_layouts', f'{_T}.test_voxel_sizes', '', f'{_T}.test_coarse_pages_of_a_pyramid_are_passed_over',
        f'{_T}.test_files_cut_anywhere_are_errors_or_whole', '',
    ),
    'PNG (imported)': (f'{_S}.test_sections', '', '', '', f'{_S}.test_bad_sections', ''),
    'MRC (imported)': (
        f'{_M}.test_modes', f'{_M}.test_contradiction', '', '', f'{_M}.test_truncated', '',
    ),
}  # fmt: skip


def make_table() -> str:
    """The table in Markdown."""
    rows = [('', *COLUMNS), ('---',) + (':---:',) * len(COLUMNS)]
    rows += [(name, *('✓' if test else '–' for test in tests)) for name, tests in SUPPORT.items()]
    return ''.join(f'| {" | ".join(row)} |\n' for row in rows)


def test_the_table_in_the_documentation_is_this_one():
    text = (ROOT / 'doc' / 'formats.md').read_text(encoding='utf-8')
    assert BEGIN in text
    assert text.partition(BEGIN)[2].partition(END)[0] == make_table()


@pytest.mark.parametrize('name', SUPPORT)
def test_every_cell_is_shown_by_a_test(name):
    assert len(SUPPORT[name]) == len(COLUMNS)
    for test in filter(None, SUPPORT[name]):
        module, _, function = test.partition('.')
        path = Path(__file__).parent / f'{module}.py'
        tree = ast.parse(path.read_text(encoding='utf-8'))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


if __name__ == '__main__':
    print(BEGIN + make_table() + END)
