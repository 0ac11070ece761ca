"""Requests of existing installations mean what they meant there."""

import logging

from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.utils.protos import parse_text
from tests.inference import flood

SIZE_ZYX = (20, 26, 38)


def open_canvas(folder, extra):
    """The canvas of the whole volume; `extra` is added to the request."""
    request = parse_text(extra, read_request(flood.write_request(folder)), 'extra')
    with Runner() as runner:
        runner.start(request)
        return runner.make_canvas((0, 0, 0), SIZE_ZYX)[0]


def test_deltas_of_the_request_are_z_y_x(flood_folder, caplog):
    extra = 'movement_policy_args: "{\\"deltas\\": [0, 1, 2]}"'
    seen = []
    with caplog.at_level(logging.INFO):
        canvas = open_canvas(flood_folder, extra)
    canvas.segment_at((4, 18, 10), callback=lambda canvas, pos: seen.append(pos))
    assert {z for z, _, _ in seen} == {4}
    assert len({y for _, y, _ in seen}) > 1
    assert len({x for _, _, x in seen}) > 1
    logged = [r.getMessage() for r in caplog.records if 'policy_args' in r.getMessage()]
    assert logged == ['deltas of movement_policy_args are read as z,y,x 0,1,2 (x,y,z 2,1,0)']
