"""An export of which another one exists: something is added, or its source holds something else."""

import contextlib
import itertools
import json
import os

import h5py
import numpy as np
import pytest

from ffn.cli import export, serve
from ffn.evaluation.sources import shared_box
from ffn.export import pyramid
from ffn.proofreading.viewing.things import open_thing
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.hdf5 import replaced_dataset
from ffn.volumes.provenance import claim, open_complete, read_claim
from ffn.volumes.volume import open_volume


def call(folder, kind, dataset='part', *more):
    source = f'{folder}/v.h5:{dataset}'
    view = ('--output', str(folder / 'view'), '--voxel_size', '8,8,30', '--quiet')
    export.main([*view, f'--{kind}', source, *more])


def write_part(folder, value, name='part'):
    with replaced_dataset(f'{folder}/v.h5:{name}') as (file, plain):
        part = np.full((9, 12, 15), value, np.uint8)
        file.create_dataset(plain, data=part, chunks=(4, 12, 15), compression='gzip')


def image(folder):
    with open_volume(f'precomputed://{folder}/view/image') as volume:
        return volume.read(volume.box)


def layers(folder):
    return json.loads((folder / 'view/state.json').read_text())['layers']


def test_an_import_with_other_content_is_refused(tmp_path):
    write_part(tmp_path, 3)
    call(tmp_path, 'image')
    write_part(tmp_path, 3)  # made again, with another dataset beside it, and of another time
    write_part(tmp_path, 5, 'other')
    os.utime(tmp_path / 'v.h5', (0, 0))
    call(tmp_path, 'image')
    write_part(tmp_path, 4)
    with pytest.raises(UserError, match=r'results of other settings: made_from is .* there and'):
        call(tmp_path, 'image')
    assert (image(tmp_path) == 3).all()


def test_a_volume_of_another_program_that_was_written_anew(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['part'] = np.full((9, 12, 15), 3, np.uint8)
    call(tmp_path, 'image')
    call(tmp_path, 'image')
    with h5py.File(tmp_path / 'v.h5', 'a') as file:
        file['part'][3] = 7
    with pytest.raises(UserError, match=r'other settings: file is v\.h5 of .* there and v\.h5 of'):
        call(tmp_path, 'image')
    record = read_claim(tmp_path / 'view/image/export.json')
    del record['file']  # begun by an earlier version, which did not look
    (tmp_path / 'view/image/export.json').unlink()
    claim(tmp_path / 'view/image', record, 'export.json')
    call(tmp_path, 'image')


def test_an_output_of_ours_in_the_file_of_the_volume(tmp_path):
    """It changes size and time of the file, which are not known any more; nor are they of an export begun since."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['part'] = np.full((9, 12, 15), 3, np.uint8)
    call(tmp_path, 'image')
    with replaced_dataset(f'{tmp_path}/v.h5:ours') as (file, name):
        file[name] = np.ones((9, 12, 15), np.uint8)
    call(tmp_path, 'image')
    (tmp_path / 'view').rename(tmp_path / 'before')
    call(tmp_path, 'image')
    assert 'file' not in read_claim(tmp_path / 'view/image/export.json')


def test_what_is_added_is_shown_with_what_was_there(tmp_path):
    write_part(tmp_path, 3)
    call(tmp_path, 'labels', 'part', '--skeletons')
    before = layers(tmp_path)
    assert [layer['name'] for layer in before] == ['labels']
    assert before[0]['segments'] == ['3']
    call(tmp_path, 'image')
    after = layers(tmp_path)
    assert [layer['name'] for layer in after] == ['image', 'labels']
    assert after[1] == before[0]
    call(tmp_path, 'labels')
    assert layers(tmp_path) == after


@pytest.mark.parametrize('kind', ['image', 'labels'])
def test_an_export_that_was_stopped_is_no_volume_yet(tmp_path, monkeypatch, kind):
    write_part(tmp_path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(pyramid, 'write_block', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call(tmp_path, kind)
    (tmp_path / 'view/state.json').write_text('{}')  # of an earlier export there
    view, volume = str(tmp_path / 'view'), f'{tmp_path}/view/{kind}'
    for use in (
        lambda: open_complete(f'precomputed://{volume}'),
        lambda: open_thing(view),
        lambda: serve.main([view, '--port', '0']),
    ):
        with pytest.raises(UserError, match=f'{kind} is not complete; run the command that writes'):
            use()
    call(tmp_path, kind)
    assert open_complete(volume).dtype == (np.uint8 if kind == 'image' else np.uint64)
    assert [layer.name for layer in open_thing(view)] == [kind]
    (tmp_path / 'view' / kind / 'ffn.json').unlink()  # as an earlier version left it
    assert [layer.name for layer in open_thing(view)] == [kind]


@pytest.mark.parametrize(
    ('kind', 'more'),
    [*itertools.product(('image', 'labels'), ((), ('--write_empty',)))],
)
def test_chunks_that_an_export_has_lost(tmp_path, caplog, kind, more):
    """They are told with --write_empty, and else not told from empty ones, which are left out."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['part'] = np.full((5, 6, 70), 3, np.uint8)  # two chunks
    call(tmp_path, kind, 'part', '--scales', '1', *more)
    chunks = sorted((tmp_path / f'view/{kind}/8_8_30').iterdir())
    spec = f'precomputed://{tmp_path}/view/{kind}'

    def read(missing='tell'):
        with open_volume(spec, missing) as volume:
            return volume.read(volume.box)

    chunks.pop().unlink()
    assert (read() == 0).sum() == 5 * 6 * 6
    told = '1 of the 2 chunks that were needed do not exist'
    if more:
        assert told in caplog.text
        with pytest.raises(UserError, match=told):
            read('error')
    else:
        assert not read('error').all()
        assert told not in caplog.text
    chunks.pop().unlink()
    if more:
        with pytest.raises(UserError, match='none of its chunks exist'):
            read()
    else:
        assert not read().any()


@pytest.mark.parametrize('kind', ['image', 'labels'])
def test_an_export_of_what_is_empty(tmp_path, caplog, kind):
    write_part(tmp_path, 0)
    call(tmp_path, kind, 'part', '--scales', '1')
    spec = f'precomputed://{tmp_path}/view/{kind}'
    caplog.clear()
    for _ in range(2):
        with open_volume(spec, 'error') as volume:
            assert not volume.read(volume.box).any()
        assert [layer.name for layer in open_thing(str(tmp_path / 'view'))] == [kind]
    told = [one.getMessage() for one in caplog.records if 'chunks' in one.getMessage()]
    assert len({*told}) == len(told) > 0
    assert all('0 everywhere, or has lost them' in one for one in told)
    stamp = json.loads((tmp_path / 'view' / kind / 'ffn.json').read_text())
    assert stamp['sparse']
    # Exports said at first only whether they are finished.
    for complete in (True, False):
        text = json.dumps({'made_from': '', 'complete': complete})
        (tmp_path / 'view' / kind / 'ffn.json').write_text(text)
        with contextlib.nullcontext() if complete else pytest.raises(UserError, match='none of'):
            _ = open_volume(spec)


def test_an_export_is_where_its_source_is(tmp_path, caplog):
    """That it was written here does not mean that it has the axes and the coordinates of an image."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['part'] = np.full((9, 12, 5), 3, np.uint8)
    call(tmp_path, 'labels')
    caplog.clear()
    with open_volume(f'precomputed://{tmp_path}/view/labels') as labels:
        assert 'x is the shortest axis' in caplog.text
        shared_box(labels, labels, Xyz(1, 0, 0))
    assert 'has the coordinates of its image already' not in caplog.text


def test_an_image_of_a_type_that_viewers_do_not_show(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['part'] = np.zeros((3, 5, 7))
    with pytest.raises(UserError, match=r'is float64; .* int32 or float32; ffn import-stack makes'):
        call(tmp_path, 'image')
    assert not (tmp_path / 'view').exists()
