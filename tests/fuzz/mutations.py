"""What is done to files: damage to any bytes, and edits that keep a file well-formed and make it say other things.

All are functions of what is stored and a random generator, so that a case can be repeated by its number.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

Rng = np.random.Generator

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 5, 7, 255, 256, 2**31 - 1, 2**31, 2**40, 2**62, 2**63, 2**64, -(2**63)),
    *(10**30, 0.5, -0.5, 1e-320, 1e308, math.nan, math.inf, -math.inf),
)
VALUES: tuple[Any, ...] = (None, True, '', 'x', '5', 'µ\0', [], {}, [1], {'a': 1}, [[]], *NUMBERS)
_DTYPES = ('|b1', '|u1', '<i2', '>i4', '<u8', '<f2', '<f8', '<c16', '|S3', '<U4', '|V5', '<M8[s]')


def pick(rng: Rng, choices: Any) -> Any:
    """One of several things, of any type."""
    return choices[int(rng.integers(len(choices)))]


def damage(data: bytes, rng: Rng) -> bytes:
    """Bytes as a bad disk, a broken transfer or a full one leaves them."""
    size = len(data)
    if not size:
        return b'\0'
    at, length = int(rng.integers(size)), int(min(2 ** rng.integers(0, 10), size))
    block = slice(at, at + length)
    match int(rng.integers(12)):
        case 0 | 1 | 2:
            return data[:at]
        case 3 | 4 | 5 | 6:
            flipped = bytearray(data)
            for place in rng.integers(size, size=int(rng.integers(1, 4))):
                flipped[place] ^= 1 << int(rng.integers(8))
            return bytes(flipped)
        case 7:
            return data[:at] + bytes(len(data[block])) + data[at + length :]
        case 8:
            return data[:at] + rng.bytes(len(data[block])) + data[at + length :]
        case 9:
            return data[:at] + data[at + length :]
        case 10:
            return data[:at] + data[block] + data[at:]
        case _:
            return pick(rng, (b'', b'<html>404 Not Found</html>\n', bytes(size), data[::-1]))


def damage_file(path: Path, rng: Rng) -> None:
    """See `damage`."""
    path.write_bytes(damage(path.read_bytes(), rng))


# JSON and other text.


def edit_value(value: Any, rng: Rng) -> Any:
    """A value of another type, or of the same type and another size."""
    if isinstance(value, list) and value and rng.random() < 0.5:
        return pick(rng, (value[:-1], value + value[:1], value[::-1], [value], value * 3))
    if isinstance(value, str) and rng.random() < 0.5:
        return pick(rng, (value[:-1], value + 'x', value.upper(), value[::-1], f'{value}\n'))
    if isinstance(value, dict) and value and rng.random() < 0.5:
        return {f'{key}_': part for key, part in value.items()}
    return pick(rng, NUMBERS if isinstance(value, int | float) and rng.random() < 0.6 else VALUES)


def edit_json(content: Any, rng: Rng) -> Any:
    """Changes or removes one value at any depth of a structure of lists and dicts."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []

    def collect(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, part in items:
            places.append((node, key))
            if isinstance(part, dict | list):
                collect(part)

    if isinstance(content, dict | list):
        collect(content)
    if not places or rng.random() < 0.05:
        return edit_value(content, rng)
    node, key = pick(rng, places)
    if rng.random() < 0.15:
        del node[key]
    else:
        node[key] = edit_value(node[key], rng)
    return content


def edit_json_file(path: Path, rng: Rng) -> None:
    """See `edit_json`."""
    content = edit_json(json.loads(path.read_text()), rng)
    if isinstance(content, dict) and rng.random() < 0.7:
        content.pop('sha256', None)  # otherwise nothing but the checksum is looked at
    text = json.dumps(content)
    if rng.random() < 0.03:
        text = pick(rng, ('[' * 5000, '{"a": ' * 3000, text + text, '1' * 5000, '﻿' + text))
    path.write_text(text)


_FIELD = re.compile(r'-?\d[\w.+-]*|"[^"]*"|\w+')


def edit_text_file(path: Path, rng: Rng) -> None:
    """Replaces a word or a number, drops a line, or repeats one."""
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    match int(rng.integers(8)):
        case 0:
            del lines[int(rng.integers(len(lines)))]
        case 1:
            at = int(rng.integers(len(lines)))
            lines[at:at] = lines[at : at + 1]
        case 2:
            at = int(rng.integers(len(lines)))
            lines.append(lines.pop(at))
        case _:
            found = list(_FIELD.finditer(text))
            if found:
                one = pick(rng, found)
                value = pick(
                    rng, (*NUMBERS, '', 'x', '"x"', '{', '}', '0x10', '1_0', '٣', '"', '\0')
                )
                path.write_text(f'{text[: one.start()]}{value}{text[one.end() :]}')
                return
    path.write_text(''.join(lines))


def edit_csv_file(path: Path, rng: Rng) -> None:
    """Changes, adds or removes a field of a table."""
    with path.open(newline='') as file:
        rows = list(csv.reader(file))
    row = pick(rng, rows)
    at = int(rng.integers(len(row)))
    match int(rng.integers(4)):
        case 0:
            del row[at]
        case 1:
            row.insert(at, str(pick(rng, VALUES)))
        case _:
            row[at] = str(pick(rng, VALUES))
    path.with_name(f'{path.name}.crc').unlink(missing_ok=True)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_text(text.getvalue())


# NumPy's files.


def npy_bytes(shape: Any, fortran: Any, dtype: Any, data: bytes) -> bytes:
    """An npy file with any header."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}".encode()
    header += b' ' * (-(len(header) + 11) % 64) + b'\n'
    return npy_format.magic(1, 0) + len(header).to_bytes(2, 'little') + header + data


def edit_npy(data: bytes, rng: Rng) -> bytes:
    """Another type, shape or order in the header, or other data."""
    file = io.BytesIO(data)
    npy_format.read_magic(file)
    shape, fortran, dtype = npy_format.read_array_header_1_0(file)
    content, described = file.read(), npy_format.dtype_to_descr(dtype)
    match int(rng.integers(6)):
        case 0:
            described = pick(rng, _DTYPES)
        case 1:
            fortran = pick(rng, (not fortran, None, 'x'))
        case 2 if not dtype.hasobject:
            content = pick(
                rng, (content[: len(content) // 2], content * 2, b'', rng.bytes(len(content)))
            )
        case 3:
            shape = pick(rng, (shape[1:], (*shape, 1), (1, *shape), shape[::-1], (), (0,), 5, None))
        case _:
            sizes = [*shape] or [1]
            sizes[int(rng.integers(len(sizes)))] = pick(rng, NUMBERS)
            shape = tuple(sizes)
    return npy_bytes(shape, fortran, described, content)


def edit_npz_file(
    path: Path, rng: Rng, edits: dict[str, Callable[[bytes, Rng], bytes]] | None = None
) -> None:
    """Drops, exchanges, renames or edits members of an npz, whose checksums are made anew.

    Args:
      path: the npz.
      rng: chooses.
      edits: member → another way to edit it.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    one, other = pick(rng, names), pick(rng, names)
    match int(rng.integers(8)):
        case 0:
            del members[one]
        case 1:
            members[one], members[other] = members[other], members[one]
        case 2:
            members[one] = damage(members[one], rng)
        case 3 if edits:
            one = pick(rng, list(edits))
            if one in members:
                members[one] = edits[one](members[one], rng)
        case _:
            members[one] = edit_npy(members[one], rng)
    kind = pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
    with zipfile.ZipFile(path, 'w', kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def edit_npy_file(path: Path, rng: Rng) -> None:
    """See `edit_npy`."""
    path.write_bytes(edit_npy(path.read_bytes(), rng))


def edit_json_member(data: bytes, rng: Rng) -> bytes:
    """Edits an npy that holds JSON as bytes."""
    content = np.load(io.BytesIO(data)).item()
    file = io.BytesIO()
    np.save(file, np.void(json.dumps(edit_json(json.loads(content), rng)).encode()))
    return file.getvalue()
