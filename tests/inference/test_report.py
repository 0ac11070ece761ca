"""What the summary of a run says."""

import pytest

from ffn.inference.report import BoxReport, summary
from ffn.utils.geometry import Box, Xyz

BOX = Box(Xyz(2, 1, 0), Xyz(36, 25, 20))


@pytest.mark.parametrize(
    ('statuses', 'said'),
    [
        (['exists'], 'the result exists; nothing to do'),
        (['interrupted'], '1 box: 1 interrupted'),  # while another process was at it
        (['exists', 'interrupted', 'exists'], '3 boxes: 2 exists, 1 interrupted'),
    ],
)
def test_a_run_in_which_nothing_was_segmented(statuses, said):
    reports = [BoxReport.without_canvas(BOX, status) for status in statuses]
    assert summary(reports, 2.5) == said
