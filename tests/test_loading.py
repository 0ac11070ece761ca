"""What is loaded at run time, where an import of an import counts as well."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

FRAMEWORKS = ('tensorflow', 'keras', 'tf_keras', 'jax', 'torch')


def loaded_frameworks(code: str) -> list[str]:
    """Runs Python code in a new process and returns the frameworks that it has loaded."""
    shown = subprocess.run(
        [sys.executable, '-c', f'{code}\nimport sys; print(*sys.modules)'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sorted(set(FRAMEWORKS) & set(shown.stdout.split()))


@pytest.mark.parametrize('modules', [
    'ffn.inference.core.canvas, ffn.inference.core.checkpoint, ffn.inference.storage, ffn.inference.seeds.peaks, '
    'ffn.inference.seeds.combined, ffn.inference.core.restrictor, ffn.inference.core.movement',
    'compute_partitions',
    'build_coordinates',
])  # fmt: skip
def test_no_framework_is_loaded(modules):
    assert loaded_frameworks(f'import {modules}') == []


REQUEST = '--inference_request=nothing.pbtxt'
BOX = '--bounding_box=start {x:0 y:0 z:0} size {x:9 y:9 z:9}'
IMAGE = '--inference_request=image {hdf5: "nothing.h5:raw"} seed_policy: "PolicyPeaks"'
ABSENT = {
    'infer': [REQUEST, BOX],
    'segment': [REQUEST, '--output=o.h5:l', '--subvolume_size=9,9,9', '--overlap=3,3,3'],
    'select': [REQUEST, '--labels=l.h5:l', BOX, '--output=o'],
    'agglomerate': ['--resegmentation_request=nothing.pbtxt', '--max_distance=3'],
    'seed': [REQUEST, BOX],
    'animate': ['--request=nothing.pbtxt', '--start=1,2,3', '--output=o.gif', BOX],
    'held_out': [IMAGE, '--labels=nothing.h5:l', BOX, '--checkpoint=c'],
}
REFUSED = f"""
import importlib, sys, types
from ffn.utils.errors import UserError
# Of what may not be installed.
sys.modules['ffn.proofreading.seeding.seed_run'] = types.ModuleType('seed_run')
for name, arguments in {ABSENT}.items():
    try:
        importlib.import_module('ffn.cli.' + name).main(arguments)
    except (OSError, UserError) as error:
        assert 'nothing' in str(error), name
    else:
        raise AssertionError(name)
    assert not {{*{FRAMEWORKS}}} & sys.modules.keys(), name
"""


def test_requests_of_what_is_not_there_are_refused_before_any_is_loaded():
    assert loaded_frameworks(REFUSED) == []


HIDDEN = (
    'google', 'skimage', 'edt', 'cc3d', 'fastremap', 'tqdm', 'tensorstore', 'PIL', 'matplotlib',
    'tensorflow',
)  # fmt: skip


def imports_without(hidden: tuple[str, ...], code: str) -> subprocess.CompletedProcess:
    """Runs Python code in a new process that lacks some packages."""
    hide = ''.join(f'sys.modules[{name!r}] = None; ' for name in hidden)
    return subprocess.run(
        [sys.executable, '-c', f'import sys; {hide}{code}'], cwd=ROOT, capture_output=True, text=True,
        check=False, env={'KERAS_BACKEND': 'jax'},
    )  # fmt: skip


@pytest.mark.parametrize(('hidden', 'modules'), [
    ((*HIDDEN, 'h5py', 'absl', *FRAMEWORKS), 'ffn.inference.core.canvas, ffn.inference.executor'),
    (HIDDEN, 'benchmarks.device'),
])  # fmt: skip
def test_little_is_needed(hidden, modules):
    done = imports_without(hidden, f'import {modules}')
    assert done.returncode == 0, done.stderr


def test_what_is_hidden_is_missed():
    assert imports_without(('skimage',), 'import ffn.inference.seeds.peaks').returncode == 1


def test_loaded_framework_is_noticed():
    assert loaded_frameworks('import sys; sys.modules["keras"] = sys') == ['keras']
