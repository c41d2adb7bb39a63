"""Which phones and words one system recognises better than another.  In: decodes of both.  Out: counts per token; HTML.

An error of a reference token is its substitution or deletion in an alignment with the fewest errors (kaldialign); insertions have no
reference token and are counted separately. Counts are means over the seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.ablation.tables import result_at
from kdtool.pictures.charts import COLOURS
from kdtool.pictures.page import Html, esc, table
from kdtool.report.choice import Place, System, place_name, words_of

SHOWN = 10
GAP = "\0"  # no token, in an alignment


@dataclass
class Errors:
    """Per token: occurrences in the reference, errors, insertions (means over seeds)."""

    seen: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, float] = field(default_factory=dict)
    inserted: dict[str, float] = field(default_factory=dict)


def count(decodes: Sequence[Mapping[str, tuple[list[str], list[str]]]]) -> Errors:
    """Errors by token, from one decode per seed: utterance -> (reference, hypothesis)."""
    import kaldialign

    wrong: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for decode in decodes:
        for ref, hyp in decode.values():
            for a, b in kaldialign.align(ref, hyp, GAP):
                if a == GAP:
                    inserted[b] += 1
                elif a != b:
                    wrong[a] += 1
    seen = Counter(token for ref, _ in decodes[0].values() for token in ref) if decodes else Counter()
    seeds = max(1, len(decodes))
    return Errors(seen, {t: n / seeds for t, n in wrong.items()}, {t: n / seeds for t, n in inserted.items()})


@dataclass(frozen=True)
class Change:
    """A reference token: its occurrences, mean errors of both systems."""

    token: str
    seen: int
    before: float
    after: float

    @property
    def gain(self) -> float:
        """Reduction of errors."""
        return self.before - self.after


def changes(before: Errors, after: Errors) -> list[Change]:
    """All reference tokens, largest gain first."""
    every = [Change(t, n, before.wrong.get(t, 0.0), after.wrong.get(t, 0.0)) for t, n in before.seen.items()]
    return sorted(every, key=lambda c: (-c.gain, c.token))


def errors_of(root: Path, result: Mapping[str, Any]) -> Errors:
    """Errors by token of a system's result of one set and graph."""
    return count([words_of(root / run["decode"] / "per_utt.tsv") for run in result["runs"]])


def section(root: Path, reference: System, system: System, place: Place) -> str:
    """The phones or words of one set and graph; '' if one of the systems was not decoded there."""
    base, own = result_at(reference, place), result_at(system, place)
    if base is None or own is None:
        return ""
    before, after = errors_of(root, base), errors_of(root, own)
    every = changes(before, after)
    what = "phones" if place[3] == "per" else "words"
    gained = [c for c in every if c.gain > 0][:SHOWN]
    lost = [c for c in reversed(every) if c.gain < 0][:SHOWN]
    largest = max((abs(c.gain) for c in [*gained, *lost]), default=1.0)
    seeds = f"{len(base['runs'])} and {len(own['runs'])} seeds"
    better, worse = sum(c.gain > 0 for c in every), sum(c.gain < 0 for c in every)
    totals = (
        f"{sum(before.seen.values())} {what}, {len(before.seen)} different ones; {seeds}. Not recognised: "
        f"{_n(sum(before.wrong.values()))} by {reference['name']}, "
        f"{_n(sum(after.wrong.values()))} by {system['name']}; inserted: {_n(sum(before.inserted.values()))} and "
        f"{_n(sum(after.inserted.values()))}. {better} gained, {worse} lost, {len(every) - better - worse} are as before."
    )
    halves = [f"<figure><b>{title}</b>{_table(rows, largest, reference['name'], system['name'])}</figure>"
              for title, rows in ((f"{what} that gained most", gained), (f"{what} that lost most", lost)) if rows]  # fmt: skip
    return f'<h3>{esc(place[0])}, {esc(place_name(place))}</h3><p class="note">{esc(totals)}</p><div class="charts">{"".join(halves)}</div>'


def _table(rows: Sequence[Change], largest: float, before: str, after: str) -> str:
    head = ["", "occurs", f"errors, {before}", f"errors, {after}", "fewer", ""]
    body = [[c.token, str(c.seen), f"{_n(c.before)} ({_share(c.before, c.seen)})", f"{_n(c.after)} ({_share(c.after, c.seen)})",
             f"{c.gain:+.3g}", _bar(c.gain, largest)] for c in rows]  # fmt: skip
    return table(head, body, numbers=(1, 2, 3, 4))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _share(errors: float, seen: int) -> str:
    return f"{100 * errors / max(1, seen):.0f}%"


def _bar(gain: float, largest: float) -> Html:
    width = 80 * abs(gain) / largest
    colour = COLOURS[2] if gain > 0 else COLOURS[1]
    return Html(f'<svg width="82" height="12"><rect x="0" y="1" width="{width:.1f}" height="10" fill="{colour}"/></svg>')
