"""Self-contained HTML pages with text, tables and pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from ffn.utils.atomic import atomic_path

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; image-rendering: pixelated; }
table { border-collapse: collapse; } td, th { padding: .1rem 1rem .1rem 0; text-align: left; }
.numbers td + td, .numbers th + th { text-align: right; font-variant-numeric: tabular-nums; }
code { background: #f4f4f4; padding: 0 .3rem; user-select: all; }
figcaption { color: #555; } figure { margin: 1.5rem 0; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: .85rem; }
"""


def text(value: object) -> str:
    """Text as HTML that shows it."""
    return html.escape(str(value))


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), kind: str = '') -> str:
    """A table.

    Args:
      rows: cells, HTML.
      header: titles of the columns, HTML; may be left out.
      kind: 'numbers' for columns that are read downwards.
    """
    lines = [('th', header)] if header else []
    lines += [('td', row) for row in rows]
    cells = ''.join(
        f'<tr>{"".join(f"<{tag}>{cell}</{tag}>" for cell in row)}</tr>' for tag, row in lines
    )
    return f'<table class="{kind}">{cells}</table>'


def figure(png: bytes, caption: str, alt: str) -> str:
    """A picture.

    Args:
      png: the file.
      caption: HTML.
      alt: what it shows, text.
    """
    return (
        f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{caption}</figcaption></figure>'
    )


def write_html(path: str | Path, title: str, body: Sequence[str]) -> None:
    """Writes a page, whole or not at all.

    Args:
      path: the file.
      title: heading, text.
      body: what follows, HTML.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f'<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{"".join(body)}</html>\n',
            encoding='utf-8',
        )


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
    rows = [(text(name), f'<b>{text(value)}</b>') for name, value in facts.items()]
    figures = [figure(Path(p).read_bytes(), text(c), alt=c) for p, c in pictures]
    run = ['<h2>Commands</h2>', *(f'<pre>{text(c)}</pre>' for c in commands)] if commands else []
    write_html(path, title, [table(rows), *figures, *run])
