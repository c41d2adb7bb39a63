"""The account of utterances: in = out + dropped with a reason.  Out: dropped.tsv, one 'id<TAB>reason' a line."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text


def write_dropped(path: Path | str, dropped: Sequence[tuple[str, str]]) -> None:
    """Write the dropped utterances in the order of their ids; an empty list gives an empty file."""
    with open_text(path, "w") as f:
        for utterance, reason in sorted(dropped):
            f.write(f"{utterance}\t{' '.join(reason.split())}\n")


def account(
    total: int, kept: int, dropped: Sequence[tuple[str, str]], *, max_share: float, where: str, work: Path | str
) -> None:
    """Check that every utterance is accounted for, write `work`/dropped.tsv and say so in one line.

    Args:
        total, kept: utterances that came in and that go out.
        dropped: (id, reason) of the rest.
        max_share: the largest share of `total` that may be dropped, 0 to 1.
        where: the step's name for the messages.

    Raises:
        KdError: the sums do not match, nothing is left, or too much was dropped.
    """
    write_dropped(Path(work) / "dropped.tsv", dropped)
    if kept + len(dropped) != total:
        raise KdError(f"{where}: {total} utterances in, {kept} out, {len(dropped)} dropped: {total - kept - len(dropped)} "
                      "unaccounted for; this is a bug in the step, please report it")  # fmt: skip
    if len({u for u, _ in dropped}) != len(dropped):
        raise KdError(f"{where}: an utterance is dropped twice; this is a bug in the step, please report it")
    first = "".join(f"\n  {u}: {r}" for u, r in sorted(dropped)[:5])
    if dropped and (len(dropped) > max_share * total or kept == 0):
        raise KdError(f"{where}: {len(dropped)} of {total} utterances had to be dropped, more than the allowed {max_share:.1%}:{first}\n"
                      "mend the data, or raise the allowed share (--help names the option) if this loss is wanted")  # fmt: skip
    if kept == 0:
        raise KdError(f"{where}: no utterance is left of {total}; check the step's input")
    print(f"{where}: {total} utterances in, {kept} out, {len(dropped)} dropped{first}", file=sys.stderr)
    for reason, count in Counter(r for _, r in dropped).most_common(3):
        if count > 5:
            print(f"{where}: {count} x {reason}", file=sys.stderr)
