"""Pages in one file, and tables.  In: text and cells.  Out: HTML without network access that runs only the given script; Markdown.

All foreign text goes through ``esc``, except what is marked as ``Html``.
"""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    return text if isinstance(text, Html) else html.escape(str(text))


def note(text: str) -> str:
    """A paragraph of explanation; '' without text."""
    return f'<p class="note">{esc(text)}</p>' if text else ""


def folded(summary: str, body: str) -> str:
    """A part of the page that a click on its summary opens; '' without a body."""
    return f'<details><summary>{esc(summary)}</summary><div class="scroll">{body}</div></details>' if body else ""


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head; the columns in ``numbers`` are right-aligned on a page."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Iterable[int] = ()

    def html(self) -> str:
        """The table of a page; '' without rows."""
        def line(cells: Sequence[str], tag: str) -> str:
            kinds = [' class="n"' if n in self.numbers else "" for n in range(len(cells))]
            return f"<tr>{''.join(f'<{tag}{kind}>{esc(cell)}</{tag}>' for kind, cell in zip(kinds, cells, strict=True))}</tr>"

        return f"<table>{line(self.head, 'th')}{''.join(line(row, 'td') for row in self.rows)}</table>" if self.rows else ""

    def markdown(self) -> list[str]:
        """The lines of a Markdown table with columns of even width, readable in a terminal."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|").ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

        return [line(self.head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, self.rows)]


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
