"""The edits of a proofreader, and how a line of a journal states each.

An edit names segments of the base volume, the segmentation as it was before any edit, and a voxel in each. Ids of
parts that were cut off a segment are made from the edit's own number, so that two people who cut at the same time do
not use the same id.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ffn.utils.geometry import Xyz

ANSWERS = ('right', 'wrong', 'skip')
MAX_TEXT, _MAX_MEMBERS = 10_000, 10_000_000
# Ids of cut parts begin here: above those of any segmentation that counts its objects, and within int64.
FIRST_PART = 1 << 62


@dataclass(frozen=True)
class Place:
    """A segment, and where it was pointed at.

    Attributes:
      id: segment of the base volume, or a part that was cut off one.
      point: a voxel in it.
    """

    id: int
    point: Xyz


@dataclass(frozen=True)
class Cut:
    """A part of a segment that becomes a segment of its own.

    Attributes:
      of: the segment.
      new: id of the part.
      mask: file name of the part's voxels; see `ffn.proofreading.editing.cut_masks`.
    """

    of: int
    new: int
    mask: str


@dataclass(frozen=True)
class Item:
    """A place in the queue.

    Attributes:
      kind: why it is there, see `ffn.proofreading.editing.queue`.
      ids: segments it is about, ascending.
      point: where to look.
    """

    kind: str
    ids: tuple[int, ...]
    point: Xyz

    @property
    def key(self) -> str:
        """Identifies the item, also in another queue of the same volume."""
        what = '-'.join(map(str, self.ids)) or '{},{},{}'.format(*self.point)
        return f'{self.kind}:{what}'


@dataclass(frozen=True)
class Merge:
    """Two segments are of one object."""

    kind: ClassVar[str] = 'merge'
    a: Place
    b: Place


@dataclass(frozen=True)
class Split:
    """An object becomes two.

    Attributes:
      points: voxels that were pointed at, on one side and on the other.
      parts: the segments on either side, after the cuts.
      cuts: segments that are themselves cut.
      method: how the parts were found.
    """

    kind: ClassVar[str] = 'split'
    points: tuple[tuple[Xyz, ...], tuple[Xyz, ...]]
    parts: tuple[tuple[int, ...], tuple[int, ...]]
    cuts: tuple[Cut, ...]
    method: str


@dataclass(frozen=True)
class Done:
    """The object of a segment is as it should be, all of it."""

    kind: ClassVar[str] = 'done'
    place: Place


@dataclass(frozen=True)
class Note:
    """A remark about a place, instead of an earlier one there; without text there is none any more."""

    kind: ClassVar[str] = 'note'
    place: Place
    text: str


@dataclass(frozen=True)
class Decision:
    """The answer about a place in the queue.

    Attributes:
      item: the place.
      answer: 'right', 'wrong' or 'skip'.
      seconds: from when it was shown.
      edit: number of the edit that put it right at once, '' if there is none.
    """

    kind: ClassVar[str] = 'decision'
    item: Item
    answer: str
    seconds: float
    edit: str = ''


@dataclass(frozen=True)
class Undo:
    """An earlier edit does not count; undoing the undo, it counts again.

    Attributes:
      of: number of the edit.
    """

    kind: ClassVar[str] = 'undo'
    of: str


What = Merge | Split | Done | Note | Decision | Undo
_KINDS: dict[str, type] = {one.kind: one for one in (Merge, Split, Done, Note, Decision, Undo)}


@dataclass(frozen=True)
class Edit:
    """A line of a journal.

    Attributes:
      number: 32 hexadecimal digits, which no other edit has.
      time: seconds since 1970.
      what: the edit.
      who: the proofreader, '' if not told.
    """

    number: str
    time: float
    what: What
    who: str = ''

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers, texts, lists and dicts."""
        head = {'number': self.number, 'time': self.time, 'kind': self.what.kind}
        head |= {'who': self.who} if self.who else {}
        return {**head, **dataclasses.asdict(self.what)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Edit:
        """Reads what `as_json` returned; every value is checked.

        Raises:
          ValueError: says what is wrong.
        """
        fields = dict(content)
        number, time, who = (
            fields.pop('number', None),
            fields.pop('time', None),
            fields.pop('who', ''),
        )
        kind = fields.pop('kind', None)
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f'its kind is {kind!r}; expected one of {", ".join(_KINDS)}')
        return cls(_number(number), _seconds(time), _READERS[kind](fields), _text(who))


def part_id(number: str, index: int) -> int:
    """The id of a part that an edit cuts off.

    Args:
      number: of the edit.
      index: which of its cuts.
    """
    hashed = hashlib.sha256(f'{number}/{index}'.encode()).digest()
    return FIRST_PART + int.from_bytes(hashed[:8], 'big') % FIRST_PART


def parts_of(edits: Iterable[Edit]) -> set[int]:
    """Ids of all parts that have been cut off, also by splits that were undone since."""
    splits = (edit.what for edit in edits if isinstance(edit.what, Split))
    return {cut.new for split in splits for cut in split.cuts}


# Readers: each takes a value of JSON, and returns it in its type or raises ValueError.

Reader = Callable[[Any], Any]


def _number(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 32 or set(value) - set('0123456789abcdef'):
        raise ValueError(f'{value!r:.60} is no number of an edit, 32 hexadecimal digits')
    return value


def _optional_number(value: Any) -> str:
    return '' if value == '' else _number(value)


def _seconds(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise ValueError(f'{value!r:.60} is no time in seconds')
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f'{value!r:.60} is no text of at most {MAX_TEXT} characters')
    return value


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**64 - 1:
        raise ValueError(f'{value!r:.60} is no id, from 1 to 2^64-2')
    return value


def _point(value: Any) -> Xyz:
    numbers = value if isinstance(value, list) and len(value) == 3 else [None]
    if not all(type(n) is int and abs(n) < 2**62 for n in numbers):
        raise ValueError(f'{value!r:.60} is no voxel [x, y, z]')
    return Xyz(*numbers)


def _file_name(value: Any) -> str:
    text = _text(value)
    if not text.removesuffix('.npz').isalnum() or not text.isascii():
        raise ValueError(f'{value!r:.60} is no file name of a mask')
    return text


def _answer(value: Any) -> str:
    if value not in ANSWERS:
        raise ValueError(f'its answer is {value!r:.60}; expected {", ".join(ANSWERS)}')
    return str(value)


def _several(reader: Reader, least: int = 0, most: int = _MAX_MEMBERS) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise ValueError(f'{value!r:.60} is no list of {least} or more')
        return tuple(map(reader, value))

    return read


def _record(cls: type, **readers: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, dict) or set(value) != set(readers):
            raise ValueError(f'{value!r:.60} does not have the keys {", ".join(readers)}')
        return cls(**{name: reader(value[name]) for name, reader in readers.items()})

    return read


def _both(reader: Reader) -> Reader:
    return _several(_several(reader, 1), 2, 2)


def _distinct(value: Any) -> tuple[tuple[int, ...], ...]:
    parts: tuple[tuple[int, ...], ...] = _both(_id)(value)
    if len({i for part in parts for i in part}) != sum(map(len, parts)):
        raise ValueError('a segment is in both parts, or twice in one')
    return parts


_place = _record(Place, id=_id, point=_point)
_cut = _record(Cut, of=_id, new=_id, mask=_file_name)
_item = _record(Item, kind=_text, ids=_several(_id), point=_point)
_READERS: dict[str, Reader] = {
    'merge': _record(Merge, a=_place, b=_place),
    'split': _record(
        Split, points=_both(_point), parts=_distinct, cuts=_several(_cut), method=_text
    ),
    'done': _record(Done, place=_place),
    'note': _record(Note, place=_place, text=_text),
    'decision': _record(
        Decision, item=_item, answer=_answer, seconds=_seconds, edit=_optional_number
    ),
    'undo': _record(Undo, of=_number),
}
