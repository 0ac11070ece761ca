"""Loaders that need TensorFlow or Keras: coordinates, checkpoints, weights and the state of training's input."""

from __future__ import annotations

import functools
import gzip
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from ffn.models import keras_weights
from ffn.models.checkpoints import CheckpointWriter
from ffn.models.model import FFNModel, create_model
from ffn.models.weights import load_weights
from ffn.training.input import coordinate_files
from ffn.training.input.coordinate_stream import coordinate_dataset
from ffn.training.input.input_state import read_input_state, write_input_state
from ffn.utils.atomic import write_json
from ffn.utils.checksums import file_digest, sealed
from ffn.utils.errors import UserError
from ffn.visualization.curve import read_scalars
from tests.fuzz.case import Loader
from tests.fuzz.mutations import Rng, damage, damage_file, edit_json_file, edit_npz_file, pick
from tests.training.input.records import record, write_records

_NAME = 'convstack_3d.ConvStack3DFFNModel'
_ARGS = {'depth': 1, 'features': [4, 3], 'fov_size': [7, 5, 5], 'deltas': [1, 1, 1]}
_COUNT = 12


@functools.cache
def _model() -> FFNModel:
    return create_model(_NAME, _ARGS)


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {name: tuple(v.shape) for name, v in _model().named_variables().items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


# Coordinates.


def _write_coordinates(folder: Path) -> None:
    centers = ((x, 3, 4) for x in range(_COUNT))
    write_records(folder / 'c.tfrecord.gz', [record(center, 'v') for center in centers])


def _read_coordinates(folder: Path) -> Any:
    files = coordinate_files.find_files(str(folder / 'c.tfrecord.gz'))
    found = coordinate_files.count_by_volume(files)
    coordinate_files.check_volumes(files[0], found, ['v'], {})
    try:
        found = list(coordinate_dataset(files, 1).take(_COUNT + 1).as_numpy_iterator())
        return sorted((center.tolist(), name.decode()) for _, center, name in found)
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # as `ExampleSource` does
        raise UserError(coordinate_files.describe_damage(files, error)) from error


def _edit_coordinates(path: Path, rng: Rng) -> None:
    """Another record, or another length in its frame, with the right checksums."""
    centers = [[x, 3, 4] for x in range(_COUNT)]
    records = [record(center, 'v') for center in centers]
    at = int(rng.integers(_COUNT))
    match int(rng.integers(6)):
        case 0:
            records[at] = damage(records[at], rng)
        case 1:
            wrong = pick(rng, ([], [1, 2], [1, 2, 3, 4], [-1, 2**62, 0]))
            records[at] = record(wrong, 'v')
        case 2:
            records[at] = pick(
                rng, (b'', tf.train.Example().SerializeToString(), record([1, 2, 3], '\0µ'))
            )
        case 3:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2, 3]))
            features = tf.train.Features(feature={'center': feature})
            records[at] = tf.train.Example(features=features).SerializeToString()
        case 4:
            del records[at]
    sizes = [len(one) for one in records]
    if rng.random() < 0.3:
        sizes[int(rng.integers(len(sizes)))] = int(
            pick(rng, (0, 2**20, 2**31, 2**40, 2**63, 2**64 - 1))
        )
    with gzip.open(path, 'wb') as file:
        for size, one in zip(sizes, records, strict=True):
            header = struct.pack('<Q', size)
            file.write(header + _crc(header) + one + _crc(one))


def _crc(data: bytes) -> bytes:
    """The masked CRC-32C of a TFRecord."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


# Weights.


def _write_checkpoint(folder: Path) -> None:
    CheckpointWriter(folder).save(_weights(), 7)


def _edit_checkpoint(path: Path, rng: Rng) -> None:
    """Another shape, type or name of a variable, or numbers that are none."""
    weights: dict[str, Any] = _weights()
    name = pick(rng, sorted(weights))
    match int(rng.integers(5)):
        case 0:
            weights[name] = weights[name][..., :-1]
        case 1:
            weights[name] = weights[name].astype(
                pick(rng, (np.float64, np.int32, np.float16, np.complex64))
            )
        case 2:
            weights[f'{name}_'] = weights.pop(name)
        case 3:
            weights[name] = np.full(weights[name].shape, pick(rng, (np.nan, np.inf)), np.float32)
        case _:
            weights[name] = np.full(weights[name].shape, 'text')
    CheckpointWriter(path.parent).save(weights, 7)


def _read_weights(name: str) -> Any:
    def read(folder: Path) -> Any:
        step = load_weights(_model(), folder / name)
        return step, {n: np.asarray(v) for n, v in _model().named_variables().items()}

    return read


def _good_weights(value: Any) -> bool:
    step, weights = value
    return step >= 0 and all(np.isfinite(weight).all() for weight in weights.values())


def _write_keras(folder: Path) -> None:
    for name, variable in _model().named_variables().items():
        variable.assign(_weights()[name])
    keras_weights.save(_model(), folder / 'network.weights.h5')
    settings = {'step': 7, keras_weights.DIGEST: file_digest(folder / 'network.weights.h5')}
    write_json(folder / 'network.json', sealed(settings))


def _edit_keras(path: Path, rng: Rng) -> None:
    """Another shape, type, name or kind of something in the file."""
    path.with_name('network.json').write_text('{"step": 7}')  # as an earlier version wrote it
    if rng.random() < 0.3:
        damage_file(path, rng)
        return
    found: list[str] = []
    with h5py.File(path, 'a') as file:
        file.visititems(lambda name, item: found.append(name))
        name = pick(rng, found)
        item = file[name]
        match int(rng.integers(6)):
            case 0:
                del file[name]
            case 1:
                file.move(name, f'{name}_')
            case 2 if isinstance(item, h5py.Dataset):
                del file[name]
                file[name] = np.full(item.shape, np.nan, np.float32)
            case 3:
                del file[name]
                file[name] = np.zeros(pick(rng, ((3,), (), (3, 3, 3, 2, 4), (0,))), np.float32)
            case 4:
                del file[name]
                file.create_dataset(name, (2**40, 2**10), 'f4', chunks=(64, 64))
            case _:
                del file[name]
                file[name] = pick(rng, ('text', np.zeros(4, 'S3'), np.zeros(4, 'i8')))


# The state of training's input.


def _read_input(folder: Path) -> Any:
    path = folder / 'model.ckpt-7.input-00000-of-00001'
    before = path.exists()
    found = read_input_state(folder / 'model.ckpt-7', 0, 1)
    if (
        found is None
        and before
        and not path.exists()
        and path.with_name(f'{path.name}.aside').exists()
    ):
        raise UserError(f'{path} is damaged and set aside')
    if found is None and not before:
        raise UserError(f'{path} is not there')
    return found


def _write_input(folder: Path) -> None:
    state = {'position': np.array(5), 'walk/canvas': np.zeros((2, 3, 4), np.float32)}
    state['walk/volumes'] = np.array(['v', 'w'])
    write_input_state(folder, 7, 0, 1, state)


# What training tells TensorBoard.


def _write_events(folder: Path) -> None:
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step in range(5):
            tf.summary.scalar('loss', 0.5 / (step + 1), step)
    writer.close()


LOADERS = (
    Loader(
        'events of a training',
        _write_events,
        read_scalars,
        ('events*',),
        check=lambda found: all(points.shape[1:] == (2,) for points in found.values()),
    ),
    Loader(
        'coordinates (TFRecord)',
        _write_coordinates,
        _read_coordinates,
        ('*.gz',),
        (('*.gz', _edit_coordinates),),
        True,
        lambda found: all(len(center) == 3 for center, _ in found),
    ),
    Loader(
        'checkpoint of TensorFlow',
        _write_checkpoint,
        _read_weights('model.ckpt-7'),
        ('model.ckpt-7.*',),
        (('checkpoint', _edit_checkpoint),),
        True,
        _good_weights,
    ),
    Loader(
        'weights of Keras (HDF5)',
        _write_keras,
        _read_weights('network.weights.h5'),
        ('*.h5',),
        (('*.h5', _edit_keras), ('*.json', edit_json_file)),
        True,
        _good_weights,
    ),
    Loader(
        'state of the input (npz)',
        _write_input,
        _read_input,
        ('*.input-*',),
        (('*.input-*', edit_npz_file),),
        True,
    ),
)
