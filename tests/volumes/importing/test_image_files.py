"""Image files that declare more, or less, than there can be."""

import struct
import zlib

import mrcfile
import numpy as np
import pytest
from PIL import Image

from ffn.utils.errors import UserError
from ffn.volumes.importing.image_files import open_image


def refused(path) -> str:
    with pytest.raises(UserError) as caught, open_image(path) as image:
        image.read(0)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert '\n' not in message
    return message


def test_a_png_that_declares_more_than_it_can_hold(tmp_path):
    path = tmp_path / 'a.png'
    Image.fromarray(np.zeros((11, 7), np.uint8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack('>II', 2**20, 2**16)
    data[29:33] = struct.pack('>I', zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
    assert 'sections of 1048576×65536 (x,y) would be 68,719,476,736 bytes' in refused(path)


def test_what_compresses_well_is_no_damage(tmp_path):
    """Deflate makes a thousandth of zeros."""
    Image.fromarray(np.zeros((5000, 4000), np.uint8)).save(tmp_path / 'a.png')
    assert (tmp_path / 'a.png').stat().st_size < 20_000_000 / 900
    with open_image(tmp_path / 'a.png') as image:
        assert not image.read(0).any()


def test_an_mrc_without_sections(tmp_path):
    path = tmp_path / 'a.mrc'
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((3, 4, 5), np.int16))
    data = bytearray(path.read_bytes())
    data[8:12] = bytes(4)
    path.write_bytes(data[:1024])
    assert 'holds no voxel: its sides are z,y,x 0,4,5' in refused(path)
