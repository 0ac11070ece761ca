"""What a run writes at its end is there though nobody reads the summary that it prints."""

from __future__ import annotations

import json
import shutil

import pytest

from ffn.agglomeration import consensus_run
from ffn.cli.consensus import main
from ffn.inference import box_run
from tests.inference import flood

BOX = 'start { x:0 y:0 z:0 } size { x:12 y:13 z:14 }'


def fail(*_):
    raise BrokenPipeError(32, 'Broken pipe')


def test_a_summary_of_boxes(flood_folder, monkeypatch):
    monkeypatch.setattr(box_run, 'print', fail, raising=False)
    request, report = flood.write_request(flood_folder), flood_folder / 'report.json'
    with pytest.raises(BrokenPipeError):
        box_run.segment(request, BOX, quiet=True, report_path=str(report))
    assert len(json.loads(report.read_text())['boxes']) == 1
    assert (flood_folder / 'results' / 'counters.txt').stat().st_size


def test_a_summary_of_the_reverse_order(flood_folder, monkeypatch):
    request = flood.write_request(flood_folder)
    box_run.segment(request, BOX, quiet=True)
    one, two = flood_folder / 'one', flood_folder / 'two'
    shutil.move(flood_folder / 'results', one)
    asked = (
        f'segmentation1 {{ directory: "{one}" }} segmentation2 {{ directory: "{two}" }} '
        f'segmentation_output_dir: "{flood_folder}/out" type: CONSENSUS_SPLIT'
    )
    monkeypatch.setattr(consensus_run, 'print', fail, raising=False)
    with pytest.raises(BrokenPipeError):
        main(['--consensus_request', asked, '--inference_request', request, '--quiet'])
    assert (two / 'counters.txt').stat().st_size
