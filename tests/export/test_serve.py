"""Serving a folder to a viewer."""

import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from ffn.export.server import make_server
from ffn.utils.errors import UserError


def test_another_site_may_read(tmp_path):
    (tmp_path / 'info').write_bytes(b'{}')
    with make_server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f'http://localhost:{server.server_port}'
        with urllib.request.urlopen(f'{place}/info') as answer:
            assert answer.read() == b'{}'
            assert answer.headers['Access-Control-Allow-Origin'] == '*'
        with pytest.raises(urllib.error.HTTPError, match='404'):
            urllib.request.urlopen(f'{place}/nothing')
        with pytest.raises(UserError, match='choose another --port'):
            make_server(tmp_path, server.server_port)
        server.shutdown()
    with pytest.raises(UserError, match='no folder'):
        make_server(tmp_path / 'none', 0)


def test_it_says_what_to_open(tmp_path, repository):
    command = [sys.executable, '-m', 'ffn.visualization.serve', str(tmp_path), '--port', '0']
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.terminate()
    assert line.startswith('open https://neuroglancer-demo.appspot.com/#!http://localhost:')
    assert line.strip().endswith('/state.json')
