"""What tests of agglomeration share."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.agglomeration.pieces import CUT, OTHER


@pytest.fixture
def folder(flood_folder):
    """The flood sample, its body along x cut in two, and pieces that touch but are apart."""
    from tests.inference import flood  # loads Keras

    labels = np.zeros((20, 26, 38), np.uint64)
    labels[2:18, 2:10, 2:20] = CUT[0]
    labels[2:18, 2:10, 20:36] = CUT[1]
    labels[3:9, 13:24, 4:33] = OTHER
    with h5py.File(flood_folder / 'labels.h5', 'w') as file:
        file['split'] = labels
    inference = Path(flood.write_request(flood_folder, flood.THOROUGH)).read_text()
    (flood_folder / 'again.pbtxt').write_text(f"""
      output_directory: "{flood_folder}/again" radius {{ x: 16 y: 8 z: 10 }}
      analysis_radius {{ x: 10 y: 6 z: 8 }} segment_recovery_fraction: 0.6
      inference {{ {inference} concurrent_requests: 2 batch_size: 2
        init_segmentation {{ hdf5: "{flood_folder}/labels.h5:split" }} }}
    """)
    return flood_folder
