"""Servers that do not answer, where a volume is or only above it."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ffn.utils.errors import UserError
from ffn.volumes import scales, servers, tensorstore_metadata
from ffn.volumes.volume import open_volume
from tests.volumes.test_descriptions import DATA, ome, warnings
from tests.volumes.test_tensorstores import write


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The folder of a site, which has errors for all that is not in its folder 's0', and its address."""
    for module in (scales, tensorstore_metadata):
        monkeypatch.setattr(module, 'FEW_RETRIES', 0)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith('/s0/'):
                super().do_GET()
            else:
                self.send_error(503)

        def log_message(self, format, *args):
            pass

    handler = functools.partial(Handler, directory=tmp_path)
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_errors_above_an_array_are_told_once(site, caplog):
    folder, url = site
    write('zarr', folder / 's0', DATA)
    ome(folder, 'zyx', [('s0', (33, 9.5, 8), (66, 0, -16))])
    for _ in range(2):
        with open_volume(f'zarr://{url}/s0') as volume:
            assert (volume.read(volume.box) == DATA).all()
            assert volume.voxel_size is None
    (line,) = warnings(caplog)
    assert f'{url} cannot be read, and what it may say of the volume' in line
    assert line.endswith('[HTTP code 503]')


@pytest.mark.parametrize('scheme', ['zarr', 'zarr3', 'n5'])
def test_a_server_that_does_not_exist(scheme, monkeypatch, caplog):
    monkeypatch.setattr(servers, '_RETRIES', 0)
    with pytest.raises(UserError, match=r'cannot be opened: .*127\.0\.0\.1'):
        open_volume(f'{scheme}://http://127.0.0.1:9/x')
    assert not warnings(caplog)
