"""A whole volume segmented: subvolume by subvolume, then one id space, one output.

    python -m ffn.assembly.segment_volume --inference_request REQUEST.pbtxt \
      --subvolume_size 544,544,544 --overlap 32,32,32 --output zarr://whole.zarr --scheduler local

segments the subvolumes as run_inference.py does, into the request's segmentation_output_dir, and puts
them together as ffn.assembly.assemble does. Killed at any time and started again, it goes on: what is
finished stays, begun subvolumes continue from their checkpoints, and results of other settings are
refused.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import logging

from ffn.assembly import assemble
from ffn.assembly.assemble import Assembly
from ffn.assembly.tiling import Places, Tiling
from ffn.cli.assembly_flags import (
    add_arguments,
    matching_of,
    output_of,
    tiling_of,
)
from ffn.distributed.pool import Pool, open_pool, run_stage
from ffn.inference import inference_pb2, request_identity, storage
from ffn.inference.request import absolute_paths, read_box, read_request, voxel_size_zyx
from ffn.inference.runner import Runner
from ffn.utils import protos
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Xyz
from ffn.utils.locks import exclusive_directory
from ffn.utils.startup import show_log, startup_messages_hidden
from ffn.volumes import provenance
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.volume import VolumeSource

if TYPE_CHECKING:
    from ffn.inference.worker_network import Networks


class Network(NamedTuple):
    """What a loaded network says of itself.

    Attributes:
      fov: field of view.
      deltas: a move.
      precision: what it computes in.
      volume: the image.
    """

    fov: Xyz
    deltas: Xyz
    precision: str
    volume: Box

    @classmethod
    def of(cls, runner: Runner) -> Network:
        """Asks a started runner."""
        info = runner.info
        return cls(info.input_image_size, info.deltas, runner.precision, runner.volume_box)


def ask_network(name: str) -> Network:
    """Asks the network of a name, of the worker that this is called in."""
    from ffn.inference.worker_network import worker_runner

    with worker_runner(name) as runner:
        return Network.of(runner)


class _Segmentation:
    """The first stage of a run: whatever says where, all subvolumes of its tiling are segmented."""

    def __init__(self, request: inference_pb2.InferenceRequest, args: argparse.Namespace):
        self._request, self._args = request, args
        self._folder = Path(request.segmentation_output_dir)

    def run(self, pool: Pool) -> Assembly:
        """Segments what is missing; returns what is to be put together."""
        request_identity.resolve(self._request, pool)
        assembly = self._segment(pool)
        (self._folder / storage.UNFINISHED).unlink(missing_ok=True)
        return assembly

    def _segment(self, pool: Pool) -> Assembly:
        if not pool.distributed:
            with startup_messages_hidden():
                from ffn.models import precision

                logging.info('the network runs on %s', precision.describe_device())
            with Runner() as runner:
                runner.start(self._request)
                assembly, places = self._prepare(Network.of(runner), pool)
                self._here(runner, assembly.tiling, places)
            return assembly
        from ffn.inference.worker_network import networks

        with networks(pool, self._request) as known:
            assembly, places = self._prepare(known.pool.call(ask_network, known.name), pool)
            self._distributed(known, assembly.tiling, places)
        return assembly

    def _prepare(self, network: Network, pool: Pool) -> tuple[Assembly, Places]:
        """Cuts the box and makes the folder that of this configuration."""
        request, args = self._request, self._args
        box = network.volume
        if args.bounding_box:
            asked = read_box(args.bounding_box)
            box = asked.intersection(network.volume)
            if box is None:
                raise UserError(f'--bounding_box {asked} lies outside the image, {network.volume}')
            if box != asked:
                logging.warning('box %s leaves the image; clipped to %s', asked, box)
        tiling = tiling_of(args, box)
        tiling.check_network(network.fov, network.deltas)
        self._warn_of_small_overlap(tiling, network)
        masks = _masks(request, args.mask)
        z, y, x = voxel_size_zyx(request)
        assembly = Assembly(
            self._folder, tiling, masks, matching_of(args), output_of(args, tiling, (x, y, z)),
            Path(os.path.abspath(args.assembly_dir or self._folder / 'assembly')),
        )  # fmt: skip
        self._check_subvolumes_of_others()
        provenance.claim(self._folder, {
            'request': request_identity.result_fields(request), 'precision': network.precision,
            'model_sha256': provenance.model_digest(request.model_checkpoint_path),
            **_stamp_of(request), **assemble.tiled(tiling, masks),
        })  # fmt: skip
        assemble.claim_output(assembly)
        (self._folder / storage.UNFINISHED).touch()
        places = assemble.places_of(tiling, masks, assembly.overlaps, pool, args.quiet)
        logging.info('%s; %d are masked everywhere', tiling, len(tiling) - len(places))
        if not places:
            logging.warning('the masks leave nothing of %s', box)
        return assembly, places

    def _check_subvolumes_of_others(self) -> None:
        """Checks what run_inference.py has left in the folder, if it did."""
        if (self._folder / provenance.MANIFEST).exists():
            return
        seen = set()
        for path in storage.subvolume_files(self._folder):
            request_crc = provenance.checksums(path)[1]
            if request_crc in seen:
                continue
            seen.add(request_crc)
            if differences := request_identity.compare(self._request, path):
                raise UserError(
                    f'{self._folder} holds subvolumes of another request: {differences}; give '
                    'another segmentation_output_dir'
                )

    @staticmethod
    def _warn_of_small_overlap(tiling: Tiling, network: Network) -> None:
        for axis in range(3):
            if tiling.grid[axis] > 1 and tiling.overlap[axis] < network.fov[axis] - 1:
                logging.warning(
                    'overlap %s is smaller than the field of view, %s: voxels beside the borders '
                    'between subvolumes are never in the middle of a field of view',
                    tiling.overlap, network.fov,
                )  # fmt: skip
                return

    def _missing(self, tiling: Tiling, places: Places) -> Iterator[Box]:
        for place in places:
            box = tiling.subvolume(place)
            if storage.existing_path(self._folder, box.start.zyx, 'npz') is None:
                yield box

    def _here(self, runner: Runner, tiling: Tiling, places: Places) -> None:
        from ffn.inference.box_run import segment_boxes

        boxes = list(self._missing(tiling, places))
        self._say(len(boxes), len(places))
        if not boxes:
            return
        reports = segment_boxes(runner, boxes, self._args.quiet)
        failed = [report.error for report in reports if report.status == 'failed']
        if failed:
            raise UserError(f'{len(failed)} of {len(boxes)} subvolumes failed: {failed[0]}')
        if runner.stop.is_set():
            print('stopped; run again to go on', file=sys.stderr)
            raise SystemExit(128 + signal.SIGTERM)
        self._count(runner.counters.as_dict() | {'objects': sum(r.objects for r in reports)})

    def _distributed(self, known: Networks, tiling: Tiling, places: Places) -> None:
        from ffn.inference.worker_network import segment_subvolume

        missing = sum(1 for _ in self._missing(tiling, places))
        self._say(missing, len(places))
        tasks = ((known.name, box.start.zyx, box.size.zyx) for box in self._missing(tiling, places))
        total: dict[str, int] = {}
        for counters in run_stage(
            known.pool, segment_subvolume, tasks, missing, 'segmenting', self._args.quiet
        ):
            for name, value in counters.items():
                total[name] = total.get(name, 0) + value
        self._count(total)

    @staticmethod
    def _say(missing: int, count: int) -> None:
        logging.info('%d subvolumes to segment, %d are there', missing, count - missing)

    def _count(self, counters: Mapping[str, int]) -> None:
        """Writes the sums of what this run did."""
        if counters.get('predict-calls'):
            write_json(self._folder / 'counters.json', dict(sorted(counters.items())))


def _stamp_of(request: inference_pb2.InferenceRequest) -> dict[str, str]:
    """What init_segmentation was made from, where it says so."""
    stamp = (
        read_input_stamp(VolumeSource.from_proto(request.init_segmentation, 'init_segmentation'))
        if request.HasField('init_segmentation')
        else ''
    )
    return {'init_segmentation_made_from': stamp} if stamp else {}


def _masks(request: inference_pb2.InferenceRequest, text: str) -> inference_pb2.MaskConfigs:
    """The masks that leave out subvolumes: those of the request that need no image, and --mask."""
    masks = inference_pb2.MaskConfigs()
    if text:
        protos.read_text_or_file(text, masks, '--mask')
        absolute_paths(masks)
    masks.masks.extend(mask for mask in request.masks if mask.WhichOneof('source') != 'image')
    return masks


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Segments and assembles as the command line says.

    Returns:
      The statistics of the reconciliation.

    Raises:
      UserError: see `ffn.assembly.assemble.run`; also a request that is incomplete.
      SystemExit: stopped by a signal, after checkpoints.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.assembly.segment_volume', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--inference_request', required=True, metavar='REQUEST',
                        help='InferenceRequest, text format or a file')  # fmt: skip
    add_arguments(parser, box_required=False)
    args = parser.parse_args(argv)
    request = read_request(args.inference_request)
    for name in ('segmentation_output_dir', 'seed_policy'):
        if not getattr(request, name):
            raise UserError(f'the inference request does not set {name}, which is needed')
    absolute_paths(request)
    threads = request.concurrent_requests
    with (
        exclusive_directory(request.segmentation_output_dir),
        open_pool(args.scheduler, args.workers, threads, args.resource) as pool,
    ):
        assembly = _Segmentation(request, args).run(pool)
        statistics = assemble.run(assembly, pool, args.quiet)
    print(assemble.describe(statistics, assembly))
    return statistics


if __name__ == '__main__':
    show_log()
    run_tool(main)
