"""Serving a folder to a viewer."""

import http.client
import json
import socket
import subprocess
import sys
import threading

import pytest

from ffn.cli.serve import main
from ffn.export.neuroglancer import write_state
from ffn.export.server import ANY, VIEWER, make_server, name_of
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box


@pytest.fixture
def served(tmp_path):
    """A folder, and what asks a server of it: path, and headers → status, answer and its headers."""
    folder = tmp_path / 'export'
    (folder / 'image').mkdir(parents=True)
    (folder / 'image' / 'info').write_bytes(b'{}')
    (tmp_path / 'private').write_bytes(b'not served')
    (folder / 'link').symlink_to(tmp_path / 'private')
    (folder / 'above').symlink_to(tmp_path)
    (folder / 'circle').symlink_to('circle')
    (folder / 'again').symlink_to(folder / 'image')
    with make_server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(path, method='GET', **headers):
            connection = http.client.HTTPConnection('127.0.0.1', server.server_port)
            connection.putrequest(method, path, skip_host=True)
            host = headers.pop('Host', f'localhost:{server.server_port}')
            for name, value in {'Host': host, **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

        yield ask, server
        server.shutdown()


def test_the_viewer_may_read(served):
    ask, server = served
    for headers in ({}, {'Origin': VIEWER}, {'Host': '127.0.0.1:1'}):
        status, data, shown = ask('/image/info', **headers)
        assert (status, data) == (200, b'{}')
        assert shown['Access-Control-Allow-Origin'] == VIEWER
    assert ask('/again/info')[:2] == (200, b'{}')
    assert ask('/nothing')[0] == 404
    assert server.server_address[0] == '127.0.0.1'


@pytest.mark.parametrize(
    'origin', ['https://example.org', 'null', f'{VIEWER}.example.org', VIEWER[:-1]]
)
def test_other_sites_may_not(served, origin):
    status, data, shown = served[0]('/image/info', Origin=origin)
    assert status == 403
    assert b'{}' not in data
    assert shown['Access-Control-Allow-Origin'] == VIEWER


@pytest.mark.parametrize('host', ['example.org', 'localhost.example.org:80', '', '[', '10.0.0.1'])
def test_names_that_other_sites_give_to_this_machine(served, host):
    assert served[0]('/image/info', Host=host)[0] in (400, 403)


@pytest.mark.parametrize(
    'path',
    [
        '/link',
        '/above/private',
        '/above',
        '/../private',
        '/%2e%2e/private',
        '//private',
        '/%00',
        '/circle',
    ],
)
def test_nothing_outside_of_the_folder(served, path):
    status, data, _ = served[0](path)
    assert status == 404
    assert b'not served' not in data


@pytest.mark.parametrize('path', ['/', '/image', '/image/'])
def test_folders_are_not_listed(served, path):
    status, data, _ = served[0](path)
    assert status == 404
    assert b'info' not in data


@pytest.mark.parametrize(
    ('asked', 'status', 'answer', 'place'),
    [
        ('bytes=2-5', 206, b'2345', 'bytes 2-5/10'),
        ('bytes=0-0', 206, b'0', 'bytes 0-0/10'),
        ('bytes=7-', 206, b'789', 'bytes 7-9/10'),
        ('bytes=-3', 206, b'789', 'bytes 7-9/10'),
        ('bytes=-99', 206, b'0123456789', 'bytes 0-9/10'),
        ('bytes=8-99', 206, b'89', 'bytes 8-9/10'),
        ('bytes=10-11', 416, b'', 'bytes */10'),
        ('bytes=5-4', 416, b'', 'bytes */10'),
        ('bytes=-', 200, b'0123456789', None),
        ('bytes=0-1,4-5', 200, b'0123456789', None),  # several may be answered by all
        ('lines=1-2', 200, b'0123456789', None),
    ],
)
def test_parts_of_files(served, tmp_path, asked, status, answer, place):
    (tmp_path / 'export' / 'shard').write_bytes(b'0123456789')
    ask, _ = served
    found, data, shown = ask('/shard', Range=asked)
    assert (found, data, shown['Content-Range']) == (status, answer, place)
    assert int(shown['Content-Length']) == len(answer)
    assert shown['Access-Control-Allow-Origin'] == VIEWER
    assert ask('/link', Range=asked)[0] == 404


@pytest.mark.parametrize('host', ['localhost:9001', '127.0.0.1:{}', 'LOCALHOST'])
def test_the_state_names_the_server_that_it_comes_from(served, tmp_path, host):
    write_state(tmp_path / 'export', ['image', 'labels'], Box.of_shape((5, 6, 7)), (8, 8, 30))
    ask, server = served
    host = host.format(server.server_port)
    status, data, shown = ask('/state.json', Host=host, Origin=VIEWER, Range='bytes=0-3')
    assert status == 200
    assert int(shown['Content-Length']) == len(data)
    assert shown['Content-Type'] == 'application/json'
    sources = [layer['source'] for layer in json.loads(data)['layers']]
    assert sources == [f'precomputed://http://{host}/{name}' for name in ('image', 'labels')]
    assert ask('/state.json', Host='example.org:9000')[0] == 403
    stored = json.loads((tmp_path / 'export' / 'state.json').read_text())['layers']
    assert stored[0]['source'] == 'precomputed://http://localhost:9000/image'


def test_a_server_at_all_addresses_is_known_by_each(served, tmp_path):
    """As 127.0.0.2 stands for the address of a machine in its network."""
    with make_server(tmp_path / 'export', 0, address=ANY) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = {}
        for host in ('127.0.0.2', '127.0.0.3', 'example.org', socket.gethostname()):
            connection = http.client.HTTPConnection('127.0.0.2', server.server_port)
            connection.request('GET', '/image/info', headers={'Host': f'{host}:9000'})
            found[host] = connection.getresponse().status
        server.shutdown()
    assert list(found.values()) == [200, 403, 403, 200]
    assert name_of(ANY) == socket.gethostname()
    assert name_of('127.0.0.1') == 'localhost'
    assert name_of('10.0.0.1') == '10.0.0.1'


def test_the_viewer_may_ask_for_parts(served):
    ask, _ = served
    status, _, shown = ask('/image/info', 'OPTIONS', Origin=VIEWER)
    assert (status, shown['Access-Control-Allow-Headers']) == (204, 'Range')
    assert ask('/image/info', 'OPTIONS', Origin='https://example.org')[0] == 403
    assert ask('/image/info', 'OPTIONS', Origin=VIEWER, Host='example.org')[0] == 403


def test_a_viewer_that_goes_away_is_no_error(served, tmp_path, monkeypatch, capsys):
    ask, server = served
    (tmp_path / 'export' / 'shard').write_bytes(bytes(30_000_000))
    handled = threading.Semaphore(0)
    finish = server.shutdown_request
    monkeypatch.setattr(
        server, 'shutdown_request', lambda request: (finish(request), handled.release())
    )
    for headers in ('', 'Range: bytes=1-29000000\r\n'):
        with socket.create_connection(server.server_address) as viewer:
            viewer.sendall(f'GET /shard HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n'.encode())
            assert viewer.recv(100)
        assert handled.acquire(timeout=60)
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(type(server), 'finish_request', lambda *_: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask('/shard')
    assert handled.acquire(timeout=60)
    assert 'ZeroDivisionError' in capsys.readouterr().err


def test_what_cannot_be_served(tmp_path):
    with pytest.raises(UserError, match='no folder'):
        make_server(tmp_path / 'none', 0)
    with pytest.raises(UserError, match=r'--viewer is .*; expected an address'):
        make_server(tmp_path, 0, 'neuroglancer')
    with make_server(tmp_path, 0) as server:
        with pytest.raises(UserError, match='choose another --port'):
            make_server(tmp_path, server.server_port)


@pytest.mark.parametrize('port', [99999, 65536, -1])
def test_no_port(tmp_path, port):
    with pytest.raises(
        UserError, match=f'--port is {port}; expected 0, for any free one, to 65535'
    ):
        make_server(tmp_path, port)


def test_a_folder_that_is_no_export(tmp_path):
    with pytest.raises(UserError, match=r'holds no state\.json'):
        main([str(tmp_path), '--port', '-1'])


def test_it_says_what_to_open(tmp_path, repository):
    (tmp_path / 'state.json').write_text('{}')
    command = [sys.executable, '-m', 'ffn.visualization.serve', str(tmp_path), '--port', '0']
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, text=True) as process:
        line, offline = process.stdout.readline(), process.stdout.readline()
        process.terminate()
    assert line.startswith('open https://neuroglancer-demo.appspot.com/#!http://localhost:')
    assert line.strip().endswith('/state.json')
    assert offline.strip().endswith(f'ffn view {tmp_path}')
