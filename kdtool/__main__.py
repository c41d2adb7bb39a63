"""The command `kdtool COMMAND ...`.  In: a command's name and its arguments.  Out: what the command makes.

Each command is a module with `main(argv)`, imported only when it is called.
"""

import importlib
import sys
from collections.abc import Sequence

from kdtool.core.cli import cli_main
from kdtool.core.errors import UsageError

# name: (module, what it does)
COMMANDS = {
    "graph": ("kdtool.graph.export", "export a decoding graph for users of k2"),
    "align": ("kdtool.aligner.align", "align audio with its text: TextGrid, CTM, JSON, Lhotse, a report page"),
    "posteriors": ("kdtool.posteriors.tool", "inspect, verify or export teachers' posteriors: arrays, Arrow, Lhotse"),
    "boundary-error": ("kdtool.aligner.score", "compare an alignment's boundaries with true ones"),
}


def usage() -> str:
    """The list of commands."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {about}" for name, (_, about) in sorted(COMMANDS.items()))
    return f"usage: kdtool COMMAND [argument ...]\n\n{lines}\n\nkdtool COMMAND --help lists the options of one"


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run one command; its exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] not in COMMANDS:
        raise UsageError(f"kdtool has no command {argv[0]!r}\n{usage()}")
    return importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:])  # type: ignore[no-any-return]


def entry() -> None:
    """The console script."""
    cli_main(main)


if __name__ == "__main__":
    entry()
