"""A page in one file.  In: parts of HTML.  Out: a document without network access that runs only the given script.

All foreign text goes through ``esc``; ``table`` escapes everything that is not marked as HTML.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222; background: #fff }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin: 2em 0 .3em; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto; border: 1px solid #ccc } svg { display: block } svg text { font: 12px system-ui, sans-serif; text-anchor: middle }
.note { color: #555; margin: .2em 0 }
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def esc(text: object) -> str:
    """Text as HTML, for attributes too."""
    return html.escape(str(text))


def document(title: str, parts: Sequence[str], style: str = STYLE, script: str = "") -> str:
    """The whole page; ``parts`` are HTML. A content policy allows only ``script``, and no loading from outside."""
    policy, tail = "", ""
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        allowed = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; media-src data:"
        policy = f'<meta http-equiv="Content-Security-Policy" content="{allowed}">'
        tail = f"<script>{script}</script>\n"
    head = f'<meta charset="utf-8">{policy}<title>{esc(title)}</title><style>{style}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + f"\n{tail}</body></html>\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; the columns in ``numbers`` are right-aligned."""
    if not rows:
        return ""

    def line(cells: Sequence[str], tag: str) -> str:
        parts = []
        for n, cell in enumerate(cells):
            kind = ' class="n"' if n in numbers else ""
            parts.append(f"<{tag}{kind}>{cell if isinstance(cell, Html) else esc(cell)}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
