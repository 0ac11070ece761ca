"""Results that are there already."""

import numpy as np
import pytest

from ffn.inference import storage
from ffn.utils.errors import UserError
from tests.inference.test_runner import SIZE_ZYX, run


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def test_the_result_of_a_box_of_another_size_is_not_taken_for_this_one(folder):
    run(folder)
    told = 'exists with a size of x,y,z 38,26,20, and x,y,z 30,20,20 is asked for'
    with pytest.raises(UserError, match=told):
        run(folder, size_zyx=(20, 20, 30))


def test_the_result_of_another_request_is_told(folder, caplog):
    run(folder)
    assert run(folder, 'batch_size: 2 checkpoint_interval: 7') is None  # no result depends on these
    assert 'another request' not in caplog.text
    assert run(folder, segment_threshold=0.9) is None
    assert (
        'stays, but is the result of another request: inference_options.segment_threshold'
        in caplog.text
    )


def test_a_result_without_a_request_counts(folder):
    labels = np.zeros(SIZE_ZYX, np.uint8)
    storage.save_result(folder / 'results', (0, 0, 0), labels, {}, b'', {}, {})
    assert run(folder) is None
