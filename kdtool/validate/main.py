"""Checks a folder.  In: its kind and the folder.  Out: a line per class of problem; exit status 0 fine, 1 problems, 2 usage.

Nothing is ever written into the folder. --items writes a table of all faulty items to a file elsewhere.
"""

import sys
from pathlib import Path

from kdtool.core.cli import Parser, cli_main
from kdtool.core.errors import UsageError
from kdtool.core.findings import Level, write_items
from kdtool.core.inputs import KINDS, others_of, validate
from kdtool.core.own_file import check_file


def main(argv: list[str] | None = None) -> int:
    """Command line: KIND [options] FOLDER. Returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    kind = argv.pop(0) if argv else ""
    if kind not in KINDS:
        raise UsageError(f"kind {kind!r}: known are {', '.join(KINDS)}")
    parser = Parser(prog=f"utils/validate_{kind}.sh", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="folder to check; it is never changed")
    parser.add_argument("--items", type=Path, help="write a table (TSV) of all faulty items to this file")
    parser.add_argument("--deep", action="store_true", help="read everything, not only tables and headers: audio, features, shards")
    for name, text in others_of(kind).items():
        parser.add_argument(f"--{name}", type=Path, help=text)
    args = parser.parse_args(argv)
    if args.items and _inside(args.items, args.folder):
        raise UsageError(f"--items {args.items}: lies in the folder that is checked; name a place outside of {args.folder}")
    if args.items:
        check_file(args.items)
    others = {name: getattr(args, name) for name in others_of(kind) if getattr(args, name)}
    report = validate(kind, args.folder, Level.DEEP if args.deep else Level.FULL, others)
    for name in report.found:
        print(report.line(name))
    if args.items:
        write_items(args.items, report)
    count = sum(len(report.items(n)) for n in report.problems)
    verdict = f"{len(report.problems)} classes of problems, {count} items" if report.problems else "fine"
    print(f"{args.folder}: {verdict}{f' ({report.summary})' if report.summary else ''}")
    return 1 if report.problems else 0


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


if __name__ == "__main__":
    cli_main(main)
