"""Fix a data folder: the command line of kdtool.corpus.fix.  In: a data folder.  Out: what was done, line by line; exit status.

0: fixed, or nothing to fix; 1: it cannot be fixed; 2: usage.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kdtool.core.cli import Parser, cli_main
from kdtool.core.errors import KdError
from kdtool.corpus.fix import FIXED, fix_data
from kdtool.formats.rows import RECORDING, SUPERVISION, row_faults

SHOWN = 20


def faults(row: Any, recording: bool) -> str:
    """Faults in the fields of a row, as the validator of data folders sees them."""
    return "; ".join(row_faults(row, RECORDING if recording else SUPERVISION))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = Parser(prog="utils/fix_data.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="data folder to fix; changed files are kept in its .backup.<n>")
    folder = parser.parse_args(sys.argv[1:] if argv is None else argv).folder
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; check the path")
    made = (folder / ".done.json").is_file()
    changes = fix_data(folder, faults)
    for kind, items in (("fixed", changes.fixed), ("dropped", changes.dropped)):
        for name, what in items[:SHOWN]:
            print(f"{kind}: {name}: {what}")
        if len(items) > SHOWN:
            print(f"{kind}: {len(items) - SHOWN} more, all in {folder / FIXED}")
    if not changes.fixed and not changes.dropped:
        print(f"{folder}: nothing to fix")
        return
    print(f"{folder}: {changes.kept} utterances kept, {len(changes.fixed)} changes, {len(changes.dropped)} dropped; "
          f"what was there before is in {max(folder.glob('.backup.*'), key=lambda p: int(p.suffix[1:]))}")  # fmt: skip
    if made:
        print("note: the folder has no record any more, so the stage that made it will not replace it: go on with the stage behind it "
              "(--stage), or move the folder away and fix the corpus instead")  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
