"""Servers that do not answer, where a volume is or only above it."""

import functools
import math
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tensorstore as ts

from ffn.utils.errors import UnreadableError, UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes import servers
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.volume import open_volume
from tests.volumes.test_descriptions import DATA, SIZE, check, n5_attributes, ome, warnings
from tests.volumes.test_tensorstores import write, write_n5


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The folder of a site, its address, and how often it answers with an error what is asked below a path."""
    errors = {}

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            failing = next((path for path in errors if self.path.startswith(path)), None)
            if failing is None or not errors[failing]:
                super().do_GET()
            else:
                errors[failing] -= 1
                self.send_error(503)

        def log_message(self, format, *args):
            pass

    def at_once(spec, real=ts.Context):
        return real({kind: {**most, 'initial_delay': '1ms'} for kind, most in spec.items()})

    monkeypatch.setattr(ts, 'Context', at_once)
    handler = functools.partial(Handler, directory=tmp_path)
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield tmp_path, f'http://127.0.0.1:{server.server_port}', errors
    server.shutdown()
    server.server_close()


def test_attributes_are_asked_for_as_often_as_the_array(site, caplog):
    folder, url, errors = site
    write('zarr', folder / 'v', DATA)
    (folder / 'v' / '.zattrs').write_text('{"resolution": [33, 9.5, 8], "offset": [66, 0, -16]}')
    errors['/v/.zattrs'] = 4
    check(f'zarr://{url}/v', start=(-2, 0, 2), source='its attribute offset')
    errors['/v/.zattrs'] = math.inf
    with pytest.raises(UnreadableError, match=rf'^{url}/v cannot be read: .*HTTP code 503\]$'):
        open_volume(f'zarr://{url}/v')
    assert not warnings(caplog)


@pytest.mark.parametrize('name', ['', '/s0'])
@pytest.mark.parametrize(
    ('driver', 'version', 'file'), [('zarr', '0.4', '.zattrs'), ('zarr3', '0.5', 'zarr.json')]
)
def test_so_are_those_of_the_group_above(site, driver, version, file, name):
    folder, url, errors = site
    write(driver, folder / 'g' / 's0', DATA)
    ome(folder / 'g', 'zyx', [('s0', (33, 9.5, 8), (66, 0, -16))], version=version)
    errors[f'/g/{file}'] = 4
    check(f'{driver}://{url}/g{name}', start=(-2, 0, 2), source='its multiscales metadata')
    errors[f'/g/{file}'] = math.inf
    with pytest.raises(UnreadableError, match=f'^{url}/g cannot be read'):
        open_volume(f'{driver}://{url}/g{name}')


def test_so_are_those_of_the_finest_scale_of_n5(site):
    folder, url, errors = site
    for name, x, size in (('s0', 2, 2), ('s1', 5, 8)):
        write_n5(folder / name, DATA)
        sizes = {'axes': ['z', 'y', 'x'], 'scale': [33, 9.5, size], 'units': ['nm'] * 3}
        transform = {**sizes, 'translate': [0, 0, x]}
        n5_attributes(folder / name, pixelResolution=[size, 9.5, 33], transform=transform)
    errors['/s0/'] = 4
    check(f'n5://{url}/s1', source='its attribute transform')
    errors['/s0/'] = math.inf
    with pytest.raises(UnreadableError, match=f'^{url}/s0 cannot be read'):
        open_volume(f'n5://{url}/s1')


def test_errors_above_an_array_that_says_its_own_voxel_size_are_told_once(site, caplog):
    folder, url, errors = site
    write('zarr', folder / 'v', DATA)
    (folder / 'v' / '.zattrs').write_text('{"resolution": [33, 9.5, 8]}')
    errors['/.zattrs'] = math.inf
    for _ in range(2):
        check(f'zarr://{url}/v')
    (line,) = warnings(caplog)
    assert f'folders above it is not known: {url} cannot be read: ABORTED: All 1 ' in line
    assert line.endswith('[HTTP code 503]')


def test_a_stamp_that_is_not_given_is_not_one_that_is_not_there(site):
    folder, url, errors = site
    spec = f'zarr://{url}/v'
    write('zarr', folder / 'v', DATA)
    assert read_input_stamp(spec) == ''
    errors['/v/ffn.json'] = math.inf
    with pytest.raises(UnreadableError, match=f'^{spec} cannot be read'):
        read_input_stamp(spec)
    errors.clear()
    errors['/v/.zarray'] = math.inf
    with pytest.raises(UnreadableError, match=f'^{url}/v cannot be read'):
        read_input_stamp(spec)


def test_an_output_that_is_not_shown_is_not_one_that_is_not_there(site):
    _, url, errors = site
    output = OutputSpec(f'zarr://{url}/v', Box(Xyz(0, 0, 0), Xyz(7, 6, 5)), Xyz(4, 4, 4), SIZE)
    assert not output.exists()
    errors['/v'] = math.inf
    with pytest.raises(UnreadableError, match=f'^{output.spec} cannot be read'):
        output.exists()


NONE = 'NOT_FOUND: Gone [HTTP code 410]', 'PERMISSION_DENIED: Forbidden [HTTP code 403]'
OPEN = (
    'UNKNOWN: Unknown [HTTP code 520]',
    'PERMISSION_DENIED: Failed to open: "/v/.zattrs": Permission denied',
)


def test_which_errors_leave_open_whether_there_is_something():
    for text in NONE:
        servers.check_answered(ValueError(text), 'v')
    for text in OPEN:
        with pytest.raises(UnreadableError, match=r'^v cannot be read: '):
            servers.check_answered(ValueError(text), 'v')


@pytest.mark.parametrize('scheme', ['zarr', 'zarr3', 'n5'])
def test_a_server_that_does_not_exist(scheme, monkeypatch, caplog):
    monkeypatch.setattr(servers, '_RETRIES', 0)
    with pytest.raises(UserError, match=r'^http://127\.0\.0\.1:9/x cannot be read: .*connect'):
        open_volume(f'{scheme}://http://127.0.0.1:9/x')
    assert not warnings(caplog)
