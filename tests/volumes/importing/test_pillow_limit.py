"""Pillow's limit on the size of images, which is one for all threads."""

from PIL import Image

from ffn.volumes.importing.pillow_limit import any_size


def test_the_last_that_leaves_puts_it_back(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 30)
    first, second = any_size(), any_size()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 30
