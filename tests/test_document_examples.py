"""The Python that documents show runs as it is typed; only what it reads is smaller."""

from __future__ import annotations

import numpy as np
import pytest

from tests import documents
from tests.conftest import ROOT
from tests.evaluation.run_report.whole import make_run
from tests.test_documents import DOCUMENTS

# What it needs, tests/agglomeration/test_agglomerate.py makes, and runs it.
ELSEWHERE = "read_text('points.pbtxt'"
EXAMPLES = [
    (f'{document}:{block.line}', block.text)
    for document in DOCUMENTS
    for block in documents.read_blocks((ROOT / document).read_text(encoding='utf-8'))
    if (block.text.startswith(('from ', 'import ', '>>> ')) or block.language == 'python')
    and ELSEWHERE not in block.text
]
SMALLER = {
    "'results/fib25_medium', (150, 0, 0)": "'results', (0, 0, 0)",
    "'results/training_sample2'": "'results'",
    'precomputed://whole': 'zarr://out.zarr',
    'Box(Xyz(100, 200, 300), Xyz(64, 64, 64))': 'Box(Xyz(10, 9, 8), Xyz(7, 6, 5))',
    # The network of `flood_folder` on its volume.
    '(250, 250, 250)': '(20, 26, 38)',
    '(125, 130, 110)': '(10, 6, 18)',
    'size { x:250 y:250 z:250 }': 'size { x:38 y:26 z:20 }',
    'Xyz(110, 130, 125)': 'Xyz(18, 6, 10)',
}


def test_examples_are_found():
    assert len(EXAMPLES) >= 9
    for text in SMALLER:
        assert any(text in example for _, example in EXAMPLES), text


@pytest.mark.parametrize('example', [text for _, text in EXAMPLES], ids=[at for at, _ in EXAMPLES])
def test_examples_run(example, tmp_path, request, monkeypatch):
    if 'Runner' in example:
        request.getfixturevalue('flood_folder')  # fills tmp_path
    labels = make_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    for text, smaller in SMALLER.items():
        example = example.replace(text, smaller)
    exec(example, {'labels': labels.astype(np.uint64)})
