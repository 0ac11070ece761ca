"""`ffn proofread` without a browser: what it shows, and what its keys do."""

import h5py
import numpy as np
import pytest

pytest.importorskip('neuroglancer')
import neuroglancer

from ffn.cli import apply_edits, proofread, queue
from ffn.proofreading.editing.cut_masks import load_mask, masks_folder
from ffn.proofreading.editing.journal import read_journal
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

SIZE, FINE = (8.0, 8.0, 30.0), (4.0, 4.0, 30.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two bodies that are joined by a sheet of 2 sections and by a rod of 6 voxels, and images of other resolutions."""
    labels = np.zeros((20, 60, 90), np.uint64)
    labels[2:18, 20:40, 5:30] = labels[9:11, 20:40, 30:38] = labels[2:18, 20:40, 38:52] = 7
    labels[2:18, 27:33, 52:60] = labels[2:18, 20:40, 60:85] = 7
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = file['unsized'] = labels
        file['fine'] = np.ones((20, 120, 180), np.uint8)
        file['plain'] = np.ones((20, 60, 90), np.uint8)
        for name, size in (('labels', SIZE), ('fine', FINE)):
            file[name].attrs['resolution'] = size[::-1]
    monkeypatch.chdir(tmp_path)
    return tmp_path


def open_session(labels, **settings):
    volume = ProofreadVolume(f'v.h5:{labels}')
    return proofread.open_session(proofread.Proofread(volume, 'j.jsonl', **settings))


def press(viewer, key, voxel=None):
    action = neuroglancer.viewer_config_state.ActionState({'mousePosition': voxel})
    viewer.neuroglancer.actions.invoke(f'ffn-{key}', action)


@pytest.mark.parametrize(
    ('image', 'told'),
    [
        ('', ''),
        ('v.h5:fine', 'the voxels of image are x,y,z 4,4,30 nm, those of labels 8,8,30 nm'),
        ('v.h5:plain', 'no voxel size is stored with image; that of labels is taken'),
    ],
)
def test_the_view_counts_voxels_of_the_labels(folder, caplog, image, told):
    with open_session('labels', image=image, position=Xyz(15, 30, 10)) as (viewer, _):
        press(viewer, 'keyd', [75.5, 30.5, 10.5])
        shown = viewer.neuroglancer.state
        sources = {layer.name: layer.layer.source[0] for layer in shown.layers}
        volumes = viewer.neuroglancer.volume_manager.volumes
        spaces = [sources[name].transform.output_dimensions for name in ('place', 'notes')]
        spaces += [shown.dimensions, volumes[sources['segments'].url.rpartition('.')[2]].dimensions]
        for space in spaces:
            assert [space[axis].scale for axis in 'xyz'] == pytest.approx([8e-9, 8e-9, 30e-9])
        assert shown.position.tolist() == [15.5, 30.5, 10.5]
    (done,) = read_journal('j.jsonl').edits
    assert (done.what.kind, done.what.place.point) == ('done', (75, 30, 10))
    assert told in caplog.text
    assert told or not caplog.text


def cut(labels, **settings):
    """Cuts the two bodies apart; returns the cut."""
    with open_session(labels, **settings) as (viewer, session):
        press(viewer, 'digit1', [15.5, 30.5, 10.5])
        press(viewer, 'digit2', [75.5, 30.5, 10.5])
        press(viewer, 'keyx')
    (made,) = session.objects.cuts
    return made


def test_segments_are_cut_in_voxels_of_the_size_that_is_given(folder):
    """Voxels of 8 x 8 x 40 nm make the rod narrower than the sheet, cubes the other way round."""
    for size, parted in ((None, 34), ((8.0, 8.0, 40.0), 56)):
        made = cut('unsized', voxel_size=size)
        assert load_mask(masks_folder('j.jsonl') / made.mask).box.start.x == parted
        (folder / 'j.jsonl').unlink()


def test_a_journal_that_was_copied_without_its_masks(folder):
    cut('labels')
    masks_folder('j.jsonl').rename('elsewhere')
    lost = r'lacks 1 of 1 masks.*belongs to j\.jsonl: copy it along'
    with pytest.raises(UserError, match=lost), open_session('labels'):
        pass
    apply = ['--labels', 'v.h5:labels', '--edits', 'j.jsonl', '--quiet']
    for more in (['--output_volume', 'c.h5:labels'], ['--notes', 'n.csv']):
        with pytest.raises(UserError, match=lost):
            apply_edits.main(apply + more)
    with pytest.raises(UserError, match=lost):
        queue.main(['--labels', 'v.h5:labels', '--edits', 'j.jsonl', '--output', 'q.csv'])
    assert not [*folder.glob('[cnq].*'), *folder.glob('*.applied')]
    apply_edits.main([*apply, '--equivalences', 'e.csv'])
