"""What a run reads again is as it was written, or refused; never something else."""

from __future__ import annotations

import itertools
import json
import shutil
import zipfile
import zlib

import h5py
import numpy as np
import pytest

from ffn.agglomeration import joined_volume
from ffn.agglomeration.candidates import (
    Candidate,
    CandidateSearch,
    find_candidates,
    read_candidates,
    write_candidates,
)
from ffn.assembly.assembly import assemble
from ffn.assembly.config import Assembly, parse_masks
from ffn.assembly.masked import find_unmasked_subvolumes
from ffn.assembly.matching import Matching
from ffn.assembly.overlaps import Overlap
from ffn.assembly.reconcile import Tables
from ffn.assembly.subvolumes import Subvolumes
from ffn.assembly.tiling import Tiling
from ffn.distributed.blockwise import block_file
from ffn.distributed.local_pools import InProcess
from ffn.evaluation import trials
from ffn.export.pyramid import Pyramid, write_block
from ffn.export.scales import plan_scales
from ffn.inference import storage
from ffn.inference.core.checkpoint import restore_checkpoint, save_checkpoint
from ffn.inference.given_segments import read_given_ids
from ffn.inference.histogram import load_reference
from ffn.inference.request_identity import read_stored, stored_voxel_size
from ffn.utils import id_tables
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes import provenance
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.volume import VolumeSource, open_volume
from tests.assembly.cut import blobs, check_same_objects, cut
from tests.flips import refusals
from tests.inference.core.test_checkpoint import new_canvas

SHAPE = (21, 30, 45)
TILING = Tiling(Box.of_shape(SHAPE), Xyz(22, 17, 15), Xyz(6, 5, 7))


def make_assembly(folder, form='zarr3') -> Assembly:
    spec = f'{folder}/out.h5:labels' if form == 'h5' else f'{form}://{folder}/out'
    output = OutputSpec(spec, TILING.box, Xyz(16, 16, 16))
    folder = folder / 'results'
    return Assembly(folder, TILING, (), Matching(), output, folder / 'assembly')


def run_again(folder, form='zarr3') -> dict:
    return assemble(make_assembly(folder, form), InProcess(), quiet=True)


@pytest.fixture(scope='module')
def assembled(tmp_path_factory):
    folder = tmp_path_factory.mktemp('assembled')
    cut(folder / 'results', blobs(SHAPE, 12, 3), TILING)
    run_again(folder)
    return folder


@pytest.mark.parametrize('name', ['offsets', 'ids', 'objects', 'sizes', 'crcs'])
def test_tables_of_an_assembly(assembled, name):
    folder = assembled / 'results' / 'assembly'

    def read():
        tables = Tables(folder)
        looked_up = [[part.tolist() for part in tables.look_up(i)] for i in range(len(TILING))]
        return looked_up, tables.sizes[:].tolist(), tables.crcs[:].tolist()

    advice = f'remove {folder}/statistics.json and run again'
    assert refusals(folder / f'{name}.bin', read, advice=advice) == 60
    refusals(folder / f'{name}.bin.crc', read, 8, advice=advice)


def test_the_next_run_refuses_a_damaged_table(assembled, tmp_path):
    """And says what to do, after which the volume is the same."""
    shutil.copytree(assembled / 'results', tmp_path / 'results')
    shutil.rmtree(tmp_path / 'results' / 'assembly')
    run_again(tmp_path)
    spec = make_assembly(tmp_path).output.spec
    with open_volume(spec) as volume:
        before = volume.read(TILING.box)
    shutil.rmtree(tmp_path / 'out')
    table = tmp_path / 'results' / 'assembly' / 'objects.bin'
    data = bytearray(table.read_bytes())
    data[8] ^= 2
    table.write_bytes(data)
    with pytest.raises(UserError, match=r'objects\.bin is damaged.*; remove .*statistics\.json'):
        run_again(tmp_path)
    (table.parent / 'statistics.json').unlink()
    run_again(tmp_path)
    with open_volume(spec) as volume:
        np.testing.assert_array_equal(volume.read(TILING.box), before)
    check_same_objects(before, blobs(SHAPE, 12, 3))


def test_an_assembly_of_an_earlier_version(assembled, tmp_path):
    """Without checksums; its volume of Zarr 3 has none either."""
    shutil.copytree(assembled / 'results', tmp_path / 'results')
    shutil.rmtree(tmp_path / 'results' / 'assembly')
    expected = run_again(tmp_path)
    folder = tmp_path / 'results' / 'assembly'
    for path in folder.glob('*.crc'):
        path.unlink()
    for path in (folder / 'statistics.json', tmp_path / 'out' / 'ffn.json'):
        content = json.loads(path.read_text())
        del content['sha256']
        path.write_text(json.dumps(content))
    metadata = json.loads((tmp_path / 'out' / 'zarr.json').read_text())
    assert metadata['codecs'].pop() == {'name': 'crc32c'}
    (tmp_path / 'out' / 'zarr.json').write_text(json.dumps(metadata))
    shutil.rmtree(tmp_path / 'out' / 'c')
    shutil.rmtree(folder / 'written')
    assert run_again(tmp_path) == expected
    assert json.loads((tmp_path / 'out' / 'zarr.json').read_text()) == metadata
    with open_volume(make_assembly(tmp_path).output.spec) as volume:
        check_same_objects(volume.read(TILING.box), blobs(SHAPE, 12, 3))


def test_statistics(assembled):
    path = assembled / 'results' / 'assembly' / 'statistics.json'
    # Some flips leave the numbers: in white space, or in the name of the checksum.
    assert refusals(path, lambda: sorted(run_again(assembled)['sizes'].items()), 40) >= 20


def test_overlaps(assembled):
    path = next((assembled / 'results' / 'overlaps').rglob('overlap-*.npz'))

    def read():
        found = Overlap.load(path)
        shared = {axis: table.tolist() for axis, table in found.shared.items()}
        return found.ids.tolist(), found.voxels.tolist(), shared, found.crcs

    advice = 'remove it, and ffn segment or assemble makes it again'
    assert refusals(path, read, advice=advice) >= 25  # not times, and the like


@pytest.mark.parametrize('earlier', [False, True])
@pytest.mark.parametrize('size', [Xyz(5, 6, 7), Xyz(5, 6, 11)])
def test_sections_of_a_subvolume(assembled, tmp_path, size, earlier):
    """Seven of twelve are checked by themselves, or, as one of an earlier version, with the others."""
    place = Xyz(1, 0, 0)
    box = Box(TILING.subvolume(place).start, size)
    shutil.copytree(assembled / 'results', tmp_path / 'results')
    path = Subvolumes(tmp_path / 'results', TILING).path(place)
    if earlier:
        with np.load(path, allow_pickle=True) as file:
            members = {name: file[name] for name in file.files if name != 'section_crcs'}
        np.savez_compressed(path, **members)

    def read():
        return Subvolumes(tmp_path / 'results', TILING).read_box(place, box).tolist()

    with zipfile.ZipFile(path) as archive:
        end = archive.getinfo('segmentation.npy').compress_size
    refused = refusals(path, read, 60, begin=60, end=end)
    assert refused >= (55 if earlier or size.z == 11 else 10)
    assert read() == Subvolumes(assembled / 'results', TILING).read_box(place, box).tolist()


def test_sections_have_a_checksum_each(assembled):
    path = Subvolumes(assembled / 'results', TILING).path(Xyz(1, 0, 0))
    with np.load(path) as file:
        labels, crcs = file['segmentation'], file['section_crcs']
    assert labels.dtype == np.uint8
    first = zlib.crc32(b'|u1' + labels[0].tobytes())
    assert crcs.dtype == np.uint32
    assert (crcs[0], len(crcs)) == (first, 12)


def test_unmasked_subvolumes(tmp_path):
    masks = parse_masks('masks { coordinate_expression { expression: "x > 20" } }', '--mask')

    def read():
        found = find_unmasked_subvolumes(TILING, masks, tmp_path, InProcess(), quiet=True)
        return found.present.tolist()

    read()
    (path,) = tmp_path.rglob('all.npy')
    assert refusals(path, read) == 60


def test_candidates(tmp_path):
    found = [Candidate(7, 2**63 + 5, 12.5, Xyz(3, 40, 500)), Candidate(8, 9, 1.0, Xyz(0, 1, 2))]
    write_candidates(tmp_path / 'candidates.csv', found)
    path = tmp_path / 'candidates.csv'
    assert read_candidates(path) == found
    assert refusals(path, lambda: read_candidates(path)) == 60


def test_candidates_of_a_block(tmp_path):
    labels = np.zeros((9, 12, 20), np.uint64)
    labels[1:8, 1:11, 1:9], labels[1:8, 1:11, 11:19] = 5, 2**40
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file['labels'] = labels
    box = Box.of_shape(labels.shape)
    source = VolumeSource(f'{tmp_path}/labels.h5:labels')
    search = CandidateSearch(source, box, (1.0, 1.0, 1.0), 4.0, Xyz(20, 12, 9))

    def read():
        return list(find_candidates(search, tmp_path / 'candidates', InProcess(), quiet=True))

    assert len(read()) == 1
    path = block_file(tmp_path / 'candidates', box, '.csv')
    assert refusals(path, read) == 60


def test_joined_ids(tmp_path):
    labels = np.arange(8 * 8 * 8, dtype=np.uint64).reshape(8, 8, 8)
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file['labels'] = labels
    box = Box.of_shape(labels.shape)
    source = VolumeSource(f'{tmp_path}/labels.h5:labels')
    output = OutputSpec(f'zarr3://{tmp_path}/joined', box, Xyz(8, 8, 8))
    folder = tmp_path / 'run'

    def write():
        joined_volume.write_joined(source, {7: 3, 9: 3}, output, folder, InProcess(), quiet=True)

    def read():
        id_tables._read.cache_clear()
        joined = joined_volume.JoinedIds(table)
        joined_volume.write_block(source, joined, output, box, folder / 'mark')
        with open_volume(output.spec) as volume:
            return volume.read(box).tolist()

    write()
    rows = np.array([[7, 3], [9, 3]], np.uint64)
    table = id_tables.IdTable.write(folder / joined_volume.TABLE, rows)
    assert refusals(folder / joined_volume.TABLE, read) == 60
    record = folder / joined_volume.RECORD
    stamps = lambda: provenance.recorded_stamps(record, output.spec)  # noqa: E731
    assert len(stamps()) == 1
    assert refusals(record, stamps) >= 40


@pytest.mark.parametrize('form', ['zarr3', 'n5', 'h5'])
def test_chunks_of_a_joined_volume(assembled, tmp_path, form):
    """Zarr 3 has CRC-32C; gzip has checksums of its own."""
    shutil.copytree(assembled / 'results', tmp_path / 'results')
    shutil.rmtree(tmp_path / 'results' / 'assembly')
    run_again(tmp_path, form)
    spec = make_assembly(tmp_path, form).output.spec

    def read():
        with open_volume(spec) as volume:
            return volume.read(TILING.box).tolist()

    if form == 'h5':
        path = tmp_path / 'out.h5'
        with h5py.File(path) as file:
            first = file['labels'].id.get_chunk_info(0)
        begin, end = first.byte_offset, first.byte_offset + first.size
    else:
        path, begin, end = tmp_path / 'out' / ('c/0/0/0' if form == 'zarr3' else '0/0/0'), 16, None
    assert refusals(path, read, 30, begin, end) >= (20 if form == 'h5' else 28)


def test_sizes_of_an_export(tmp_path):
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file['labels'] = np.arange(9 * 8 * 7, dtype=np.uint64).reshape(9, 8, 7)
    scales = plan_scales(Box.of_shape((9, 8, 7)), (8.0, 8.0, 8.0), 1)
    spec = f'{tmp_path}/labels.h5:labels'
    pyramid = Pyramid(tmp_path / 'labels', spec, tuple(scales), True, 'uint64')
    path = block_file(pyramid.written(0), scales[0].box, '.npy')
    write_block(pyramid, 0, scales[0].box, path)
    assert len(pyramid.sizes()[0]) == 503
    assert refusals(path, pyramid.sizes) == 60


@pytest.mark.parametrize('complete', [True, False])
def test_the_stamp_of_a_volume(tmp_path, complete):
    """One that is not complete is not taken for one that is."""
    spec = f'zarr3://{tmp_path}/out'
    OutputSpec(spec, TILING.box, Xyz(16, 16, 16)).create('of something')
    provenance.write_stamp(spec, 'of something', complete)

    def read():
        try:
            return provenance.read_input_stamp(spec)
        except UserError as error:
            if 'is not complete' in str(error):
                return 'incomplete'
            raise

    assert read() == ('of something' if complete else 'incomplete')
    assert refusals(tmp_path / 'out' / 'ffn.json', read) >= 40


def test_a_manifest(tmp_path):
    provenance.claim(tmp_path, {'tiling': {'box': [1, 2]}, 'masks': ''})
    path = tmp_path / provenance.MANIFEST
    advice = 'remove it, and run again with the settings that its folder was made with'
    assert refusals(path, lambda: provenance.read_claim(path), advice=advice) >= 40


def test_the_result_of_a_trial(tmp_path):
    """One that is damaged is made again."""
    path = tmp_path / 'trial.json'
    trials.write_result(path, trials.Result('model.ckpt-7', 'as given', {'voi': 0.25}))

    def read():
        if (found := trials.read_result(path)) is None:
            raise UserError('none')
        return found

    assert refusals(path, read) >= 40


def test_a_checkpoint_of_a_canvas(tmp_path):
    canvas, path = new_canvas(), tmp_path / 'seg-0_0_0.cpoint'
    steps = itertools.count()

    def save(canvas):
        if next(steps) == 40:
            save_checkpoint(canvas, path, b'settings')

    canvas.observers.append(save)
    canvas.segment_all(canvas.seed_policy)

    def read():
        fresh = new_canvas()
        restore_checkpoint(fresh, path, b'settings')
        arrays = fresh.segmentation.tobytes(), fresh.seg_prob.tobytes(), fresh.seed.tobytes()
        seeds = [
            part.tolist()
            for part in fresh.seed_policy.get_state().values()
            if part is not None and not isinstance(part, int)
        ]
        return arrays, seeds, fresh.growing, fresh.origins, fresh.history, fresh.visited

    assert refusals(path, read, 80) >= 40


def test_a_histogram(tmp_path):
    path = tmp_path / 'histogram.npz'
    np.savez(path, histogram=np.arange(256))
    read = lambda: load_reference(str(path)).tolist()  # noqa: E731
    assert refusals(path, read, advice='make it again') >= 40


@pytest.mark.parametrize('read', [read_stored, read_given_ids, stored_voxel_size])
def test_what_a_result_was_made_with(assembled, read):
    path = next((assembled / 'results').glob('*/*/seg-*.npz'))
    assert refusals(path, lambda: read(path), 200, advice=provenance.SEGMENT_AGAIN) > 0


def test_a_result(assembled):
    path = next((assembled / 'results').glob('*/*/seg-*.npz'))
    corner = storage.corner_of(path)

    def read():
        labels, origins = storage.load_segmentation(assembled / 'results', corner)
        return labels.tobytes(), origins

    assert refusals(path, read) >= 15  # other members are not read
