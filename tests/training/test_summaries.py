"""Event files for TensorBoard."""

import subprocess
import sys

FULL_DISK = """
import resource, signal, sys
from ffn.training.summaries import Summaries
from ffn.utils.errors import run_tool
summaries = Summaries(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
run_tool(lambda argv: [summaries.write(i, {'loss': 0.5, 'rate': 1}, {}, {}) for i in range(99)])
"""


def test_a_full_disk_is_one_line(repository, tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', FULL_DISK, tmp_path],
        cwd=repository,
        text=True,
        check=False,
        capture_output=True,
        env={'TF_CPP_MIN_LOG_LEVEL': '3', 'CUDA_VISIBLE_DEVICES': ''},
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert errors == [f'error: the event file cannot be written: {errors[0].split(": ")[2]}']
    assert errors[0].endswith('; File too large')
    assert 'Traceback' not in done.stderr
