"""Which phones and words one system recognises better than another.  In: decodes of both.  Out: counts per token; HTML.

An error of a reference token is its substitution or deletion in an alignment with the fewest errors (kaldialign); insertions have no
reference token and are counted separately. Counts are means over the seeds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kdtool.ablation.tables import Place, place_name, result_at, sets
from kdtool.pictures.charts import COLOURS
from kdtool.pictures.page import Html, Table, esc, note
from kdtool.report.choice import Shown
from kdtool.results.collect import Utterance, per_utterance

LONGEST = 10  # rows of a table
GAP = "\0"  # no token, in an alignment


class Errors(NamedTuple):
    """Per token: occurrences in the reference, errors, insertions (means over seeds)."""

    seen: Counter[str]
    wrong: dict[str, float]
    inserted: dict[str, float]


class Change(NamedTuple):
    """A reference token: reduction of its errors, occurrences, mean errors of both systems."""

    token: str
    gain: float
    seen: int
    before: float
    after: float


def count(decodes: Sequence[Mapping[str, Utterance]]) -> Errors:
    """Errors by token, from one decode per seed."""
    import kaldialign

    pairs = [pair for decode in decodes for row in decode.values() for pair in kaldialign.align(row.ref.split(), row.hyp.split(), GAP)]
    seen = Counter(token for row in decodes[0].values() for token in row.ref.split())
    wrong, inserted = Counter(a for a, b in pairs if a not in (b, GAP)), Counter(b for a, b in pairs if a == GAP)
    return Errors(seen, *({token: n / len(decodes) for token, n in counts.items()} for counts in (wrong, inserted)))


def changes(before: Errors, after: Errors) -> list[Change]:
    """All reference tokens, largest gain first."""
    errors = [(token, n, before.wrong.get(token, 0.0), after.wrong.get(token, 0.0)) for token, n in before.seen.items()]
    return sorted((Change(token, a - b, n, a, b) for token, n, a, b in errors), key=lambda c: (-c.gain, c.token))


def section(shown: Shown) -> str:
    """Phones and words with gains, on each set: the first phone graph and the last word graph."""
    if shown.reference is None or shown.best is None:
        return note("The reference, or a system that learns from a teacher, is not decoded yet.")
    parts = [note(f"{shown.best['name']} against {shown.reference['name']}. Counts are means over seeds; a token that occurs seldom "
                  "says little.")]  # fmt: skip
    for name in sets(shown.content):
        places = shown.places(name, [shown.reference])
        for place in [p for p in places if p[3] == "per"][:1] + [p for p in places if p[3] == "wer"][-1:]:
            systems = {s["name"]: r for s in (shown.reference, shown.best) if (r := result_at(s, place))}
            if len(systems) > 1:
                decodes = [[per_utterance(shown.root / run["decode"]) for run in r["runs"]] for r in systems.values()]
                parts.append(_tokens(place, [*systems], [len(d) for d in decodes], *map(count, decodes)))
    return "\n".join(parts)


def _tokens(place: Place, names: Sequence[str], seeds: Sequence[int], before: Errors, after: Errors) -> str:
    """The phones or words of one set and graph."""
    what, every = "phones" if place[3] == "per" else "words", changes(before, after)
    gained, lost = [c for c in every if c.gain > 0], [c for c in reversed(every) if c.gain < 0]
    wrong, inserted = ([_n(sum(counts.values())) for counts in pair] for pair in zip(before[1:], after[1:], strict=True))
    totals = (
        f"{sum(before.seen.values())} {what}, {len(before.seen)} different ones; {seeds[0]} and {seeds[1]} seeds. Not recognised: "
        f"{wrong[0]} by {names[0]}, {wrong[1]} by {names[1]}; inserted: {inserted[0]} and {inserted[1]}. "
        f"{len(gained)} gained, {len(lost)} lost, {len(every) - len(gained) - len(lost)} are as before."
    )
    halves = {f"{what} that gained most": gained[:LONGEST], f"{what} that lost most": lost[:LONGEST]}
    largest = max((abs(c.gain) for rows in halves.values() for c in rows), default=1.0)
    head = ["", "occurs", *(f"errors, {name}" for name in names), "fewer", ""]
    figures = [f"<figure><b>{title}</b>{Table(head, [_row(c, largest) for c in rows], (1, 2, 3, 4)).html()}</figure>"
               for title, rows in halves.items() if rows]  # fmt: skip
    return f'<h3>{esc(place[0])}, {esc(place_name(place))}</h3>{note(totals)}<div class="charts">{"".join(figures)}</div>'


def _row(c: Change, largest: float) -> list[str]:
    errors = [f"{_n(n)} ({100 * n / c.seen:.0f}%)" for n in (c.before, c.after)]
    width, colour = 80 * abs(c.gain) / largest, COLOURS[2] if c.gain > 0 else COLOURS[1]
    bar = f'<svg width="82" height="12"><rect x="0" y="1" width="{width:.1f}" height="10" fill="{colour}"/></svg>'
    return [c.token, str(c.seen), *errors, f"{c.gain:+.3g}", Html(bar)]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
