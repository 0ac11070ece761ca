"""Loaders of what inference, assembly and agglomeration write."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ffn.agglomeration.candidates import Candidate, read_candidates, write_candidates
from ffn.agglomeration.evidence import load_result
from ffn.assembly.overlaps import Overlap
from ffn.assembly.reconcile import Tables
from ffn.assembly.subvolumes import Subvolumes
from ffn.assembly.tiling import Tiling
from ffn.evaluation.trials import Result, read_result, write_result
from ffn.inference import inference_pb2, storage
from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.checkpoint import Checkpointer, restore_checkpoint
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.steering import SteeredCanvas
from ffn.inference.histogram import load_reference
from ffn.inference.seeds.registry import make_policy
from ffn.inference.storage import OriginInfo
from ffn.proofreading.seeding.accepted import AcceptedObjects
from ffn.utils import checksums
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.npz import bytes_member
from ffn.volumes import provenance
from tests.fuzz.case import Loader
from tests.fuzz.mutations import (
    Rng,
    damage_file,
    edit_csv_file,
    edit_json_file,
    edit_json_member,
    edit_npy_file,
    edit_npz_file,
    edit_text_file,
)
from tests.inference.oracle import OPTIONS, OracleNetwork, model_info, oracle_canvas, two_blocks

_CORNER, _SHAPE = (3, 2, 1), (5, 6, 7)
_TILING = Tiling(Box(Xyz(1, 2, 3), Xyz(7, 6, 5)), Xyz(7, 6, 5), Xyz(0, 0, 0))


def _labels() -> np.ndarray:
    labels = np.zeros(_SHAPE, np.uint16)
    labels[1:3, 1:4, 1:6], labels[3:, 2:5, :3] = 1, 300
    return labels


def _write_segmentation(folder: Path) -> None:
    origins = {1: OriginInfo((1, 2, 3), 17, 0.5), 300: OriginInfo((4, 3, 1), 5, 0.25)}
    request = inference_pb2.InferenceRequest(image_mean=128, image_stddev=33)
    request.voxel_size.x = request.voxel_size.y = request.voxel_size.z = 8
    overlaps = {300: np.array([[1, 2], [3, 4]], np.int64)}
    labels, qprob = _labels(), np.full(_SHAPE, 200, np.uint8)
    qprob[2] = 20
    data = request.SerializeToString(), {'predict-calls': 22}, overlaps
    storage.save_result(folder, _CORNER, labels, origins, *data, qprob)


def _read_segmentation(folder: Path) -> Any:
    return storage.load_segmentation(folder, _CORNER)


def _read_confident(folder: Path) -> Any:
    return storage.load_segmentation(folder, _CORNER, threshold=0.5)


def _good_segmentation(value: Any) -> bool:
    labels, origins = value
    return labels.ndim == 3 and all(
        isinstance(i, int) and len(o.start_zyx) == 3 and isinstance(o.iters, int)
        for i, o in origins.items()
    )


def _read_subvolume(folder: Path) -> Any:
    subvolumes, place = Subvolumes(folder, _TILING), Xyz(0, 0, 0)
    crcs, made_with = subvolumes.crcs(place), subvolumes.made_with(place)
    return subvolumes.read(place), crcs, made_with


def _write_overlap(folder: Path) -> None:
    shared = {0: np.array([[1, 2, 30], [2, 0, 5]], np.uint64)}
    same = {1: np.array([[2, 1]], np.uint64)}
    crcs = np.array([5, 6, 7, 8, 9], np.uint32)
    ids, voxels = np.array([1, 2], np.uint64), np.array([40, 50], np.int64)
    Overlap(ids, voxels, shared, same, crcs).save(folder / 'overlap-1_2_3.npz')


def _good_overlap(value: Overlap) -> bool:
    tables = [value.ids, value.voxels, value.crcs, *value.shared.values(), *value.same.values()]
    return (
        all(isinstance(t, np.ndarray) and t.dtype.kind in 'iu' for t in tables)
        and value.ids.shape == value.voxels.shape
        and value.crcs.shape == (5,)
        and all(t.ndim == 2 and t.shape[1] == 3 for t in value.shared.values())
        and all(t.ndim == 2 and t.shape[1] == 2 for t in value.same.values())
    )


def _new_canvas() -> Canvas:
    canvas = oracle_canvas(two_blocks((9, 11, 14)), min_segment_size=20, keep_history=True)
    canvas.seed_policy = make_policy(canvas.view, 'PolicyGrid3d', {'step': 5})
    return canvas


def _write_cpoint(folder: Path) -> None:
    canvas, stop = _new_canvas(), threading.Event()
    save, left = Checkpointer(folder / 'seg-1_2_3.cpoint', 0, stop, b'settings'), [4]

    def pause(canvas: Canvas) -> None:
        left[0] -= 1
        if not left[0]:
            stop.set()
        save(canvas)

    canvas.observers.append(pause)
    try:
        canvas.segment_all(lambda view: canvas.seed_policy)
    except Interrupted:
        return
    raise RuntimeError('the canvas was finished before it was saved')


def _read_cpoint(folder: Path) -> Any:
    canvas = _new_canvas()
    restore_checkpoint(canvas, folder / 'seg-1_2_3.cpoint', b'settings')
    canvas.segment_all(lambda view: canvas.seed_policy)
    return canvas.segmentation, sorted(canvas.origins), canvas.history


def _steered_canvas() -> SteeredCanvas:
    labels = two_blocks((9, 11, 14)).astype(np.float32)
    return SteeredCanvas(model_info(), OracleNetwork(), labels, CanvasOptions(**OPTIONS))


def _write_object(folder: Path) -> None:
    canvas = _steered_canvas()
    with canvas.lock:
        canvas.begin((4, 5, 5))
        canvas.go_on(lambda: None)
        AcceptedObjects(folder, canvas, b'').save(canvas, canvas.keep())


def _read_object(folder: Path) -> Any:
    canvas = _steered_canvas()
    AcceptedObjects(folder, canvas, b'').restore(canvas)
    if not canvas.origins:
        raise UserError(f'{folder}: its object was removed')
    return canvas.segmentation, canvas.seg_prob, canvas.origins, canvas.overlaps


def _good_object(value: Any) -> bool:
    _, _, origins, overlaps = value
    return all(0 <= n < 14 for n in origins[1].start_zyx) and overlaps[1].shape[0] == 2


def _object_array(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def _write_resegmentation(folder: Path) -> None:
    request = inference_pb2.ResegmentationRequest()
    request.points.add(id_a=1, id_b=2, point=Xyz(3, 4, 5).to_proto())
    storage.save_npz(
        folder / '1-2_at_3_4_5.npz',
        probs=np.full((2, 4, 5, 6), 9, np.uint8),
        deletes=_object_array(np.arange(3), np.arange(2)),
        histories=_object_array(np.zeros((3, 3), np.int32), np.ones((2, 3), np.int32)),
        start_points=_object_array([(1, 2, 3)], [(3, 2, 1), (0, 1, 2)]),
        recovered=np.array([True, False]),
        request=bytes_member(request.SerializeToString()),
        counters=json.dumps({'recovered': 1}).encode(),
        corner_zyx=np.array([5, 4, 3]),
    )


def _read_resegmentation(folder: Path) -> Any:
    data, request = load_result(folder / '1-2_at_3_4_5.npz')
    return data, request.SerializeToString()


def _write_histogram(folder: Path) -> None:
    np.savez(folder / 'histogram.npz', histogram=np.arange(256) % 7)


def _write_tables(folder: Path) -> None:
    np.array([0, 2, 5], np.int64).tofile(folder / 'offsets.bin')
    np.array([1, 2, 1, 2, 3], np.uint64).tofile(folder / 'ids.bin')
    np.array([1, 2, 2, 3, 1], np.int64).tofile(folder / 'objects.bin')
    np.array([0, 9, 8, 7], np.int64).tofile(folder / 'sizes.bin')
    np.array([11, 12], np.uint32).tofile(folder / 'crcs.bin')

    for path in folder.glob('*.bin'):
        checksums.record(path)


def _edit_table(path: Path, rng: Rng) -> None:
    """Another table, of an earlier version, which has no checksums."""
    path.with_name(f'{path.name}.crc').unlink()
    damage_file(path, rng)


def _read_tables(folder: Path) -> Any:
    tables = Tables(folder)
    found = [[np.array(part) for part in tables.look_up(i)] for i in range(2)]
    return found, np.array(tables.sizes), np.array(tables.crcs[:])


def _write_npy(folder: Path) -> None:
    table = np.array([[1, 1], [5, 1], [2**63, 9]], np.uint64)
    checksums.write_checked_npy(folder / 'equivalences.npy', table)


def _edit_npy(path: Path, rng: Rng) -> None:
    """Another table, of an earlier version, which has no checksums."""
    path.with_name(f'{path.name}.crc').unlink()
    edit_npy_file(path, rng)


def _write_candidates(folder: Path) -> None:
    point = Xyz(4, 5, 6)
    pairs = [Candidate(1, 2**63, 2.5, point), Candidate(7, 9, 0.25, point)]
    write_candidates(folder / 'candidates.csv', pairs)


def _good_candidates(found: list[Candidate]) -> bool:
    return all(0 <= c.id_a < 2**64 and 0 <= c.id_b < 2**64 and len(c.point) == 3 for c in found)


def _write_trial(folder: Path) -> None:
    write_result(folder / 'trial.json', Result('model.ckpt-1', 'as given', {'voi': 0.5}))


def _read_trial(folder: Path) -> Result:
    found = read_result(folder / 'trial.json')
    if found is None:
        raise UserError(f'{folder}: it is damaged, and made anew')
    return found


def _good_trial(value: Result) -> bool:
    return isinstance(value.rank('voi'), int | float)


def _write_claim(folder: Path) -> None:
    provenance.claim(folder, {'request': {'image': 'x'}, 'sizes': [1, 2, 3]})


def _read_claim(folder: Path) -> Any:
    return provenance.read_claim(folder / provenance.MANIFEST)


def _write_outputs(folder: Path) -> None:
    provenance.record_output(folder / 'joined_volume.json', 'zarr://x', 'stamp')


def _read_outputs(folder: Path) -> Any:
    return provenance.recorded_stamps(folder / 'joined_volume.json', 'zarr://x')


_JSON = {'state.npy': edit_json_member}
LOADERS = (
    Loader(
        'segmentation (npz)',
        _write_segmentation,
        _read_segmentation,
        ('*/*/*.npz',),
        (('*/*/*.npz', edit_npz_file),),
        True,
        _good_segmentation,
    ),
    Loader(
        'probabilities (prob)',
        _write_segmentation,
        _read_confident,
        ('*/*/*.prob',),
        (('*/*/*.prob', edit_npz_file),),
        True,
        _good_segmentation,
    ),
    Loader(
        'subvolume of an assembly',
        _write_segmentation,
        _read_subvolume,
        ('*/*/*.npz',),
        (('*/*/*.npz', edit_npz_file),),
        True,
        lambda value: value[0].shape == _SHAPE and value[0].dtype.kind in 'iu',
    ),
    Loader(
        'overlaps of an assembly',
        _write_overlap,
        lambda folder: Overlap.load(folder / 'overlap-1_2_3.npz'),
        ('*.npz',),
        (('*.npz', edit_npz_file),),
        True,
        _good_overlap,
    ),
    Loader(
        'tables of an assembly',
        _write_tables,
        _read_tables,
        ('*.bin',),
        (('*.bin', _edit_table),),
        True,
    ),
    Loader(
        'table (npy)',
        _write_npy,
        lambda folder: checksums.read_checked_npy(folder / 'equivalences.npy', 'make it again'),
        ('*.npy',),
        (('*.npy', _edit_npy),),
        True,
    ),
    Loader(
        'checkpoint of a box (cpoint)',
        _write_cpoint,
        _read_cpoint,
        ('*.cpoint',),
        (('*.cpoint', lambda path, rng: edit_npz_file(path, rng, _JSON)),),
        True,
    ),
    Loader(
        'accepted object (npz)',
        _write_object,
        _read_object,
        ('*/*/*.objects/*.npz',),
        (('*/*/*.objects/*.npz', edit_npz_file),),
        True,
        _good_object,
    ),
    Loader(
        'resegmented pair (npz)',
        _write_resegmentation,
        _read_resegmentation,
        ('*.npz',),
        (('*.npz', edit_npz_file),),
        True,
    ),
    Loader(
        'histogram (npz)',
        _write_histogram,
        lambda folder: load_reference(str(folder / 'histogram.npz')),
        ('*.npz',),
        (('*.npz', edit_npz_file),),
        True,
        lambda cdf: bool(cdf.shape == (256,) and np.isfinite(cdf).all() and cdf[-1] == 1),
    ),
    Loader(
        'candidates (CSV)',
        _write_candidates,
        lambda folder: read_candidates(folder / 'candidates.csv'),
        ('*.csv',),
        (('*.csv', edit_csv_file), ('*.csv', edit_text_file)),
        check=_good_candidates,
    ),
    Loader(
        'trial of a selection (JSON)',
        _write_trial,
        _read_trial,
        ('*.json',),
        (('*.json', edit_json_file),),
        True,
        _good_trial,
    ),
    Loader(
        'manifest.json',
        _write_claim,
        _read_claim,
        ('*.json',),
        (('*.json', edit_json_file),),
        True,
    ),
    Loader(
        'record of outputs (JSON)',
        _write_outputs,
        _read_outputs,
        ('*.json',),
        (('*.json', edit_json_file),),
        check=lambda stamps: isinstance(stamps, list) and all(isinstance(s, str) for s in stamps),
    ),
)
