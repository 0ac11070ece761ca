"""Where the input stands, as it was saved, or not at all."""

import numpy as np

from ffn.training.input.input_state import read_input_state, write_input_state
from ffn.utils.errors import UserError
from tests.flips import refusals

STATE = {
    'position': np.array(7),
    'walk/image': np.arange(60, dtype=np.float32).reshape(3, 4, 5),
    'names': np.array(['v', 'w']),
}


def test_one_flipped_bit(tmp_path):
    write_input_state(tmp_path, 5, 1, 3, STATE)
    (path,) = tmp_path.iterdir()
    assert path.name == 'model.ckpt-5.input-00001-of-00003'

    def read():
        found = read_input_state(tmp_path / 'model.ckpt-5', 1, 3)
        if found is None:
            raise UserError('damaged')
        return {name: array.tolist() for name, array in found.items()}

    assert read() == {name: array.tolist() for name, array in STATE.items()}
    assert refusals(path, read, 200) >= 100


def test_none(tmp_path):
    write_input_state(tmp_path, 5, 0, 1, STATE)
    assert read_input_state(tmp_path / 'model.ckpt-6', 0, 1) is None
    assert read_input_state(tmp_path / 'model.ckpt-5', 0, 2) is None
