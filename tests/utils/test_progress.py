"""Progress where there is no terminal: lines in the log."""

import re
import time

import pytest

from ffn.utils import progress as module
from ffn.utils.progress import progress


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_line_tells_how_far_it_is_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, 'FIRST_LINE_S', 0.01)
    caplog.set_level('INFO')
    with progress(total=40, desc='seeds', unit='seed') as bar:
        time.sleep(0.15)
        bar.update(10)
    assert re.fullmatch(r'seeds:  25% 10/40 \[00:00<00:0\d, .*seed/s\]', lines(caplog)[0])


def test_slow_work_after_fast_work_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, 'FIRST_LINE_S', 0.2)
    caplog.set_level('INFO')
    with progress(total=100_000) as bar:
        for _ in range(20_000):
            bar.update()
        time.sleep(0.4)
        bar.update()
        before = len(lines(caplog))
        for _ in range(3):
            time.sleep(0.3)
            bar.update()
    assert before
    assert len(lines(caplog)) >= before + 2


def test_lines_become_rarer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
    caplog.set_level('INFO')
    told = []
    with progress(total=10_000, desc='seeds') as bar:
        for now[0] in range(0, 4_000, 10):
            before = len(caplog.records)
            bar.refresh()
            told += [now[0]] * (len(caplog.records) - before)
    assert told[:4] == [60, 120, 180, 240]
    assert told[-1] - told[-2] >= 300
    assert len(lines(caplog)) == len(told)


@pytest.mark.parametrize('quiet', [False, True])
def test_short_and_quiet_work_logs_nothing(
    quiet: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    caplog.set_level('INFO')
    assert list(progress(range(5), desc='blocks', quiet=quiet)) == [0, 1, 2, 3, 4]
    assert not lines(caplog)
    assert capfd.readouterr().err == ''
