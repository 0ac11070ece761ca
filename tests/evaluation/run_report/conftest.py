"""A run that several tests look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.run_report.whole import make_run


@pytest.fixture(scope='package')
def perfect(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A run without border effects, and its labels; not to be changed."""
    folder = tmp_path_factory.mktemp('perfect')
    return folder, make_run(folder)
