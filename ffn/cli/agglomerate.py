"""`ffn agglomerate`: joins the pieces of a segmentation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ffn.agglomeration.agglomerate import FIT, Agglomeration, AgglomerationConfig, agglomerate
from ffn.agglomeration.config import read_config
from ffn.agglomeration.evidence import Thresholds
from ffn.agglomeration.fitting import require_scikit_learn
from ffn.agglomeration.joined_volume import check_output, write_joined
from ffn.agglomeration.merge_model import MergeModel
from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.cli.label_box import box_of_labels
from ffn.distributed.pool import PoolConfig
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.locks import exclusive_directory
from ffn.visualization.reliability import plot_reliability
from ffn.volumes.outputs import OutputSpec, choose_voxel_size
from ffn.volumes.shards import Sharding
from ffn.volumes.specs import absolute_spec

_CHUNK = Xyz(64, 64, 64)


def main(argv: Sequence[str] | None = None) -> Agglomeration:
    """Finds candidates, resegments them, and writes the tables and the joined volume.

    Returns:
      What came of it.

    Raises:
      UserError: see `agglomerate`.
    """
    args = _parser().parse_args(argv)
    resegmentation = read_config(args.resegmentation_request)
    box, of_volume = box_of_labels(resegmentation.segmentation, args.bounding_box)
    config = read_settings(
        args, AgglomerationConfig, box=box, thresholds=read_settings(args, Thresholds)
    )
    if config.fit.is_asked:
        require_scikit_learn()
    folder, inference = resegmentation.output_directory, resegmentation.inference
    given = (
        parse_voxel_size(args.voxel_size, '--voxel_size') if args.voxel_size is not None else None
    )
    voxel_size = choose_voxel_size(given, inference.voxel_size, of_volume)
    output = None
    if args.output_volume:
        spec = absolute_spec(args.output_volume)
        sharding = read_settings(args, Sharding)
        chunk = sharding.default_chunk() or _CHUNK
        output = OutputSpec(spec, box, chunk, voxel_size, sharding.size)
        check_output(output, folder)
    with (
        exclusive_directory(folder),
        read_settings(args, PoolConfig).open(inference.concurrent_requests) as pool,
    ):
        found = agglomerate(resegmentation, config, pool, args.quiet)
        table = found.equivalences
        if output:
            write_joined(resegmentation.segmentation, table, output, folder, pool, args.quiet)
    if found.fit:
        plot_reliability(found.fit.validation['reliability'], folder / 'reliability.png')
        print(_describe(found.fit), folder / FIT, sep='\n')
    print(
        f'{found.pairs} pairs, {found.accepted} accepted, {found.impossible} could not be resegmented; '
        f'{len(table)} segments become {len(set(table.values()))}; tables are in {folder}'
    )
    return found


def _describe(fit: MergeModel) -> str:
    """A fit in a few lines."""
    about, found = fit.fitted_on, fit.validation
    out = about['pairs_left_out']
    lines = [
        f'fitted to {about["pairs"]} pairs, {about["pairs_within_objects"]} of them within an object, of '
        f'{about["objects_with_pairs_within"]} objects; left out: '
        f'{out["unclear_object"]} with a segment of no clear object, {out["not_resegmented"]} not resegmented',
        f'{"on objects it had not seen":40s} log loss   Brier  precision  recall',
    ]
    for name, one in found['tried'].items():
        mark = '*' if name == found['chosen'] else ' '
        lines.append(
            f'{mark} {name:38s} {one["log_loss"]:8.4f} {one["brier"]:7.4f} {one["precision"]:10.3f} '
            f'{one["recall"]:7.3f}'
        )
    lines.append(f'  {"their rate alone":38s} {found["log_loss_of_the_rate_alone"]:8.4f}')
    return '\n'.join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'agglomerate',
        'Joins the pieces of a segmentation: looks in the volume of inference.init_segmentation for\n'
        'segments that are close to each other, resegments every such pair around the point where\n'
        "they are closest, and joins those that grow into each other. The request's\n"
        'output_directory receives candidates.csv, the results of resegmentation, merges.csv and\n'
        'equivalences.csv. Run again, the command does what is missing.\n'
        '\n'
        'By default, thresholds on the evidence of each pair decide. --fit TRUTH learns from ground truth, and\n'
        '--fit_examples from what a proofreader has judged, how probable it is that two segments are one;\n'
        '--model FIT.json joins the most probable first.',
        'ffn agglomerate --resegmentation_request REQUEST.pbtxt --max_distance 60 \\\n'
        '  --output_volume joined.h5:labels\n'
        'ffn agglomerate --resegmentation_request PART.pbtxt --max_distance 60 --fit truth.h5:labels\n'
        'ffn agglomerate --resegmentation_request REQUEST.pbtxt --max_distance 60 --model part/fit.json',
    )
    add = parser.add_argument_group('Input and output').add_argument
    add(
        '--resegmentation_request',
        required=True,
        metavar='REQUEST',
        help='ResegmentationRequest without points, text format or a file',
    )
    add(
        '--bounding_box',
        default='',
        metavar='BOX',
        help='part of the segmentation: BoundingBox, start and size in x, y, z, text format or a file '
        '(default: all of it)',
    )
    add(
        '--output_volume',
        default='',
        metavar='VOLUME',
        help='write the labels with joined ids here: FILE.h5:DATASET, or zarr://, zarr3://, n5:// or '
        'precomputed:// before a path',
    )
    add(
        '--voxel_size',
        metavar='X,Y,Z',
        help='nanometres, stored with the volume (default: inference.voxel_size of the request, or '
        'that of its training)',
    )
    add_settings(parser, 'Shards', Sharding)
    add_settings(parser, 'Candidates, and how is decided', AgglomerationConfig)
    add_settings(parser, 'When two segments are joined', Thresholds)
    add_settings(parser, 'Where it runs', PoolConfig)
    parser.add_argument('--quiet', action='store_true', help='no progress bars')
    return parser
