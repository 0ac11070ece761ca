"""Reading npz files of others: plain data only, and no more than the file declares and the volume justifies.

What would be harmful is a stand-in: a class that would only set a flag, arrays that only declare too much.
"""

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format

from ffn.inference.storage import OriginInfo
from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz
from ffn.utils.pickled_arrays import NotPlainError
from ffn.utils.plain_pickle import load_objects

ORIGIN = OriginInfo((1, 2, 3), 7, 0.5)


def boxed(value):
    array = np.empty((), object)
    array[()] = value
    return array


def load(value, protocol=4):
    return load_objects(pickle.dumps(boxed(value), protocol), (), [OriginInfo]).item()


class Flag:
    """Something whose pickle would set a flag if it were loaded as pickles are."""

    was_set = False

    def __reduce__(self):
        return set_flag, ()


def set_flag():
    Flag.was_set = True
    return 0


class Reduced:
    """Pickles as a call of something, and then perhaps as setting its state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


RESULTS = [
    {},
    {1: ORIGIN, 300: OriginInfo((4, 1, 7), 9, 1.5)},
    {1: OriginInfo((np.int64(1), np.int64(2), np.int64(3)), np.int32(7), np.float32(0.5))},
    {300: np.array([[1, 2], [50000, 6]]), 7: np.zeros((2, 0), np.uint64)},
    {1: [np.array([1, 2]), np.array([3.0, 4.0])], 2: 'text', 3: b'\x00\xff', 4: None, 5: 2**70},
    {
        np.int64(5): True,
        6: np.array(['abc', 'de']),
        7: np.array([b'x']),
        8: np.array([1, -2], '>i4'),
    },
]


def has_origins(value):
    return any(isinstance(item, OriginInfo) for item in value.values())


# No version of NumPy wrote named tuples with protocols below 2.
@pytest.mark.parametrize(
    ('value', 'protocol'),
    [(v, n) for v in RESULTS for n in range(5) if n >= 2 or not has_origins(v)],
)
def test_what_results_hold(value, protocol):
    found = load(value, protocol)
    assert list(found) == [int(key) for key in value]
    assert repr(list(found.values())) == repr(
        [
            v.astype(v.dtype.newbyteorder('=')) if isinstance(v, np.ndarray) else v
            for v in value.values()
        ]
    )


def test_arrays_of_objects_of_resegmentation():
    rows = np.empty(2, object)
    rows[:] = [np.array([1, 2]), [(3, 4, 5), (6, 7, 8)]]
    found = load_objects(pickle.dumps(rows, 4), (2,), [])
    assert found[0].tolist() == [1, 2]
    assert found[1] == [(3, 4, 5), (6, 7, 8)]


def test_fortran_order_and_arrays_can_be_written_to():
    array = np.asfortranarray(np.arange(6, dtype=np.uint16).reshape(2, 3))
    found = load({1: array})[1]
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    found[0, 0] = 9


def test_an_origin_of_python_2_that_repeats_its_fields():
    pairs = [[name, value] for name, value in ORIGIN._asdict().items()]
    for state in (OrderedDict(pairs), Reduced(OrderedDict, (pairs,))):
        assert load({4: Reduced(OriginInfo, tuple(ORIGIN), state)}, 2) == {4: ORIGIN}


def refusal(data, shape=()):
    with pytest.raises(NotPlainError) as caught:
        load_objects(data, shape, [OriginInfo])
    return str(caught.value)


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_nothing_is_called(protocol):
    for value in (Flag(), {1: Flag()}, [Flag()]):
        data = pickle.dumps(boxed(value), protocol)
        assert refusal(data).startswith('it names ')
    assert not Flag.was_set


def test_nothing_gets_attributes():
    before = dict(vars(OriginInfo))
    slots = Reduced(OriginInfo, tuple(ORIGIN), (None, {'start_zyx': 0}))
    assert refusal(pickle.dumps(boxed({1: slots}), 4)) == 'it sets attributes of something'
    # The class itself, and an array a second time.
    named = b'cffn.inference.storage\nOriginInfo\n}(V_fields\nI0\nub.'
    assert refusal(named) == 'it sets attributes of something'
    array = b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR'
    state = b"(I1\n(I1\ntcnumpy\ndtype\n(Vu1\nI0\nI1\ntRI00\nS'a'\ntb"
    assert refusal(array + state + state + b'.') == 'it changes an array'
    assert dict(vars(OriginInfo)) == before
    assert load({1: ORIGIN}) == {1: ORIGIN}


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ({'1': 2}, 'a dict that is not by id'),
        ({(1, 2): 3}, 'a dict that is not by id'),
        ({1: {1: {1: {1: {1: {1: 2}}}}}}, 'nested more deeply'),
        ({1: {2}}, 'has operation'),
        ({1: frozenset()}, 'has operation'),
        ({1: bytearray(3)}, 'it names builtins.bytearray'),
        ({1: 1j}, 'it names builtins.complex'),
        ({1: slice(2)}, 'it names builtins.slice'),
        ({1: np.array([3, None])}, 'array of objects'),
        ({1: np.zeros(2, 'u1,f4')}, 'array of'),
        ({1: np.datetime64('2020-01-01')}, 'something else than numbers or texts'),
        ({1: OriginInfo(Reduced(OriginInfo, tuple(ORIGIN)), 'x', 3)}, 'not of numbers'),
        ({1: OriginInfo('here', 1, 2)}, 'not of numbers'),
        ({1: Reduced(OriginInfo, (1,))}, 'other arguments'),
        ({1: Reduced(np.ndarray, ((2,),))}, 'other arguments'),
        ({1: Reduced(np.dtype, ('O',))}, 'it holds a name'),
        ({1: np.ndarray}, 'it holds a name'),
        ({1: OriginInfo}, 'it holds a name'),
    ],
)
def test_what_results_do_not_hold(value, words):
    assert words in refusal(pickle.dumps(boxed(value), 4))


def array_of(shape, dtype, data):
    """An array's pickle, whose shape and data need not agree."""
    made = Reduced(np.ndarray(0).__reduce__()[0], (np.ndarray, (0,), b'b'))
    made.reduced += ((1, shape, np.dtype(dtype), False, data),)
    return pickle.dumps(boxed({1: made}), 4)


@pytest.mark.parametrize(
    ('shape', 'dtype', 'data'),
    [
        ((10**6, 10**6), 'u1', b'abc'),
        ((-2, -3), 'u1', b'abcdef'),
        ((3,), 'u1', b'abcd'),
        ((1,), 'S3000', b'abc'),
        ((1,), 'u1', [1]),
        ((True,), 'u1', b'a'),
        ([1], 'u1', b'a'),
        ((1,) * 33, 'u1', b'a'),
        ((1,), 'O', [1]),
    ],
)
def test_arrays_are_of_the_size_of_their_data(shape, dtype, data):
    refusal(array_of(shape, dtype, data))
    assert load_objects(array_of((3,), 'u1', b'abc'), (), []).item()[1].tolist() == [97, 98, 99]


def test_lists_of_lists_of_lists_take_no_time():
    """Each level names the one below many times: looked at one by one, they would be 10^9."""
    level = [1, 2]
    for _ in range(3):
        level = [level] * 1000
    found = load({1: level})[1]
    assert found[999][999][999] == [1, 2]
    assert found[0] is found[1]
    # A tuple of twice the one before, 60 times: its hash would be that of 2^60 items.
    deep = b')' + b'q\x00h\x00\x86' * 60
    assert 'not by id' in refusal(b'}' + deep + b'K\x01s.')
    around = []
    around.append(around)
    assert 'nested more deeply' in refusal(pickle.dumps(boxed({1: around}), 4))


@settings(max_examples=150)
@given(st.data())
def test_a_changed_pickle_gives_plain_data_or_one_of_two_errors(data):
    whole = bytearray(pickle.dumps(boxed(data.draw(st.sampled_from(RESULTS))), 2))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.just(len(whole)) | st.integers(0, len(whole)))
    try:
        found = load_objects(bytes(whole[:length]), (), [OriginInfo]).item()
    except (NotPlainError, ValueError):
        return
    pickle.dumps(found)


# Headers.


def write(path, **members):
    """Writes an npz of raw members."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(f'{name}.npy', member)


def npy(shape, dtype, data=b'', fortran=False):
    """An npy file whose header need not agree with its data."""
    file = io.BytesIO()
    descr = npy_format.dtype_to_descr(np.dtype(dtype))
    npy_format.write_array_header_1_0(
        file, {'descr': descr, 'fortran_order': fortran, 'shape': shape}
    )
    return file.getvalue() + data


@pytest.mark.parametrize(
    ('member', 'words'),
    [
        (npy((10**5, 10**5, 10**5), 'u8'), 'declares uint64 of shape (100000, 100000, 100000)'),
        (npy((2, 3), 'u1', b'abc'), 'but has 3 bytes'),
        (npy((2, 3), 'u1', b'abcdefg'), 'but has 7 bytes'),
        (npy((-2, -3), 'u1', b'abcdef'), 'declares uint8 of shape (-2, -3)'),
        (npy((2,), 'u1,u1', b'abcd'), 'expected numbers or texts'),
        (npy((1,), 'M8[s]', bytes(8)), 'expected numbers or texts'),
    ],
)
def test_what_a_header_declares_is_there(tmp_path, member, words):
    path = tmp_path / 'a.npz'
    write(path, segmentation=npy((1,), 'u1', b'a'), other=member)
    assert read_npz(path, ['segmentation'], [])['segmentation'].tolist() == [97]
    with pytest.raises(UserError) as caught:
        read_npz(path, ['segmentation', 'other'], [])
    assert str(caught.value).startswith(f'{path} is not a whole npz file (')
    assert words in str(caught.value)


def test_a_volume_bounds_what_a_file_may_declare(tmp_path):
    path = tmp_path / 'a.npz'
    # 40 MB that compress to 40 kB.
    write(path, segmentation=npy((40, 1000, 1000), 'u1', bytes(40_000_000)))
    with pytest.raises(UserError) as caught:
        read_npz(path, ['segmentation'], [], (10, 20, 30))
    assert str(caught.value) == (
        f'{path} is refused: it declares 40,000,128 bytes, more than belongs to a volume of shape '
        '(10, 20, 30)'
    )
    with pytest.raises(UserError, match='belongs to a volume of shape'):
        read_npz(path, ['segmentation'], [], ())
    assert read_npz(path, ['segmentation'], [], (40, 1000, 1000))['segmentation'].shape[0] == 40


def test_without_a_volume_memory_is_the_bound(tmp_path, monkeypatch):
    path = tmp_path / 'a.npz'
    np.savez_compressed(path, segmentation=np.zeros((30, 40, 50)))
    monkeypatch.setattr('ffn.utils.npz.memory', lambda: 480_000)
    with pytest.raises(UserError, match='declares 480,128 bytes, more than the memory'):
        read_npz(path, ['segmentation'], [])
    monkeypatch.undo()
    assert read_npz(path, ['segmentation'], [])['segmentation'].shape == (30, 40, 50)


@pytest.mark.parametrize(
    'array',
    [
        np.zeros((3, 0, 2), np.int16),
        np.array(7.5),
        np.asfortranarray(np.arange(24, dtype='>i4').reshape(2, 3, 4)),
        np.array([True, False]),
        np.array('text'),
        np.array(b'bytes\x00\x01'),
        np.void(b'ab\x00'),
        np.array(['é', 'abc']),
    ],
)
@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_every_kind_of_member(tmp_path, array, save):
    path = tmp_path / 'a.npz'
    save(path, member=array)
    read = read_npz(path, ['member', 'absent'], [])
    assert list(read) == ['member']
    np.testing.assert_array_equal(read['member'], array)
    assert read['member'].dtype == array.dtype.newbyteorder('=')
    assert read['member'].shape == array.shape


def test_large_members_are_read_in_parts(tmp_path, monkeypatch):
    path = tmp_path / 'a.npz'
    array = np.random.default_rng(1).integers(0, 255, (7, 11, 13), np.uint8)
    np.savez_compressed(path, member=array)
    monkeypatch.setattr('ffn.utils.npz._CHUNK', 10)
    np.testing.assert_array_equal(read_npz(path, ['member'], [])['member'], array)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match='not a whole npz file'):
        read_npz(path, ['member'], [])


def test_an_archive_that_says_it_is_empty(tmp_path):
    """As zeros over the end of its directory make it: all members would seem to be absent."""
    path = tmp_path / 'a.npz'
    np.savez(path, a=np.arange(3))
    data = path.read_bytes()
    path.write_bytes(data[:-14] + bytes(8) + data[-6:])
    with pytest.raises(UserError, match='not a whole npz file'):
        read_npz(path, ['a'], [])
