"""Accounts for utterances: in = out + dropped with a reason.  Out: dropped.tsv, one 'id<TAB>reason' per line.

An id may be a file name with any characters: it is escaped as by kdtool.core.names.escaped, so a row stays a row.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.names import escaped, printable
from kdtool.core.tables import write_lines

Dropped = Sequence[tuple[str, str]]


def rows_of(dropped: Dropped) -> list[tuple[str, str]]:
    """(id, reason) as written and printed, sorted by id."""
    return sorted((escaped(utterance), printable(" ".join(reason.split()))) for utterance, reason in dropped)


def write_dropped(path: Path | str, dropped: Dropped) -> None:
    """Write the dropped utterances sorted by id; an empty list gives an empty file."""
    write_lines(path, (f"{utterance}\t{reason}" for utterance, reason in rows_of(dropped)))


def account(total: int, kept: int, dropped: Dropped, *, max_share: float, where: str, work: Path | str) -> None:
    """Check that every utterance is accounted for, write `work`/dropped.tsv and say so in one line.

    `total` utterances went in, `kept` came out; at most `max_share` (0 to 1) may be dropped. where: the step's name, for messages.
    Raises KdError when the sums do not match, nothing is left, or too many were dropped.
    """
    write_dropped(Path(work) / "dropped.tsv", dropped)
    if kept + len(dropped) != total:
        raise KdError(f"{where}: {total} utterances in, {kept} out, {len(dropped)} dropped: {total - kept - len(dropped)} "
                      "unaccounted for; this is a bug in the step, please report it")  # fmt: skip
    if len({u for u, _ in dropped}) != len(dropped):
        raise KdError(f"{where}: an utterance is dropped twice; this is a bug in the step, please report it")
    rows = rows_of(dropped)
    first = "".join(f"\n  {u}: {r}" for u, r in rows[:5])
    if dropped and (len(dropped) > max_share * total or kept == 0):
        raise KdError(f"{where}: {len(dropped)} of {total} utterances had to be dropped, more than the allowed {max_share:.1%}:{first}\n"
                      f"all are in {Path(work) / 'dropped.tsv'}; fix the data, or raise the allowed share (--help names the option) if "
                      "that loss is acceptable")  # fmt: skip
    if kept == 0:
        raise KdError(f"{where}: no utterance is left of {total}; check the step's input")
    print(f"{where}: {total} utterances in, {kept} out, {len(dropped)} dropped{first}", file=sys.stderr)
    for reason, count in Counter(r for _, r in rows).most_common(3):
        if count > 5:
            print(f"{where}: {count} x {reason}", file=sys.stderr)
