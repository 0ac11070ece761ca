"""One HTML page with text, tables and pictures, all in one file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from ffn.utils.atomic import atomic_path

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; image-rendering: pixelated; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; }
figcaption { color: #555; } figure { margin: 1.5rem 0; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: .85rem; }
"""


def write_page(
    path: str | Path,
    title: str,
    facts: Mapping[str, str],
    pictures: Sequence[tuple[str | Path, str]],
    commands: Sequence[str] = (),
) -> None:
    """Writes a report.

    Args:
      path: the HTML file.
      title: heading.
      facts: rows of the table at the top.
      pictures: PNG files and what each shows; they are put into the page.
      commands: what was run, shown at the end.
    """
    rows = ''.join(
        f'<tr><td>{html.escape(name)}</td><td><b>{html.escape(value)}</b></td></tr>'
        for name, value in facts.items()
    )
    figures = ''.join(
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,'
        f'{base64.b64encode(Path(picture).read_bytes()).decode()}">'
        f'<figcaption>{html.escape(caption)}</figcaption></figure>'
        for picture, caption in pictures
    )
    run = '<h2>Commands</h2>' + ''.join(f'<pre>{html.escape(c)}</pre>' for c in commands)
    with atomic_path(path) as temporary:
        temporary.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f'<style>{_STYLE}</style><h1>{html.escape(title)}</h1><table>{rows}</table>'
            f'{figures}{run if commands else ""}</html>\n',
            encoding='utf-8',
        )
