"""Names that people type and import stay: `python -m ffn.…`, classes in requests, names in notebooks."""

from __future__ import annotations

import importlib
import inspect
import runpy
import sys

import pytest

from ffn.cli.main import find_commands
from ffn.inference import runner, storage
from ffn.inference.core import canvas, movement
from ffn.inference.seeds import peaks, registry
from ffn.models import model
from ffn.models.networks import convstack_3d
from ffn.utils.errors import UserError
from tests.inference.oracle import oracle_canvas, two_blocks

# What earlier manuals have people type after `python -m` → the subcommand.
MODULES = {
    'ffn.assembly.agglomerate': 'agglomerate',
    'ffn.assembly.assemble': 'assemble',
    'ffn.assembly.export': 'export',
    'ffn.assembly.segment_volume': 'segment',
    'ffn.demo': 'demo',
    'ffn.evaluation.compare': 'compare',
    'ffn.evaluation.evaluate': 'evaluate',
    'ffn.evaluation.held_out': 'held-out',
    'ffn.evaluation.select': 'select',
    'ffn.inference.run_consensus': 'consensus',
    'ffn.synthetic': 'synthetic',
    'ffn.training.keras_weights': 'convert-weights',
    'ffn.training.show_augmentations': 'augmentations',
    'ffn.utils.import_labels': 'import-labels',
    'ffn.utils.import_stack': 'import-stack',
    'ffn.visualization.animate': 'animate',
    'ffn.visualization.serve': 'serve',
}


@pytest.mark.filterwarnings('ignore::RuntimeWarning:runpy')
@pytest.mark.parametrize(('module', 'command'), MODULES.items(), ids=MODULES)
def test_python_m_runs_the_subcommand(module, command, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [module, '--help'])
    monkeypatch.setattr('ffn.utils.startup.show_log', lambda: None)  # lasts for the whole process
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name='__main__')
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f'usage: ffn {command} ')
    package = hasattr(importlib.import_module(module), '__path__')
    old = importlib.import_module(f'{module}.__main__' if package else module)
    new = importlib.import_module(f'ffn.cli.{find_commands()[command].module}')
    assert old.main is new.main
    assert f'ffn {command}' in old.__doc__ or new.__name__ in old.__doc__


@pytest.mark.parametrize(
    ('name', 'cls'),
    [
        ('convstack_3d.ConvStack3DFFNModel', convstack_3d.ConvStack3DFFNModel),
        (
            'ffn.training.models.convstack_3d.ConvStack3DFFNModel',
            convstack_3d.ConvStack3DFFNModel,
        ),
        ('ffn.models.networks.convstack_3d.ConvStack3DFFNModel', convstack_3d.ConvStack3DFFNModel),
    ],
)
def test_models_in_requests(name, cls):
    assert model.model_class(name) is cls


@pytest.mark.parametrize(
    'name', ['PolicyPeaks', 'ffn.inference.seed.PolicyPeaks', 'ffn.inference.seed.PolicyPeaks2d']
)
def test_seed_policies_in_requests(name):
    policy = registry.make_policy(oracle_canvas(two_blocks()).view, name, '')
    assert type(policy) is getattr(peaks, name.rpartition('.')[2])
    with pytest.raises(UserError, match='PolicyPeaks'):
        registry.make_policy(oracle_canvas(two_blocks()).view, f'{name}s', '')


@pytest.mark.parametrize(
    'name', ['', 'FaceMaxMovementPolicy', 'ffn.inference.movement.FaceMaxMovementPolicy']
)
def test_movement_policies_in_requests(name):
    view = oracle_canvas(two_blocks()).view
    policy = movement.make_policy(view, name, '', (1, 1, 1), 0.5, (2, 2, 2))
    assert type(policy) is movement.FaceMaxMovementPolicy


MESSAGES = {
    'ffn.inference.inference_pb2': ['InferenceRequest', 'ResegmentationRequest', 'MaskConfigs'],
    'ffn.inference.consensus_pb2': ['ConsensusRequest'],
    'ffn.inference.resegmentation_pb2': ['PairResegmentationResult'],
    'ffn.utils.bounding_box_pb2': ['BoundingBox', 'BoundingBoxes'],
    'ffn.utils.vector_pb2': ['Vector3j', 'Vector3dList'],
}


@pytest.mark.parametrize(('module', 'names'), MESSAGES.items(), ids=MESSAGES)
def test_messages(module, names):
    package = 'ffn.proto' if module.startswith('ffn.utils') else 'ffn'
    for name in names:
        message = getattr(importlib.import_module(module), name)
        assert message().DESCRIPTOR.full_name == f'{package}.{name}'


def parameters(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != 'self']


def test_storage_of_notebooks(tmp_path):
    wanted = ['allow_cpoint', 'threshold', 'split_cc', 'min_size', 'mask_config']
    assert parameters(storage.load_segmentation)[2:7] == wanted
    assert storage.OriginInfo._fields == ('start_zyx', 'iters', 'walltime_sec')
    path = storage.subvolume_path(tmp_path, (1, 2, 3), 'npz')
    assert str(path) == f'{tmp_path}/3/2/seg-3_2_1.npz'
    stored = storage.quantize_probability(two_blocks() * 0.5)
    assert storage.dequantize_probability(stored).shape == (20, 24, 30)


def test_runner_of_notebooks():
    assert runner.Runner.__module__ == 'ffn.inference.runner'
    assert parameters(runner.Runner.start)[0] == 'request'
    assert parameters(runner.Runner.make_canvas)[:2] == ['corner_zyx', 'size_zyx']
    assert parameters(runner.Runner.run)[:2] == ['corner_zyx', 'size_zyx']


def test_canvas_of_notebooks():
    assert importlib.import_module('ffn.inference.canvas').Canvas is canvas.Canvas
    assert parameters(canvas.Canvas.segment_at)[0] == 'start_zyx'
    assert parameters(canvas.Canvas.segment_all)[0] == 'seed_policy'
    made = oracle_canvas(two_blocks())
    made.reset_state((8, 10, 6))
    made.init_seed((8, 10, 6))
    assert made.seed.shape == made.segmentation.shape == (20, 24, 30)
    assert made.seed[8, 10, 6] > 0
    assert made.origins == {}
