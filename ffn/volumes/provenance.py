"""What a result was made with: is it complete, and was it made with these settings?

Three records answer this, so that results of different settings never mix:

- A *claim*, `manifest.json` in a folder, holds the configuration of everything in the folder. A command
  claims its folder before it writes; one with other settings is refused.
- A *stamp* is a line of text in a written volume that says what the volume was made from, and whether it is
  complete: `ffn.json` in the folder of a Zarr, N5 or precomputed volume (`ffn.volumes.stamps`), an attribute of an HDF5
  dataset. HDF5 datasets that are made of nothing of ours, such as imports, have the digest of their content instead.
- *Digests* identify configurations, weights and the labels of a subvolume.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ffn.utils.atomic import write_json
from ffn.utils.checksums import digest, sealed, unsealed
from ffn.utils.errors import UnreadableError, UserError, reason
from ffn.utils.npz import DAMAGES
from ffn.utils.texts import parse_object, told_apart
from ffn.volumes.hdf5 import open_hdf5
from ffn.volumes.hdf5_links import find_dataset
from ffn.volumes.missing import OnMissing
from ffn.volumes.opened_array import CONTENT, MADE_FROM, MADE_FROM_FILE
from ffn.volumes.servers import check_answered, context
from ffn.volumes.specs import split_channel, split_spec
from ffn.volumes.stamps import parse_stamp
from ffn.volumes.tensorstores import find_store, parse_spec, recognizes
from ffn.volumes.volume import Volume, VolumeSource, open_volume

MANIFEST = 'manifest.json'
SEGMENT_AGAIN = 'remove it and run again to segment it again'

# Endings of files beside a checkpoint of TensorFlow that are none of its weights, though they have its name.
_BESIDE = '.meta', '.json', '.h5'
# What stands in for a value that a configuration lacks: null may mean something else, as it does to PolicyMaxPeaks.
_NOT_SET = object()


# Digests.


def model_digest(path: str) -> str:
    """SHA-256 of the files of a checkpoint; ranges for int8, and weights in other formats, that lie beside them do not count.

    Args:
      path: the checkpoint's prefix, or its only file.

    Raises:
      UserError: there is none.
    """
    hashed, found = hashlib.sha256(), False
    place = Path(path)
    files = [place] if place.is_file() else sorted(place.parent.glob(f'{place.name}.*'))
    for file in files:
        if file == place or file.suffix not in _BESIDE:
            hashed.update(file.read_bytes())
            found = True
    if not found:
        raise UserError(f'no checkpoint at {path}')
    return hashed.hexdigest()


def checksums(path: str | Path) -> tuple[int, int]:
    """CRC-32 of the labels and of the request in a result of inference; see `member_crcs`."""
    found = member_crcs(path)
    return found['segmentation'], found.get('request', 0)


def member_crcs(path: str | Path) -> dict[str, int]:
    """CRC-32 of the members of a result, by name, as its archive lists them.

    Args:
      path: npz file; its members are not read.

    Raises:
      UserError: no such file, one that is damaged, or one without labels.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = {one.filename.removesuffix('.npy'): one.CRC for one in archive.infolist()}
        if 'segmentation' not in found:
            raise KeyError('segmentation.npy')
        return found
    except DAMAGES as error:
        raise UserError(f'{path} is damaged ({error}); {SEGMENT_AGAIN}') from error


# Claims.


def claim(
    folder: str | Path,
    configuration: Mapping[str, Any],
    name: str = MANIFEST,
    advice: str = 'give another folder, or the same settings',
    compared_by: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> None:
    """Records the configuration that a folder's contents are made with, or checks it against the record.

    Args:
      folder: created if it is missing.
      configuration: what JSON can hold.
      name: file name of the record.
      advice: what to do if the folder belongs to another configuration.
      compared_by: makes of a configuration what another one must have as well.

    Raises:
      UserError: the folder belongs to another configuration; names what differs.
    """
    path = Path(folder, name)
    given = json.loads(json.dumps(configuration))
    if path.exists():
        first, second = compared_by(read_claim(path)), compared_by(given)
        if changes := differences(first, second):
            raise UserError(f'{folder} holds results of other settings: {changes}; {advice}')
        return
    write_claim(path, configuration)


def write_claim(path: str | Path, configuration: Mapping[str, Any]) -> None:
    """Writes a record of a configuration, in place of one that is there; see `claim`."""
    given = json.loads(json.dumps(configuration))
    write_json(path, {'sha256': digest(given), 'configuration': given})


def read_claim(path: str | Path) -> dict[str, Any]:
    """Reads the configuration in a record that `claim` wrote.

    Raises:
      UserError: there is none, or it was edited or damaged.
    """
    advice = 'remove it, and run again with the settings that its folder was made with'
    try:
        stored = json.loads(Path(path).read_bytes())
        configuration: dict[str, Any] = stored['configuration']
        if stored['sha256'] == digest(configuration):
            return configuration
    except OSError as error:
        raise UserError(f'{path} is no manifest: {reason(error)}') from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f'{path} is no manifest: {reason(error)}; {advice}') from error
    raise UserError(f'{path} was changed by hand, or is damaged: its sha256 does not fit; {advice}')


def differences(stored: Any, given: Any, at_most: int = 3) -> str:
    """Names what differs between two configurations, in one line; '' if nothing does."""
    found = list(_differing(stored, given))
    shown = [
        '{} is {} there and {} here'.format(name, *told_apart(_shown(there), _shown(here), 100))
        for name, there, here in found[:at_most]
    ]
    more = [f'{len(found) - at_most} more'] if len(found) > at_most else []
    return ' '.join(', '.join(shown + more).split())


def _differing(there: Any, here: Any, name: str = '') -> Iterator[tuple[str, Any, Any]]:
    """The values that differ in nested dicts, under their dotted names."""
    parts = [{} if value is _NOT_SET else value for value in (there, here)]
    if all(isinstance(part, dict) for part in parts) and any(parts):
        for key in {**parts[0], **parts[1]}:
            first, second = (part.get(key, _NOT_SET) for part in parts)
            yield from _differing(first, second, f'{name}.{key}' if name else key)
    elif _as_json(there) != _as_json(here):
        yield name, there, here


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if value is _NOT_SET:
        return 'not set'
    return 'null' if value is None else str(_as_json(value)) or 'empty'


# Stamps.


def read_stamp(spec: str) -> str:
    """Reads the stamp of a volume.

    Args:
      spec: 'path:dataset' or a URL, see `ffn.volumes.specs`.

    Returns:
      The stamp; '' if the volume was written by another program, or there is none.
    """
    return str(_read_stamp_of(spec).get('made_from', ''))


def read_input_stamp(source: str | VolumeSource) -> str:
    """Reads the stamp of a volume that something is to be made from.

    Args:
      source: a string as `read_stamp` takes it, or a volume of a request.

    Returns:
      The stamp, or the digest of its content; '' if the volume was written by another program.

    Raises:
      UserError: the volume is incomplete: writing started but did not finish.
    """
    name, place = name_and_place(source)
    found = _read_stamp_of(place)
    if not found.get('complete', True):
        raise UserError(f'{name} is not complete; run the command that writes it to its end')
    return str(found.get('made_from') or found.get('content', ''))


def open_complete(source: str | VolumeSource, missing: OnMissing = 'tell') -> Volume:
    """Opens a volume that something is to be made from.

    Args:
      source: a string as `open_volume` takes it, or a volume of a request.
      missing: what is done about chunks that do not exist; a volume of a request says so itself.

    Raises:
      UserError: as `read_input_stamp`, or as `open_volume`.
    """
    read_input_stamp(source)
    return open_volume(source, missing) if isinstance(source, str) else source.open()


def check_made_from(path: str | Path, theirs: str, ours: str, advice: str) -> None:
    """Refuses a table about the segments of another segmentation.

    Args:
      path: of the table.
      theirs: stamp of the segmentation that it is about; '' where that is unknown.
      ours: stamp of the segmentation that it is to be used with; '' likewise.
      advice: what to do.

    Raises:
      UserError: both are known and differ.
    """
    if theirs and ours and theirs != ours:
        first, second = told_apart(theirs, ours)
        raise UserError(
            f'{path} is about another segmentation (made from {first}, and not from {second}); its ids mean nothing '
            f'there; {advice}'
        )


def name_and_place(source: str | VolumeSource) -> tuple[str, str | dict[str, Any]]:
    """What messages call a volume, and where it is: as a string, or a TensorStore spec."""
    if isinstance(source, str):
        return source, source
    if source.tensorstore:
        return source.tensorstore, parse_spec(source.tensorstore, 'tensorstore')
    return source.spec, source.spec


def write_stamp(
    spec: str | dict[str, Any],
    stamp: str,
    complete: bool,
    anew: bool = False,
    sparse: bool | None = None,
) -> None:
    """Writes the stamp of a volume that is a folder; one that is there already is not rewritten.

    Args:
      spec: URL, or a TensorStore spec; the volume need not exist yet.
      stamp: what the volume is made from; '' says only whether it is complete.
      complete: whether all of the volume has been written.
      anew: it is written once more, and so not complete, even if it was.
      sparse: see `ffn.volumes.stamps.is_sparse`; None: not said.

    Raises:
      UserError: it cannot be written there.
    """
    content: dict[str, Any] = {'made_from': stamp, 'complete': complete}
    if sparse is not None:
        content['sparse'] = sparse
    there = _read_stamp_of(spec)
    was_finished = there == {**content, 'complete': True}
    if there == content or (was_finished and not complete and not anew):
        return
    try:
        place = find_store(spec) if isinstance(spec, str) else spec
        store = open_folder(place['kvstore'])
        store.write(MADE_FROM_FILE, json.dumps(sealed(content)).encode()).result()
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f'{spec} cannot be made: {str(error).splitlines()[0]}') from error


def record_output(record: Path, spec: str, stamp: str) -> None:
    """Notes that a run writes a volume with this stamp, so that it recognizes the volume as its own.

    Args:
      record: JSON file of the run.
      spec: the volume.
      stamp: what it is made from.
    """
    known = _read_outputs(record)
    if stamp not in known.setdefault(spec, []):
        known[spec].append(stamp)
        write_json(record, sealed(known))


def recorded_stamps(record: Path, spec: str) -> list[str]:
    """The stamps that a run has given to a volume; see `record_output`."""
    return _read_outputs(record).get(spec, [])


def recorded_outputs(record: Path) -> list[str]:
    """The volumes that a run has begun to write; see `record_output`."""
    return list(_read_outputs(record))


def _read_outputs(record: Path) -> dict[str, list[str]]:
    """Volumes and the stamps that they were given."""
    if not record.exists():
        return {}
    advice = 'remove it and the output volumes of this folder, and run again'
    known = unsealed(record.read_bytes(), record, advice)
    for stamps in known.values():
        if not isinstance(stamps, list) or not all(isinstance(one, str) for one in stamps):
            raise UserError(f'{record} is damaged: it names the stamps {stamps!r}; {advice}')
    return known


def _read_stamp_of(spec: str | dict[str, Any]) -> dict[str, Any]:
    """Reads `made_from` and `complete` of a volume; nothing if it has no stamp, or there is none.

    Raises:
      UserError: the stamp is damaged, or a server does not say whether there is one.
    """
    name = spec if isinstance(spec, str) else str(spec.get('kvstore'))
    try:
        if isinstance(spec, str):
            spec, _ = split_channel(spec)
            if not recognizes(spec):
                path, dataset = split_spec(spec)
                with open_hdf5(path) as file:
                    found = find_dataset(file, dataset)
                    stamps = {} if found is None else found.attrs
                    names = {'made_from': MADE_FROM, 'content': CONTENT}
                    return {key: stamps[name] for key, name in names.items() if name in stamps}
            spec = find_store(spec)
        folder = open_folder(spec['kvstore'])
        found = folder.read(MADE_FROM_FILE).result()
    except UnreadableError:
        raise
    except (ValueError, OSError, KeyError, RuntimeError) as error:  # also what is not implemented
        check_answered(error, name)
        return {}
    is_web = folder.spec().to_json()['driver'] == 'http'
    if found.state != 'value' or (is_web and _is_page(found.value)):
        return {}
    return parse_stamp(found.value, name)


def _is_page(data: bytes) -> bool:
    """Whether this is no JSON object, but what some web servers answer where a file is missing."""
    try:
        parse_object(data, MADE_FROM_FILE)
    except UserError:
        return True
    return False


def open_folder(place: str | dict[str, Any]) -> Any:
    """Opens a TensorStore key-value store whose keys are the files of a folder."""
    import tensorstore as ts

    if isinstance(place, dict):
        path = place.get('path', '').rstrip('/')
        place = {**place, 'path': path and f'{path}/'}
    else:
        place = place.rstrip('/') + '/'
    return ts.KvStore.open(place, context=context()).result()
