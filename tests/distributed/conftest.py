"""A batch system whose programs are scripts."""

from __future__ import annotations

import contextlib
import logging
import os

import pytest


@pytest.fixture
def told(caplog):
    """What is logged."""
    caplog.set_level(logging.INFO, 'absl')
    return lambda: [record.getMessage() for record in caplog.records if record.name == 'absl']


@pytest.fixture
def open_slurm(tmp_path, monkeypatch):
    """Opens a pool of two jobs; pauses are short."""
    # Loaded with this file, Dask would show nothing that is logged.
    import dask

    from ffn.distributed import batch_jobs, watch
    from ffn.distributed.pool import open_pool

    @contextlib.contextmanager
    def opened(sbatch: str, logs: str | None = 'logs', scancel: str = 'true'):
        (programs := tmp_path / 'bin').mkdir()
        for name, text in {'sbatch': sbatch, 'scancel': scancel}.items():
            (programs / name).write_text(f'#!/bin/sh\necho x >>{tmp_path}/calls\n{text}\n')
            (programs / name).chmod(0o755)
        monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(watch, 'POLL_S', 0.02)
        monkeypatch.setattr(batch_jobs, 'FIRST_PAUSE_S', 0.04)
        settings = {
            'cores': 1,
            'memory': '1GB',
            'log-directory': logs,
            'scheduler-options': {'dashboard_address': ':0'},
        }
        with (
            dask.config.set({f'jobqueue.slurm.{name}': value for name, value in settings.items()}),
            open_pool('slurm', 2) as pool,
        ):
            yield pool

    return opened
