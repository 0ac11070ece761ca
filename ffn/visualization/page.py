"""Self-contained HTML pages with text, tables and pictures.

Whatever is not `Markup` is text, and is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ffn.utils.atomic import atomic_path

_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined)

_PAGE = _ENVIRONMENT.from_string("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
img { display: block; max-width: 100%; margin-bottom: 5px; image-rendering: pixelated; }
table { border-collapse: collapse; } td, th { padding: .1rem 1rem .1rem 0; text-align: left; }
.numbers td + td, .numbers th + th { text-align: right; font-variant-numeric: tabular-nums; }
code { background: #f4f4f4; padding: 0 .3rem; user-select: all; font-size: .85rem; }
.numbers td:has(code) { text-align: left; }
figcaption { color: #555; } figure { margin: 1.5rem 0; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: .85rem; }
</style>
<h1>{{ title }}</h1>
{% for part in body %}{{ part }}
{% endfor %}</html>
""")

_TABLE = _ENVIRONMENT.from_string(
    '<table class="{{ kind }}">'
    '{% if header %}<tr>{% for cell in header %}<th>{{ cell }}</th>{% endfor %}</tr>{% endif %}'
    '{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}'
    '</table>'
)

_FIGURE = _ENVIRONMENT.from_string(
    '<figure>{% for one in data %}<img alt="{{ alt }}" src="data:image/png;base64,{{ one }}">'
    '{% endfor %}'
    '<figcaption>{{ caption }}</figcaption></figure>'
)


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = (), kind: str = '') -> Markup:
    """Makes a table.

    Args:
      rows: cells.
      header: titles of the columns, if any.
      kind: 'numbers' for columns that are read downwards.
    """
    return Markup(_TABLE.render(rows=rows, header=header, kind=kind))


def figure(pngs: Sequence[bytes], caption: str, alt: str) -> Markup:
    """Makes a figure.

    Args:
      pngs: contents of the files, shown below each other.
      caption: text below the pictures.
      alt: what the pictures show.
    """
    data = [base64.b64encode(png).decode() for png in pngs]
    return Markup(_FIGURE.render(data=data, caption=caption, alt=alt))


def write_html(path: str | Path, title: str, body: Sequence[str]) -> None:
    """Writes a page, atomically.

    Args:
      path: the file.
      title: heading.
      body: parts of the page.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(_PAGE.render(title=title, body=body), encoding='utf-8')


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
      pictures: PNG files, which are embedded in the page, and their captions.
      commands: the commands that were run, shown at the end.
    """
    bold, code = Markup('<b>{}</b>'), Markup('<pre>{}</pre>')
    rows = [(name, bold.format(value)) for name, value in facts.items()]
    figures = [figure([Path(png).read_bytes()], caption, alt=caption) for png, caption in pictures]
    run = [Markup('<h2>Commands</h2>'), *map(code.format, commands)] if commands else []
    write_html(path, title, [table(rows), *figures, *run])
