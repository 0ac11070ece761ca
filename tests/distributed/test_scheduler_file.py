"""The file of Dask's scheduler, as `dask scheduler --scheduler-file` writes it, and damaged."""

import pytest

from ffn.distributed.cluster import read_scheduler_file
from ffn.utils.errors import UserError


def test_its_address(tmp_path):
    path = tmp_path / 'scheduler.json'
    path.write_text('{"type": "Scheduler", "address": "tls://10.0.0.7:8786", "workers": {}}')
    assert read_scheduler_file(path) == 'tls://10.0.0.7:8786'


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('{"address": "tcp', 'is damaged: it is not JSON'),
        ('[]', 'is damaged: it holds no JSON object'),
        ('{"id": "x"}', 'its address is None; expected one such as tcp://HOST:PORT'),
        ('{"address": 8786}', 'its address is 8786; expected one such as tcp://HOST:PORT'),
        ('{"address": "h:1"}', "its address is 'h:1'; expected one such as tcp://HOST:PORT"),
    ],
)
def test_damaged(tmp_path, text, why):
    path = tmp_path / 'scheduler.json'
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_scheduler_file(path)
    message = str(caught.value)
    assert message.startswith(f'--scheduler {path}')
    assert why in message
    assert '\n' not in message
