import numpy as np
import pytest

from ffn.inference.histogram import load_reference, match_histogram, match_sections
from ffn.utils.errors import UserError


@pytest.fixture
def images():
    rng = np.random.default_rng(3)
    dark = rng.normal(80, 10, (20, 30, 40)).clip(0, 255).astype(np.uint8)
    bright = rng.normal(150, 30, (25, 30, 40)).clip(0, 255).astype(np.uint8)
    return dark, bright


def test_the_matched_image_has_the_reference_histogram(images, tmp_path):
    dark, bright = images
    np.savez(tmp_path / 'h.npz', histogram=np.bincount(bright.ravel(), minlength=256))
    matched = match_histogram(dark, load_reference(str(tmp_path / 'h.npz')))
    assert matched.dtype == np.uint8
    assert abs(matched.mean() - 150) < 2
    assert abs(matched.std() - 30) < 2
    order = np.argsort(dark.ravel(), kind='stable')
    assert np.all(np.diff(matched.ravel()[order].astype(int)) >= 0)


def test_matching_to_itself_changes_nothing(images, tmp_path):
    dark, _ = images
    counts = np.bincount(dark.ravel(), minlength=256)
    np.savez(tmp_path / 'h.npz', cdf=np.cumsum(counts) / dark.size)
    assert np.array_equal(match_histogram(dark, load_reference(str(tmp_path / 'h.npz'))), dark)


def test_voxels_left_out_do_not_count(images, tmp_path):
    dark, bright = images
    np.savez(tmp_path / 'h.npz', histogram=np.bincount(bright.ravel(), minlength=256))
    reference = load_reference(str(tmp_path / 'h.npz'))
    padded = dark.copy()
    padded[:10] = 0
    matched = match_histogram(padded, reference, padded == 0)
    assert abs(matched[10:].mean() - 150) < 2


def test_sections_are_matched_one_by_one():
    """Half of the reference is 10, a quarter 20, a quarter 200."""
    reference = np.cumsum(np.bincount([10, 10, 20, 200], minlength=256)) / 4
    image = np.zeros((3, 2, 4), np.uint8)
    image[0] = [[1, 1, 2, 3], [1, 1, 2, 3]]
    image[1] = image[0] + 100
    image[2] = [[5, 7, 9, 9], [5, 5, 9, 9]]
    matched = [[10, 10, 20, 200], [10, 10, 20, 200]]
    ignored = image == 5
    expected = [matched, matched, [[0, 10, 200, 200], [0, 0, 200, 200]]]
    assert match_sections(image, reference).tolist()[:2] == expected[:2]
    # Of the five that count, one is 7: a fifth, which is less than the half that is 10; 5 is below all.
    assert match_sections(image, reference, ignored).tolist() == expected
    ignored[1] = True  # nothing counts there
    assert match_sections(image, reference, ignored).tolist() == [
        matched,
        image[1].tolist(),
        expected[2],
    ]
    # As a whole, all of sections 0 and 2 is among the darker two thirds.
    whole = match_histogram(image, reference)
    assert whole[1].min() == 200
    assert whole[0].max() == 10


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('place', [0, 100, 255])
def test_a_reference_that_is_not_finite(tmp_path, place, value):
    cdf = np.linspace(0, 1, 256)
    cdf[place] = value
    np.savez(tmp_path / 'h.npz', cdf=cdf)
    with pytest.raises(UserError, match=r'h\.npz must hold'):
        load_reference(str(tmp_path / 'h.npz'))


def test_errors(images, tmp_path):
    np.savez(tmp_path / 'h.npz', histogram=np.zeros(256))
    with pytest.raises(UserError, match='must hold `histogram`'):
        load_reference(str(tmp_path / 'h.npz'))
    np.savez(tmp_path / 'h.npz', other=np.zeros(256))
    with pytest.raises(UserError, match='must hold `histogram`'):
        load_reference(str(tmp_path / 'h.npz'))
    with pytest.raises(UserError, match='no such file'):
        load_reference(str(tmp_path / 'none.npz'))
    with pytest.raises(UserError, match='float32'):
        match_histogram(images[0].astype(np.float32), np.linspace(0, 1, 256))
