"""Steps on the device of JAX and PyTorch, each in a process of its own; which configurations use it."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import os
import threading

import numpy as np
import pytest

from ffn.inference import network
from ffn.inference.core import movement
from ffn.inference.core.counters import Calls, Counters
from ffn.inference.device_executor import DeviceExecutor
from ffn.inference.executor import Executor
from ffn.inference.request import read_config
from ffn.models import device_steps, precision
from ffn.utils import trust
from ffn.utils.geometry import Zyx
from tests.calls import run_python
from tests.inference import flood


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not importlib.util.find_spec(name), reason=f'{name} is not installed'
            ),
        )
        for name in ('jax', 'torch')
    ],
)
def floods(request, repository) -> dict:
    """What `tests.inference.device_floods` found."""
    done = run_python(
        repository,
        '-m',
        'tests.inference.device_floods',
        env={
            **os.environ,
            'KERAS_BACKEND': request.param,
            'PYTHONPATH': str(repository),
            # Compiling takes nearly all of the time.
            'XLA_FLAGS': '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true',
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('case', ['flood ', 'flood CoarseToFineMovementPolicy', 'random'])
def test_every_step_is_that_of_the_host(floods, case):
    found = floods[case]
    assert found['same']
    assert found['steps'] > 50
    assert found['objects'] >= 2


def test_deleted_voxels_and_limits_are_those_of_the_host(floods):
    assert floods['random']['limited'] == ['max_object_steps']
    assert floods['deleting']['same']
    assert floods['deleting']['limited'] == ['max_object_voxels']
    assert floods['deleting']['deleted'] > 10


def test_canvases_of_several_sizes_share_batches(floods):
    assert floods['together']['same']
    assert floods['together']['largest_batch'] >= 2


def test_rows_and_fields_of_view_in_one_batch():
    """Canvases on the host, as those that are grown by hand, share the executor."""

    class Steps:
        def run(self, rows):
            return rows.astype(np.float32) * 10

    executor = DeviceExecutor(lambda images, seeds: images + seeds, Steps(), 3)
    answers, both = {}, threading.Barrier(6)

    def ask(number):
        value = np.full((2, 3, 4), number, np.float32)
        with executor.active():
            both.wait()
            for _ in range(20):
                if number % 2:
                    row = executor.ask(np.full(4, number, np.int32), Calls())
                    answers.setdefault(number, set()).update(row.tolist())
                else:
                    found = executor.client(Counters()).predict(value, value)
                    answers.setdefault(number, set()).update(found.ravel().tolist())

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert answers == {i: {10 * i if i % 2 else 2 * i} for i in range(6)}


class OwnPolicy(movement.FaceMaxMovementPolicy):
    """Might look at all logits."""


@pytest.fixture
def make(flood_folder, monkeypatch, caplog):
    """Makes the executor of a request on a backend; returns it with what was logged."""

    def made(backend='jax', value='1', **fields):
        config = read_config(flood.write_request(flood_folder)).resolve()
        monkeypatch.setenv('FFN_DEVICE_CANVAS', value)
        monkeypatch.setattr(precision, 'backend', lambda: backend)
        monkeypatch.setattr(network, 'make_predictor', lambda *_: None)
        monkeypatch.setattr(network, 'make_steps', lambda *_: None)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            executor = network.make_executor(dataclasses.replace(config, **fields), None)
        return type(executor), [r.message for r in caplog.records if 'DEVICE' in r.message]

    return made


def test_off_unless_asked_for(make):
    assert make(value='') == make(value='0') == (Executor, [])


@pytest.mark.parametrize('backend', ['jax', 'torch'])
@pytest.mark.parametrize('policy', ['', 'FaceMaxMovementPolicy', 'CoarseToFineMovementPolicy'])
def test_on_where_it_is_asked_for(make, backend, policy):
    kind, [line] = make(backend, movement_policy_name=policy)
    assert kind is DeviceExecutor
    assert 'stay on the device' in line


def test_one_line_says_why_not(make):
    own = f'{__name__}.OwnPolicy'
    with trust.only(trust.Trust(frozenset({'tests'}))):
        kind, [line] = make(movement_policy_name=own)
    assert kind is Executor
    assert own in line
    kind, [line] = make('tensorflow')
    assert kind is Executor
    assert 'KERAS_BACKEND' in line


def test_boxes_of_canvases_are_the_same():
    steps = device_steps.DeviceSteps(flood.make_network(), None, 1)
    steps._resize = steps._put_image = lambda *_: None
    image = np.zeros((7, 8, 9), np.float32)
    steps.open(image, [Zyx(1, 1, 1)])
    with pytest.raises(ValueError, match='boxes'):
        steps.open(image, [Zyx(1, 2, 1)])
