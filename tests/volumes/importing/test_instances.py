"""Objects from masks."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ffn.cli.import_labels import main
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.importing.import_labels import import_labels
from ffn.volumes.importing.instances import InstanceRule, find_instances, label_slab


def joined(labels: np.ndarray, rule: InstanceRule, depth: int):
    """The objects, and what was found."""
    slabs = list(blocks(Box.of_shape(labels.shape), Xyz(*labels.shape[:0:-1], depth)))
    found = find_instances(slabs, lambda box: labels[box.slices_zyx], rule)
    parts = [
        found.numbers[i][label_slab(labels[slab.slices_zyx], rule)] for i, slab in enumerate(slabs)
    ]
    return np.concatenate(parts), found


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 8), st.integers(1, 9)),
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.sampled_from(['membrane:0', 'membrane:1', 'foreground', 'foreground:2']),
)
def test_slabs_make_the_components_of_the_whole(shape, seed, depth, text):
    labels = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    rule = InstanceRule.parse(text, '--instances')
    mask = {
        'membrane:0': labels != 0,
        'membrane:1': labels != 1,
        'foreground': labels > 0,
        'foreground:2': labels == 2,
    }[text]
    if not mask.any() or mask.all():
        return
    result, found = joined(labels, rule, depth)
    expected, count = ndimage.label(mask)
    assert len(found.sizes) == count
    pairs = np.unique(np.stack([result.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(expected))  # one to one
    assert ((result == 0) == (expected == 0)).all()
    np.testing.assert_array_equal(found.sizes, np.bincount(result.ravel().astype(int))[1:])
    several = [len(np.unique(labels[expected == i])) > 1 for i in range(1, count + 1)]
    assert found.joined == sum(several)
    assert found.joined_voxels == sum((expected == i + 1).sum() for i, s in enumerate(several) if s)


def cells() -> np.ndarray:
    """Membranes of 255 around two cells of 12 and 27 voxels; the second has a part of another value."""
    labels = np.full((3, 5, 15), 255, np.uint8)
    labels[:, 1:3, 1:3] = 0
    labels[:, 1:4, 4:7] = 0
    labels[1, 2, 5] = 3
    return labels


def run(tmp_path, capsys, rule: str, labels: np.ndarray, *more: str) -> tuple[np.ndarray, str]:
    with h5py.File(tmp_path / 'in.h5', 'w') as file:
        file['l'] = labels
    main(
        [
            '--input',
            f'{tmp_path}/in.h5',
            '--output',
            f'{tmp_path}/v.h5:l',
            '--instances',
            rule,
            *more,
        ]
    )
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        return file['l'][:], capsys.readouterr().out


@pytest.mark.parametrize('slab_voxels', [1, 2**23])
def test_membranes(tmp_path, capsys, caplog, monkeypatch, slab_voxels):
    monkeypatch.setattr('ffn.volumes.importing.import_labels._SLAB_VOXELS', slab_voxels)
    result, out = run(tmp_path, capsys, 'membrane:255', cells())
    expected = np.zeros((3, 5, 15), np.uint8)
    expected[:, 1:3, 1:3], expected[:, 1:4, 4:7] = 1, 2
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)
    assert (
        '--instances=membrane:255: 2 objects of voxels that share a face, made of 39 voxels; the largest holds '
        '69.2% of them; 2 values became objects, and 1 objects (69.2% of the voxels) join several of them'
    ) in out
    assert '3 labels, with background 0' in out
    assert 'one object holds more than half of all' in caplog.text


def test_all_is_inside(tmp_path, capsys, caplog):
    result, out = run(tmp_path, capsys, 'foreground', np.full((3, 4, 5), 9, np.int32))
    assert (result == 1).all()
    assert '1 labels, without background 0' in out
    assert 'more than half' not in caplog.text


@pytest.mark.parametrize(
    ('rule', 'message'),
    [
        ('foreground:4', 'foreground:4: no voxel is inside of an object'),
        ('membrane:1', 'membrane:1: no voxel has this label; the labels are 0, 3, 255'),
    ],
)
def test_a_value_that_is_not_there(tmp_path, capsys, rule, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, capsys, rule, cells())
    assert not (tmp_path / 'v.h5').exists()


@pytest.mark.parametrize('more', [(), ('--downsample', '2,1,1')])
def test_a_value_that_is_not_there_beside_voxels_without_a_label(tmp_path, capsys, more):
    labels = cells().astype(np.int16)
    labels[0, 0, :2] = -1
    with pytest.raises(UserError, match='membrane:1: no voxel has this label; the labels are 0,'):
        run(tmp_path, capsys, 'membrane:1', labels, *more)
    labels[2, 4, 2:9] = 1
    run(tmp_path, capsys, 'membrane:1', labels, *more)
    result, _ = run(tmp_path, capsys, 'membrane:255', cells(), '--unlabelled', '255')
    assert result.max() == 2


@pytest.mark.parametrize('slab_voxels', [1, 33, 2**23])
def test_parts_of_sections_that_overlap_each_other_most(tmp_path, monkeypatch, capsys, slab_voxels):
    """Two cells whose membrane moves by two voxels: their voxels touch, but they are two objects."""
    monkeypatch.setattr('ffn.volumes.importing.import_labels._SLAB_VOXELS', slab_voxels)
    inside = np.zeros((4, 3, 11), np.uint8)
    expected = np.zeros((4, 3, 11), np.uint8)
    for z, wall in enumerate([3, 5, 5, 7]):
        inside[z, :, :wall] = inside[z, :, wall + 1 :] = 1
        expected[z, :, :wall], expected[z, :, wall + 1 :] = 1, 2
    inside[2, 1, 1], expected[2, 1, 1] = 0, 0
    inside[3, :, 0], inside[3, :, 1], expected[3, :, 1] = 1, 0, 0
    expected[3, :, 0] = 3  # the smaller of two branches is an object of its own
    joined_by_faces, _ = run(tmp_path, capsys, 'foreground', inside)
    assert joined_by_faces.max() == 1
    result, out = run(tmp_path, capsys, 'foreground', inside, '--link', 'overlap')
    pairs = np.unique(np.stack([result.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape == (2, 4)  # one to one
    assert '3 objects of 9 parts of sections that overlap each other most' in out


def test_voxels_that_nobody_labelled_are_inside_of_nothing(tmp_path, caplog):
    labels = cells().astype(np.int16)
    labels[:, 0] = -1
    with h5py.File(tmp_path / 'in.h5', 'w') as file:
        file['l'] = labels
    rule = InstanceRule.parse('membrane:255', '--instances')
    import_labels(f'{tmp_path}/in.h5', f'{tmp_path}/v.h5:l', instances=rule, quiet=True)
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        assert not file['l'][:, 0].any()
        assert len(np.unique(file['l'][:])) == 3
    assert '45 of 225 voxels (20.0 %) are not labelled' in caplog.text


@pytest.mark.parametrize('text', ['membrane', 'membrane:x', 'cells', 'foreground:', ''])
def test_bad_rules(text):
    with pytest.raises(UserError, match='expected membrane:VALUE'):
        InstanceRule.parse(text, '--instances')


@pytest.mark.parametrize('link', ['faces', 'overlap'])
def test_more_objects_than_16_bits_count_of_sections_whose_own_fit(link):
    labels = np.zeros((144, 64, 65), np.uint8)
    labels[::2, ::2, ::2] = 1
    rule = InstanceRule('foreground', link=link)
    numbers, found = joined(labels, rule, 137)
    assert found.sizes.tolist() == [1] * (72 * 32 * 33)
    assert len(np.unique(numbers[labels > 0])) == len(found.sizes)
