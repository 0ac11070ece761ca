"""What reaches standard error while a command starts, and of its log."""

import gc
import re

import pytest

from ffn.utils.startup import startup_messages_hidden
from tests.calls import run_python

PROGRAM = """
import os, sys
from ffn.utils.startup import startup_messages_hidden
with startup_messages_hidden():
    os.write(2, b'while loading\\n')
    {what}
os.write(2, b'afterwards\\n')
"""


def stderr_of(repository, program: str, **environment: str) -> str:
    return run_python(repository, '-c', program, env=environment).stderr


def test_messages_are_hidden_until_it_is_loaded(repository):
    assert stderr_of(repository, PROGRAM.format(what='pass')) == 'afterwards\n'


def test_they_are_hidden_again(repository):
    """TensorFlow may be loaded in the second block only, or by a process that this one begins."""
    again = "with startup_messages_hidden(): os.write(2, b'again\\n')"
    program = f'{PROGRAM.format(what="pass")}{again}\nimport subprocess\n'
    begun = f'import os; from ffn.utils.startup import startup_messages_hidden\n{again}'
    program += f'subprocess.run([sys.executable, "-c", {begun!r}], check=True)'
    assert stderr_of(repository, program) == 'afterwards\n'


@pytest.mark.slow
def test_tensorflow_in_the_second_block(repository):
    program = PROGRAM.format(what='pass') + 'with startup_messages_hidden(): import tensorflow'
    assert stderr_of(repository, program) == 'afterwards\n'


def test_they_are_shown_when_loading_fails(repository):
    lines = stderr_of(repository, PROGRAM.format(what='import no_such_module')).splitlines()
    assert lines[0] == 'while loading'
    assert 'no_such_module' in lines[-1]


def test_they_are_shown_to_whoever_chooses_a_level(repository):
    shown = stderr_of(repository, PROGRAM.format(what='pass'), TF_CPP_MIN_LOG_LEVEL='0')
    assert shown == 'while loading\nafterwards\n'


def test_no_garbage_is_looked_for_while_loading(monkeypatch):
    for level in ('0', '3'):
        monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', level)
        with startup_messages_hidden():
            with startup_messages_hidden():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled()


LOUD = """
import importlib.machinery, os, sys

class Loud:
    'Stands for ffn.models.model, with which Keras and TensorFlow are loaded.'

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == 'ffn.models.model' else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        os.write(2, b'TensorFlow begins\\n')
        module.model_class, module.FFNModel, module.create_model = lambda name: object, object, None

sys.meta_path.insert(0, Loud())
from ffn.utils.errors import exit_status
"""
# Whatever reads a request comes to the first two.
LOADING = {
    'arguments': 'from ffn.models.trained_settings import differing_args as f; f("a", {}, {})',
    'name': 'from ffn.models.trained_settings import is_same_model as f; f("a", "b")',
    'convert': 'from ffn.cli.convert_weights import main\n'
    'exit_status(lambda: main(["--checkpoint", "/absent", "--output", "a.weights.h5"]))',
    'import': 'from ffn.cli.import_weights import main\n'
    'exit_status(lambda: main(["--checkpoint", "/absent", "--output", "a.weights.h5",'
    '"--fov_size", "9,9,7", "--deltas", "2,2,1"]))',
}


@pytest.mark.parametrize('loading', LOADING)
def test_what_loads_keras_hides_messages(repository, loading):
    lines = stderr_of(repository, LOUD + LOADING[loading]).splitlines()
    assert [line for line in lines if '/absent' not in line] == []


@pytest.mark.slow
def test_a_request_is_read_without_messages(repository):
    """As `ffn segment` does, which reads it before it loads anything."""
    assert (
        stderr_of(
            repository, LOADING['arguments'].replace('"a"', '"convstack_3d.ConvStack3DFFNModel"')
        )
        == ''
    )


LOG = """
import logging as others
from absl import logging
from ffn.utils.startup import show_log
show_log()
show_log()
logging.info('step %d', 3)
logging.debug('too much')
others.getLogger('distributed').info('of another library')
"""


CORE_FIRST = """
import ffn.inference.core.canvas
from ffn.inference.core.view import _log
from absl import logging
from ffn.utils.startup import show_log
show_log()
logging.info('step %d', 3)
_log.warning('of the core')
"""


def test_the_log_says_where_a_line_is_from_if_the_core_is_imported_before_absl(repository):
    step, own = stderr_of(repository, CORE_FIRST).splitlines()
    assert re.fullmatch(r'I\d{4} [\d:.]+ +\d+ <string>:7\] step 3', step)
    assert re.fullmatch(r'W\d{4} [\d:.]+ +\d+ <string>:8\] of the core', own)


def test_the_log_is_shown_once_and_that_of_others_is_not(repository):
    shown = stderr_of(repository, LOG)
    assert re.fullmatch(r'I\d{4} [\d:.]+ +\d+ <string>:\d+\] step 3\n', shown)
