"""`ffn report`: what a whole-volume run looks like, without ground truth."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn import __version__
from ffn.cli.comparison_flags import tell_uncovered
from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.evaluation.run_report.page import Viewer, write_page
from ffn.evaluation.run_report.report import RunReport, make_report
from ffn.evaluation.run_report.run_files import RunFiles, find_run
from ffn.inference.request_identity import stored_voxel_size
from ffn.utils.atomic import check_writable, write_json
from ffn.utils.errors import UserError
from ffn.utils.geometry import parse_voxel_size
from ffn.utils.settings import section, setting
from ffn.volumes.provenance import open_complete
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.volume import Volume


@dataclass(frozen=True)
class Report:
    """Settings of the command."""

    output: str = setting(
        'the page, FILE.html, or a folder for report.html; numbers go to a file beside it that ends in .json',
        default='report.html',
        metavar='FILE',
    )
    image: str = setting('image below the labels', default='', metavar='VOLUME')
    voxel_size: tuple[float, float, float] | None = setting(
        'nanometres (default: what the volume or the request says)',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    volume: str = setting(
        'the written volume (default: what the assembly wrote)', default='', metavar='VOLUME'
    )
    assembly_dir: str = setting(
        'that of `ffn segment` or `ffn assemble`, where it is not `assembly` in the folder of the subvolumes',
        default='',
        metavar='FOLDER',
    )
    merges: str = setting('folder of `ffn agglomerate`', default='', metavar='FOLDER')
    min_voxels: int = setting('objects with fewer have no run length', default=1000, metavar='N')
    tables_only: bool = setting(
        'do not read the volume: no run lengths, no pictures of objects', default=False
    )
    viewer_url: str = setting(
        'a Neuroglancer that the page links to, for volumes on a server', default='', metavar='URL'
    )
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    quiet: bool = setting('no progress bars', default=False)


def main(argv: Sequence[str] | None = None) -> RunReport:
    """Writes the page and the numbers, and prints a summary.

    Raises:
      UserError: see `find_run` and `make_report`.
    """
    parser = make_parser(
        'report',
        'Shows what a whole-volume run looks like, without ground truth: sizes, run length, fill, borders\n'
        'between subvolumes, merges, time, and what is worth a look. Volumes may be larger than memory.',
        epilog='ffn report results --image volume.h5:raw --output report.html\n'
        'ffn report zarr://whole.zarr --merges results/agglomeration',
    )
    parser.add_argument(
        'run',
        metavar='RUN',
        help='segmentation_output_dir of `ffn segment` or `ffn assemble`, their assembly folder, a folder of '
        '`ffn agglomerate`, or a label volume',
    )
    add_settings(parser, 'What is read and written', Report, skip=('resource',))
    args = parser.parse_args(argv)
    return run_report(args.run, read_settings(args, Report))


def run_report(run: str, command: Report) -> RunReport:
    """Makes the report of a run; see `main`."""
    if command.min_voxels < 1:
        raise UserError(f'--min_voxels is {command.min_voxels}; expected 1 or more')
    page = Path(command.output)
    if page.suffix.lower() not in ('.html', '.htm'):
        page = page / 'report.html'
    for written in (page, page.with_suffix('.json')):
        check_writable(written, '--output')
    files = find_run(run, command.assembly_dir, command.volume or None, command.merges or None)
    with contextlib.ExitStack() as stack:
        files, labels = _open_labels(files, command, stack)
        image, known = None, []
        if command.voxel_size is not None:
            known.append(KnownVoxelSize(command.voxel_size, '--voxel_size'))
        if command.image:
            image = stack.enter_context(open_complete(command.image)).single_channel()
        known += [v.voxel_size.of(v.name) for v in (labels, image) if v and v.voxel_size]
        if files.subvolumes is not None and (size := stored_voxel_size(files.subvolumes)):
            known.append(KnownVoxelSize(size, 'the request of the run'))
        agreed = agreed_voxel_size(known)
        xyz = agreed.xyz if agreed else None
        with command.pool.open() as pool:
            report = make_report(
                files, xyz, command.min_voxels, not command.tables_only, pool, command.quiet
            )
        if image is not None and report.box is not None:
            tell_uncovered(image, report.box)
        viewer = Viewer(
            _view_command(files, command),
            command.viewer_url,
            command.image,
            '' if files.unread else files.volume or '',
            xyz,
        )
        facts = {'run': run, 'volume': files.volume or '–'}
        states = ['not finished: subvolumes are still missing'] if files.unfinished else []
        states += [files.unread] if files.unread else []
        if states:
            facts['state'] = '; '.join(states)
        numbers = {'version': __version__, 'run': run, **report.as_json()}
        try:
            print(_describe(report, files.unread), flush=True)
        finally:  # also where nobody reads that
            write_json(page.with_suffix('.json'), numbers)
            write_page(page, f'Report of {run}', facts, report, labels, image, viewer)
    print(f'written to {page} and {page.with_suffix(".json")}')
    return report


def _open_labels(
    files: RunFiles, command: Report, stack: contextlib.ExitStack
) -> tuple[RunFiles, Volume | None]:
    """Opens the volume of a run; one that an assembly has not written, or not to its end, is left out.

    Raises:
      UserError: a volume that was named cannot be read, or is not complete.
    """
    if files.volume is None or command.tables_only:
        return files, None
    try:
        return files, stack.enter_context(open_complete(files.volume)).require_labels()
    except UserError as error:
        if files.assembly is None or command.volume:
            raise
        unread = f'the volume is not read, and numbers of objects are those of the tables: {error}'
        return dataclasses.replace(files, unread=unread), None


def _view_command(files: RunFiles, command: Report) -> str:
    """The command that shows the run, without a position; '' if there is nothing to show."""
    labels = '' if files.unread else files.volume
    if not labels and not command.image:
        return ''
    words = ['ffn', 'view']
    for flag, spec in (('--image', command.image), ('--labels', labels)):
        words += [flag, spec] if spec else []
    if command.voxel_size is not None:
        words += ['--voxel_size', ','.join(f'{n:g}' for n in command.voxel_size)]
    return shlex.join(words)


def _describe(report: RunReport, unread: str) -> str:
    """Summarizes a report in a few lines."""
    lines = [unread] if unread else []
    if report.subvolumes is not None:
        total, present = report.subvolumes
        lines.append(f'{present} of {total} subvolumes have a result')
    if report.sizes is not None:
        share = report.filled_fraction
        filled = '' if share is None else f', {share:.1%} of the box'
        lines.append(f'{report.sizes.objects} objects, {report.sizes.voxels} voxels{filled}')
    if report.spans is not None:
        lines.append(
            f'span of the object that a voxel belongs to, on average: {report.spans.mean_by_voxel:.0f} '
            f'{report.unit}, of {report.spans.diagonal:.0f}'
        )
    if report.borders is not None:
        lines.append(
            f'borders: {report.borders.agreement:.1%} of the labelled voxels of overlaps are one object on both '
            f'sides; {report.borders.ended:.1%} of the ids there end at the border'
        )
    if report.joins is not None:
        lines.append(f'{report.joins.accepted} pairs joined, {report.joins.rejected} not')
    if report.times is not None:
        lines.append(
            f'{report.times.steps} network steps, {report.times.step_ms:.1f} ms each; '
            f'{report.times.seconds:.1f} s in all subvolumes'
        )
    lines.append(f'{len(report.concerns)} things are worth a look')
    return '\n'.join(lines)
