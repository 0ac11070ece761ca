"""Claims of folders, stamps of volumes, and digests of what they were made with."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes import provenance
from ffn.volumes.hdf5 import replaced_dataset
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.provenance import differences, read_input_stamp, read_stamp
from ffn.volumes.volume import VolumeSource, open_volume


@pytest.mark.parametrize('scheme', ['zarr', 'n5', 'precomputed'])
def test_however_a_request_names_it(tmp_path, scheme):
    tmp_path = tmp_path / 'a b'
    driver = {'precomputed': 'neuroglancer_precomputed'}.get(scheme, scheme)
    place = f'{tmp_path}/whole'
    box, chunk = Box(Xyz(0, 0, 0), Xyz(30, 20, 10)), Xyz(16, 16, 16)
    output = OutputSpec(f'{scheme}://{place}', box, chunk, (8, 9, 30))
    names = [
        output.spec,
        VolumeSource(spec=output.spec),
        f'{place}@0' if scheme == 'precomputed' else place,
        *(
            VolumeSource(tensorstore=json.dumps({'driver': driver, 'kvstore': kvstore, **below}))
            for root, below in ((place, {}), (f'{tmp_path}/', {'path': 'whole'}))
            for kvstore in ({'driver': 'file', 'path': root}, f'file://{quote(root)}')
        ),
    ]
    assert [read_input_stamp(name) for name in names] == [''] * 7
    output.create('of something')
    for name in names:
        with pytest.raises(UserError, match='is not complete'):
            read_input_stamp(name)
    output.finish('of something')
    assert [read_input_stamp(name) for name in names] == ['of something'] * 7


def test_weights_are_told_apart(tmp_path):
    for name in ('model.ckpt-1.index', 'model.ckpt-1.data-00000-of-00001', 'model.ckpt-10.index'):
        (tmp_path / name).write_bytes(name.encode())
    before = provenance.model_digest(f'{tmp_path}/model.ckpt-1')
    (tmp_path / 'model.ckpt-10.index').write_bytes(b'other')
    (tmp_path / 'model.ckpt-1.meta').write_bytes(b'graph')
    for name in ('model.ckpt-1.int8-0123abcd.json', 'model.ckpt-1.json', 'model.ckpt-1.weights.h5'):
        (tmp_path / name).write_bytes(b'what other commands leave')
    assert provenance.model_digest(f'{tmp_path}/model.ckpt-1') == before
    (tmp_path / 'model.ckpt-1.data-00000-of-00001').write_bytes(b'trained on')
    assert provenance.model_digest(f'{tmp_path}/model.ckpt-1') != before
    (tmp_path / 'net.weights.h5').write_bytes(b'one file')
    assert provenance.model_digest(f'{tmp_path}/net.weights.h5') != before


def test_claims(tmp_path):
    configuration = {'a': {'b': 1, 'c': (2, 3)}, 'd': 'x'}
    provenance.claim(tmp_path / 'new', configuration)
    before = (tmp_path / 'new' / provenance.MANIFEST).read_text()
    provenance.claim(tmp_path / 'new', configuration)
    provenance.claim(tmp_path / 'new', {'d': 'x', 'a': {'c': [2, 3], 'b': 1}})
    assert (tmp_path / 'new' / provenance.MANIFEST).read_text() == before
    with pytest.raises(
        UserError, match=r'a\.b is 1 there and 5 here, e is not set there and 6 here'
    ):
        provenance.claim(tmp_path / 'new', {**configuration, 'a': {'b': 5, 'c': [2, 3]}, 'e': 6})
    many = {**configuration, **dict.fromkeys('efghi', 1)}
    with pytest.raises(UserError, match='and 1 here, 2 more; give another folder'):
        provenance.claim(tmp_path / 'new', many)


def test_a_run_recognizes_its_outputs(tmp_path):
    record = tmp_path / 'record.json'
    assert provenance.recorded_stamps(record, 'a.h5:labels') == []
    for stamp in ('one', 'two', 'one'):
        provenance.record_output(record, 'a.h5:labels', stamp)
    provenance.record_output(record, 'zarr://b', 'three')
    assert provenance.recorded_stamps(record, 'a.h5:labels') == ['one', 'two']
    assert provenance.recorded_stamps(record, 'zarr://b') == ['three']


def test_a_claim_that_was_edited(tmp_path):
    provenance.claim(tmp_path, {'a': 1})
    path = tmp_path / provenance.MANIFEST
    assert provenance.read_claim(path) == {'a': 1}
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(UserError, match=r'manifest\.json was changed by hand'):
        provenance.read_claim(path)
    path.write_text('{}')
    with pytest.raises(UserError, match=r'manifest\.json is no manifest'):
        provenance.read_claim(path)


def test_what_json_cannot_tell_apart_is_no_difference():
    stored = {'size': [8.0, 8.0, 30.0], 'box': {'start': [1, 2]}}
    assert differences(stored, {'size': (8.0, 8.0, 30.0), 'box': {'start': (1, 2)}}) == ''
    assert differences(stored, {**stored, 'size': (8.0, 8.0, 8.0)}) == (
        'size is [8.0, 8.0, 30.0] there and [8.0, 8.0, 8.0] here'
    )


@pytest.mark.parametrize(
    ('there', 'here', 'said'),
    [
        ({}, {'a': {'b': None}}, 'a.b is not set there and null here'),
        ({'a': {'b': {}}}, {'a': {}}, 'a.b is {} there and not set here'),
        ({'a': {}}, {'a': {'b': 1}}, 'a.b is not set there and 1 here'),
        ({'a': {'b': 1}}, {'a': 2}, "a is {'b': 1} there and 2 here"),
        (
            {'a': {'b': 1}},
            {'a.b': 1},
            'a.b is 1 there and not set here, a.b is not set there and 1 here',
        ),
    ],
)
def test_what_refuses_a_folder_is_told(tmp_path, there, here, said):
    assert differences(there, here) == said
    provenance.claim(tmp_path, there)
    with pytest.raises(UserError, match=re.escape(f'other settings: {said}; give')):
        provenance.claim(tmp_path, here)


def write_labels(path, name, value, chunks):
    with replaced_dataset(f'{path}:{name}') as (file, plain):
        labels = np.zeros((5, 6, 7), np.uint32)
        labels[1, 2, 3] = value
        file.create_dataset(plain, data=labels, chunks=chunks)
    return read_input_stamp(f'{path}:{name}')


@pytest.mark.parametrize('chunks', [None, (2, 6, 7)])
def test_what_is_made_of_nothing_is_known_by_its_content(tmp_path, chunks):
    path = tmp_path / 'v.h5'
    stamps = [write_labels(path, 'a', value, chunks) for value in (3, 4, 3)]
    assert stamps[0] == stamps[2] != stamps[1]
    assert len(stamps[0]) == 64
    write_labels(path, 'b', 4, chunks)
    assert read_input_stamp(VolumeSource(spec=f'{path}:a')) == stamps[0]
    assert read_stamp(f'{path}:a') == ''  # made from nothing: where it lies is not known by that


PAGES = (b'\n<!doctype html>', b'\xef\xbb\xbf<html>', b'Not found', b'', b'[]', b'null', b'{"no')


def test_what_a_web_server_answers_where_there_is_no_stamp():
    """Some answer with a page, and not with an error."""
    answers = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Length', str(len(answers[-1])))
            self.end_headers()
            self.wfile.write(answers[-1])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        volume = f'zarr://http://127.0.0.1:{server.server_port}/v'
        for page in (*PAGES, b'{"error": "not found"}'):
            answers.append(page)
            assert read_input_stamp(volume) == ''
        answers.append(b'{"made_from": "x", "complete": false}')
        with pytest.raises(UserError, match='is not complete'):
            read_input_stamp(volume)
        server.shutdown()


@pytest.mark.parametrize('content', [*PAGES, b'{"complete": 0}', b'{"sparse": "no"}'])
def test_a_damaged_stamp_on_this_machine(tmp_path, content):
    box = Box(Xyz(0, 0, 0), Xyz(7, 6, 5))
    spec = f'zarr://{tmp_path}/v'
    OutputSpec(spec, box, Xyz(4, 4, 4), (8, 9, 30)).create('of something')
    (tmp_path / 'v' / 'ffn.json').write_bytes(content)
    for read in (read_input_stamp, open_volume):
        with pytest.raises(UserError, match=r'ffn\.json of .* is damaged.*; remove the volume and'):
            read(spec)
