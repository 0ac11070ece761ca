"""Volumes on other machines and in other files are opened only if the command line says so, never because a file does."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from ffn.cli import flags
from ffn.evaluation.sources import open_truth
from ffn.inference import inference_pb2
from ffn.inference.request import read_config
from ffn.utils import trust
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.hdf5 import open_hdf5, replaced_dataset
from ffn.volumes.hdf5_links import refuse_external
from ffn.volumes.importing.label_sources import open_labels
from ffn.volumes.masks import Mask
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.tensorstores import is_remote
from ffn.volumes.volume import VolumeSource, open_volume

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
URL = 'precomputed://gs://bucket/image'


@pytest.fixture(autouse=True)
def trusts_nothing_else(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['ffn'])
    with trust.only(trust.Trust()):
        yield


@pytest.mark.parametrize(
    ('place', 'expected'),
    [
        ('zarr://data/a.zarr', False),
        ('a.h5:raw', False),
        ('wkw://data/layer', False),
        ('wkw://https://host/layer', True),
        ('zarr://file:///data/a.zarr', False),
        ('{"driver": "zarr", "kvstore": {"driver": "file", "path": "a"}}', False),
        ('{"driver": "zarr", "kvstore": {"driver": "zip", "base": {"driver": "file"}}}', False),
        (URL, True),
        ('zarr://https://host/a', True),
        ('zarr3://s3://bucket/a', True),
        ('https://host/a', True),
        ('{"driver": "zarr", "kvstore": "http://host/a"}', True),
        ('{"driver": "zarr", "kvstore": {"driver": "http", "base_url": "a"}}', True),
        ('{"driver": "cast", "base": {"driver": "n5", "kvstore": {"driver": "s3"}}}', True),
        ('{"driver": "stack", "layers": [{"driver": "zarr", "kvstore": "gs://a/b"}]}', True),
        ('{"driver": "zarr", "kvstore": {"driver": "zip", "base": "https://host/a.zip"}}', True),
        ('{"driver": "zarr", "kvstore": {"driver": ["file"]}}', True),
    ],
)
def test_what_is_on_another_machine(place, expected):
    assert is_remote(place) == expected


def read(**fields):
    return VolumeSource.from_proto(inference_pb2.DecoratedVolume(**fields), 'image')


def test_a_request_alone_opens_nothing_remote():
    with pytest.raises(UserError) as caught:
        read(hdf5=URL)
    assert str(caught.value) == (
        f'image of the request is or may be on another machine, {URL}, which is not opened because a request says so; '
        'name it on the command line as well, or give --allow_remote if you trust it'
    )
    mask = inference_pb2.MaskConfig()
    mask.volume.mask.tensorstore = '{"driver": "n5", "kvstore": "s3://bucket/a"}'
    with pytest.raises(UserError, match='mask of the request is or may be on another machine'):
        Mask.from_proto(mask)


@pytest.mark.parametrize(
    ('words', 'allowed'),
    [
        (['--image', URL], True),
        ([f'--image=name:{URL}'], True),
        ([f'image {{ hdf5: "{URL}" }}'], True),
        ([f'{URL}2'], False),
        ([f'{URL}/more'], False),
        ([f'a{URL}'], False),
        (['precomputed://gs://bucket'], False),
        ([], False),
    ],
)
def test_what_the_command_line_names(words, allowed, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['ffn', *words])
    flags.make_parser('try', '')
    assert trust.current().allows_remote(URL) == allowed


def test_a_tensorstore_spec_on_the_command_line(monkeypatch):
    spec = '{"driver": "n5", "kvstore": "s3://bucket/a"}'
    escaped = spec.replace('"', '\\"')
    monkeypatch.setattr(sys, 'argv', ['ffn', f'image {{ tensorstore: "{escaped}" }}'])
    flags.make_parser('try', '')
    assert read(tensorstore=spec).tensorstore == spec


@pytest.fixture
def server():
    """A server that counts who connects to it."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f'zarr://http://127.0.0.1:{made.server_port}/image', asked
        made.shutdown()


def test_reading_a_request_asks_no_server(server, tmp_path):
    url, asked = server
    path = tmp_path / 'request.pbtxt'
    path.write_text(
        f'image {{ hdf5: "{url}" }} image_mean: 128 image_stddev: 33 model_checkpoint_path: "none" '
        'model_name: "convstack_3d.ConvStack3DFFNModel" model_args: "{}" seed_policy: "PolicyPeaks" '
        'inference_options { init_activation: 0.95 pad_value: 0.05 move_threshold: 0.9 '
        'segment_threshold: 0.6 min_segment_size: 1 min_boundary_dist { x: 1 y: 1 z: 1 } }'
    )
    with pytest.raises(UserError, match='image of the request is or may be on another machine'):
        read_config(str(path))
    assert asked == []
    trust.allow(remote=True)
    read_config(str(path))  # asks for the voxel size
    assert asked


def test_all_may_be_allowed():
    flags.make_parser('try', '').parse_args(['--allow_remote'])
    assert trust.current() == trust.Trust(remote=True)
    assert read(hdf5=URL).spec == URL


@pytest.fixture
def path(tmp_path):
    """A file with data in others: by a link, by a soft link through it, as raw bytes, and virtually."""
    folder = tmp_path / 'given'
    (folder / 'parts').mkdir(parents=True)
    for name in ('other.h5', 'given/near.h5', 'given/parts/below.h5'):
        with h5py.File(tmp_path / name, 'w') as file:
            file['raw'] = ARRAY
            file['group/raw'] = ARRAY
    (tmp_path / 'bytes').write_bytes(ARRAY.tobytes())
    with h5py.File(folder / 'v.h5', 'w') as file:
        file['inside/raw'] = ARRAY
        file['soft'] = h5py.SoftLink('/inside/raw')
        file['inside/relative'] = h5py.SoftLink('./raw')
        file['circle'] = h5py.SoftLink('/circle')
        file['link'] = h5py.ExternalLink('near.h5', '/raw')
        file['group'] = h5py.ExternalLink('../other.h5', '/group')
        file['through'] = h5py.SoftLink('/group/raw')
        file.create_dataset('stored', ARRAY.shape, 'u1', external=[('../bytes', 0, 24)])
        for name, other in {
            'virtual': '../other.h5',
            'near': 'near.h5',
            'below': 'parts/below.h5',
        }.items():
            layout = h5py.VirtualLayout(ARRAY.shape, 'u1')
            layout[:] = h5py.VirtualSource(other, 'raw', ARRAY.shape)
            file.create_virtual_dataset(name, layout)
    return folder / 'v.h5'


@pytest.mark.parametrize('name', ['soft', 'inside/relative', '/inside//raw', 'near', 'below'])
def test_what_belongs_to_a_file(path, name):
    with open_volume(f'{path}:{name}') as volume:
        np.testing.assert_array_equal(volume.read(volume.box), ARRAY)


@pytest.mark.parametrize(
    ('name', 'other'),
    [
        ('link', '/link is in another file, near.h5'),
        ('group/raw', '/group is in another file, ../other.h5'),
        ('through', '/group is in another file, ../other.h5'),
        ('stored', '/stored is in another file, ../bytes'),
        ('virtual', '/virtual is in another file, ../other.h5'),
    ],
)
def test_other_files_are_not_opened(path, name, other, monkeypatch):
    with pytest.raises(UserError) as caught:
        open_volume(f'{path}:{name}')
    assert str(caught.value) == (
        f'{path}: {other}, which is not opened because a file says so; if you trust it, give --allow_remote'
    )
    trust.allow(remote=True)
    monkeypatch.chdir(path.parent)  # raw storage is relative to the current folder
    with open_volume(f'{path}:{name}') as volume:
        np.testing.assert_array_equal(volume.read(volume.box), ARRAY)


@pytest.mark.parametrize('name', ['nothing', 'inside', 'soft/below', 'circle', 'inside/nothing'])
def test_names_without_data(path, name):
    with pytest.raises(UserError, match='holds no dataset'):
        open_volume(f'{path}:{name}')


def test_a_whole_file(path):
    with open_hdf5(path) as file, pytest.raises(UserError, match='is in another file'):
        refuse_external(file)
    with h5py.File(path, 'a') as file:
        for name in ('link', 'group', 'stored', 'virtual'):
            del file[name]
    with open_hdf5(path) as file:
        refuse_external(file)


def test_what_is_written_does_not_follow_links_either(path):
    with pytest.raises(UserError, match='/group is in another file'):
        with replaced_dataset(f'{path}:group/raw'):
            pass


@pytest.mark.parametrize('name', ['link', 'group/raw', 'stored'])
def test_other_commands_do_not_follow_them_either(path, tmp_path, name):
    with pytest.raises(UserError, match='is in another file'):
        open_truth(f'{path}:inside/raw', transforms=f'{path}:{name}')
    with pytest.raises(UserError, match='is in another file'):
        with open_labels(str(path), name, None, None, tmp_path):
            pass
    if name != 'stored':
        spec = OutputSpec(f'{path}:{name}', Box(Xyz(0, 0, 0), Xyz(4, 3, 2)), Xyz(2, 2, 2), None)
        with pytest.raises(UserError, match='is in another file'):
            spec.exists()


def test_neuroproof_transforms_of_another_file(path, tmp_path):
    with h5py.File(path, 'a') as file:
        file['stack'] = ARRAY
        file['transforms'] = h5py.ExternalLink('../other.h5', '/raw')
    with pytest.raises(UserError, match='/transforms is in another file'):
        with open_labels(str(path), None, None, None, tmp_path):
            pass
