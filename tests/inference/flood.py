"""A network whose weights are set by hand: it fills what is bright and connected to the seed."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np

from ffn.models.checkpoints import CheckpointWriter
from ffn.models.model import FFNModel, create_model

NAME = 'convstack_3d.ConvStack3DFFNModel'
ARGS = '{"depth": 1, "features": [4, 3], "fov_size": [7, 5, 5], "deltas": [2, 2, 2]}'
# Fills bodies into their corners, in six times as many steps.
THOROUGH = ARGS.replace('[2, 2, 2]', '[1, 1, 1]')
_PAD = -2.9444390  # logit of 0.05

REQUEST = """
image {{ hdf5: "{folder}/volume.h5:raw" }}
image_mean: 128
image_stddev: 127
checkpoint_interval: 1
seed_policy: "PolicyPeaks"
model_checkpoint_path: "{folder}/flood"
model_name: "{name}"
model_args: "{args}"
segmentation_output_dir: "{folder}/results"
inference_options {{
  init_activation: 0.95
  pad_value: 0.05
  move_threshold: 0.9
  segment_threshold: 0.6
  disco_seed_threshold: -1
  min_boundary_dist {{ x: 1 y: 1 z: 1 }}
  min_segment_size: 50
}}
"""


def write_request(folder: Path, args: str = ARGS) -> str:
    """Writes the request for the flood network and volume.h5 of a folder; returns its path."""
    text = REQUEST.format(folder=folder, name=NAME, args=args.replace('"', r'\"'))
    (folder / 'request.pbtxt').write_text(text)
    return str(folder / 'request.pbtxt')


def fill_folder(folder: Path, network: Path) -> None:
    """Brings the network, volume.h5 and request.pbtxt to a folder.

    Args:
      folder: where.
      network: folder of the checkpoint that `write_network` made.
    """
    (folder / 'flood').symlink_to(network)
    write_volume(folder)
    write_request(folder)


def write_network(folder: Path) -> None:
    """Writes the network as folder/flood/model.ckpt-1."""
    (folder / 'flood').mkdir()
    CheckpointWriter(folder / 'flood').save(make_network().named_variables(), 1)


def make_network() -> FFNModel:
    """Makes the network.

    A voxel's logit becomes 8 above the padding where the image is bright and any logit in the
    5 x 5 x 5 voxels around is above it; it falls to the padding elsewhere.
    """
    model = create_model(NAME, json.loads(ARGS))
    weights = {name: np.zeros(v.shape, np.float32) for name, v in model.named_variables().items()}
    # What the 27 neighbours are above the padding, and that less 8; darkness; the seed itself.
    first, bias = (weights[f'seed_update/conv0_a/{kind}'] for kind in ('weights', 'biases'))
    first[..., 1, :2] = 1
    first[1, 1, 1, :, 2:] = [[-1, 0], [0, 1]]
    bias[:] = -27 * _PAD, -27 * _PAD - 8, 0, -_PAD
    # Their limited sum, but nothing in the dark; that less 8; the seed.
    second, bias = (weights[f'seed_update/conv0_b/{kind}'] for kind in ('weights', 'biases'))
    second[..., 0, :2], second[..., 1, :2] = 1, -1
    second[1, 1, 1, 2, :2] = -1e4
    second[1, 1, 1, 3, 2] = 1
    bias[1] = -8
    weights['seed_update/conv_lom/weights'][0, 0, 0, :, 0] = 1, -1, -1
    for name, variable in model.named_variables().items():
        variable.assign(weights[name])
    return model


def write_volume(folder: Path) -> np.ndarray:
    """Writes volume.h5 with `raw`: bright bodies on black; returns their labels, uint32 [z, y, x]."""
    labels = np.zeros((20, 26, 38), np.uint32)
    labels[2:18, 2:10, 2:36] = 1
    labels[12:18, 9:24, 28:36] = 1  # bends
    labels[3:9, 13:24, 4:33] = 2
    labels[12:18, 13:24, 3:24] = 3
    image = np.where(labels > 0, 255, 1).astype(np.uint8)
    with h5py.File(folder / 'volume.h5', 'w') as file:
        file['raw'] = image
    return labels
