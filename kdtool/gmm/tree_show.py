"""A decision tree for people: the splits of each phone with gains and frames, as text and as a drawing.

In: a GMM folder's splits.jsonl (one node per line, parents first), written by training. Out: text on stdout, an SVG file.
Command: utils/show_tree.sh.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from kdtool.core.cli import cli_main
from kdtool.core.errors import KdError, UsageError
from kdtool.core.own_file import check_file, write_own_text
from kdtool.core.tables import read_jsonl

SPLITS_FILE = "splits.jsonl"
ROW, COLUMN, CHARACTER = 22, 250, 6.2  # pixels


class Splits:
    """All nodes of a GMM folder's tree: rows as on disk, and each node's children (yes, no)."""

    def __init__(self, folder: Path) -> None:
        path = folder / SPLITS_FILE
        if not path.is_file():
            raise KdError(f"{path}: missing; only triphone trainings write it: name such a folder, or train it again")
        self.rows = list(read_jsonl(path))
        self.children: dict[int, list[int]] = {}
        try:
            for number, row in enumerate(self.rows):
                if row["node"] != number or ("pdf" in row) == ("question" in row) or row.get("parent", -1) >= number:
                    raise ValueError(f"node {row['node']} in line {number + 1}")
                if "parent" in row:
                    self.children.setdefault(row["parent"], []).insert(0 if row["answer"] else 1, number)
        except (KeyError, TypeError, ValueError) as e:
            raise KdError(f"{path}: not a list of a tree's nodes ({e!r}); train the GMM again") from e

    def roots(self, phone: str | None) -> list[int]:
        """Roots of one phone's states, or of all; UsageError when there is no such phone."""
        found = [n for n, row in enumerate(self.rows) if "parent" not in row and phone in (None, row["phone"])]
        if not found:
            raise UsageError(f"--phone {phone}: known are {' '.join(dict.fromkeys(row['phone'] for row in self.rows))}")
        return found

    def label(self, number: int) -> str:
        """A node as text."""
        row = self.rows[number]
        if "pdf" in row:
            return f"pdf {row['pdf']} ({row['frames']:.0f} frames)"
        return f"{row['side']} one of {' '.join(row['question'])}? (gain {row['gain']:.0f}, {row['frames']:.0f} frames)"

    def text(self, number: int, depth: int = 0, answer: str = "") -> list[str]:
        """A node and its subtree, indented."""
        row = self.rows[number]
        head = answer if depth else f"{row['phone']} state {row['state']}: "
        lines = [f"{'  ' * depth}{head}{self.label(number)}"]
        for word, child in zip(("yes: ", "no: "), self.children.get(number, []), strict=False):
            lines += self.text(child, depth + 1, word)
        return lines


def svg(splits: Splits, roots: Sequence[int]) -> str:
    """A drawing of whole trees below each other: roots on the left, one row per leaf."""
    parts: list[str] = []
    width, row = 0.0, 0.0

    def draw(number: int, depth: int, answer: str) -> float:
        """Draw a subtree; returns its height on the page."""
        nonlocal width, row
        heights = [draw(c, depth + 1, w) for w, c in zip(("yes", "no"), splits.children.get(number, []), strict=False)]
        if not heights:
            row += 1
        y = sum(heights) / len(heights) if heights else row * ROW
        node, x, label = splits.rows[number], 10 + depth * COLUMN, splits.label(number)
        short = label if len(label) <= 38 or not heights else f"{label[:24].rstrip()}.. gain {node['gain']:.0f}"
        for at in heights:
            begin, middle, end = x + COLUMN - 30, x + COLUMN - 15, x + COLUMN - 2
            parts.append(f'<path d="M{begin} {y:.0f} C{middle} {y:.0f} {middle} {at:.0f} {end} {at:.0f}"/>')
        head = f"{answer}: " if answer else f"{node['phone']}.{node['state']}: "
        parts.append(f'<text x="{x}" y="{y + 4:.0f}">{escape(head + short)}<title>{escape(label)}</title></text>')
        width = max(width, x + CHARACTER * len(head + short) + 20)
        return y

    for root in roots:
        draw(root, 0, "")
        row += 0.5
    style = "text{font:11px sans-serif}path{fill:none;stroke:#888}"
    size = f'width="{width:.0f}" height="{(row + 1) * ROW:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of utils/show_tree.sh."""
    parser = argparse.ArgumentParser(prog="utils/show_tree.sh", description="Print a GMM's decision tree; draw it with --svg.")
    parser.add_argument("gmm", type=Path, help="folder of a triphone GMM")
    parser.add_argument("--phone", help="only the states of this phone")
    parser.add_argument("--svg", type=Path, help="also draw the tree into this file")
    a = parser.parse_args(argv)
    if a.svg:
        check_file(a.svg)
    splits = Splits(a.gmm)
    roots = splits.roots(a.phone)
    for root in roots:
        print(*splits.text(root), sep="\n")
    if a.svg:
        write_own_text(a.svg, svg(splits, roots))
        print(f"drawn: {a.svg}", file=sys.stderr)


if __name__ == "__main__":
    cli_main(main)
