"""What tifffile logs about a file, and about those of others."""

import logging
import threading
from pathlib import Path

import pytest

from ffn.utils.errors import UserError
from ffn.volumes.importing.tiff_pages import errors_raised


def test_errors_of_this_thread_alone_are_of_this_file(caplog):
    logger = logging.getLogger('tifffile')
    with errors_raised(Path('mine.tif')):
        other = threading.Thread(target=logger.error, args=('damage of another file',))
        other.start()
        other.join()
        logger.warning('nothing')
    assert caplog.messages == ['damage of another file']
    with (
        pytest.raises(UserError, match=r'mine\.tif is damaged: no such page'),
        errors_raised(Path('mine.tif')),
    ):
        logger.error('no such page')
    assert len(caplog.messages) == 1
    logger.error('later')
    assert caplog.messages[1:] == ['later']
