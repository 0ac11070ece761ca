"""The web server of a viewer: what it gives, and to whom."""

from __future__ import annotations

import errno
import http.client
import socket
import urllib.parse

import pytest

pytest.importorskip('neuroglancer')
from ffn.proofreading.viewing.server import start_server
from ffn.utils.errors import UserError


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """What asks a server for a path below a folder: path → status, answer."""
    top = tmp_path_factory.mktemp('served')
    folder = top / 'export'
    (folder / 'labels').mkdir(parents=True)
    (folder / 'labels' / 'shard').write_bytes(bytes(range(100)))
    (top / 'private').write_bytes(b'not served')
    (folder / 'link').symlink_to(top / 'private')
    (folder / 'above').symlink_to(top)
    (folder / 'circle').symlink_to('circle')
    server = start_server(0)
    files = server.serve_folder(folder)
    made = server.serve_made({'info': b'{}'}.get)

    def ask(url, **headers):
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        connection.request('GET', parts.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    yield ask, files, made, server
    server.stop()


def test_files_and_parts_of_files(served):
    ask, files, _, _ = served
    assert ask(f'{files}/labels/shard') == (200, bytes(range(100)))
    assert ask(f'{files}/labels/shard', Range='bytes=10-12') == (206, bytes([10, 11, 12]))
    assert ask(f'{files}/labels/shard', Range='bytes=-2') == (206, bytes([98, 99]))
    assert ask(f'{files}/labels/nothing')[0] == 404


@pytest.mark.parametrize(
    'path',
    [
        '/link',
        '/above/private',
        '/../private',
        '/%2e%2e/private',
        '//private',
        '/circle',
        '/',
        '',
        '/labels',
        '/labels/',
        '/%00',
    ],
)
def test_nothing_else(served, path):
    ask, files, _, _ = served
    status, answer = ask(files + path)
    assert status in (403, 404)
    assert b'not served' not in answer
    assert b'shard' not in answer


def test_what_is_made(served):
    ask, _, made, _ = served
    assert ask(f'{made}/info') == (200, b'{}')
    assert ask(f'{made}/nothing')[0] == 404


def test_only_with_the_token(served):
    ask, files, made, server = served
    assert len(server.token) == 40
    for url in (f'{files}/labels/shard', f'{made}/info'):
        assert ask(url.replace(server.token, '0' * 40))[0] == 404
    assert ask(f'{server.server_url}/v/{"0" * 40}/')[0] == 404
    assert ask(f'{server.server_url}/')[0] == 404
    assert ask(f'{server.server_url}/v/{server.token}/')[0] == 200


def test_of_this_machine_only(served):
    server = served[3]
    assert server.server_url.startswith('http://127.0.0.1:')
    assert server.http_server._sockets
    assert all(s.getsockname()[0] == '127.0.0.1' for s in server.http_server._sockets.values())


def test_a_port_that_is_in_use():
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f'port {port} .* choose another --port'):
            start_server(port)
    with pytest.raises(UserError, match='--port'):
        start_server(70000)


def test_too_many_servers(monkeypatch):
    def full(port):
        raise OSError(errno.EMFILE, 'Too many open files')

    monkeypatch.setattr('ffn.proofreading.viewing.server.ViewerServer', full)
    with pytest.raises(UserError, match='Too many open files; close the viewers'):
        start_server(0)


def test_a_server_ends():
    server = start_server(0)
    port = server.port
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(('127.0.0.1', port), 5)
