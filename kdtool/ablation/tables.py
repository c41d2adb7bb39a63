"""ablation.json -> the text of ABLATION.md, and tables for the report.  In: its content (kdtool.ablation.collect).  Out: text, tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kdtool.pictures.page import Table
from kdtool.results.generated import heading

ABOUT = (
    "Each figure is the mean over the seeds. In brackets: 95% interval of a bootstrap over utterances and seeds ({resamples:,} resamples; "
    "utterances drawn once for all systems, and the seeds' own spread on top). Differences are in points and in percent of the reference, "
    "paired by utterance and, where the seeds are the same, by seed; p is two-sided, of that bootstrap, not corrected for how many systems "
    "there are. With one seed nothing is known of the spread between seeds, and the interval is too narrow by that. {scales}"
)
OWN_SCALES = "LM and prior scales are chosen for each student by itself: two-fold, or on dev for a test set."
POOLED_SCALES = (
    "LM and prior scales are one point per graph, chosen on the errors of all students together: on dev for a test set, and on each half "
    "of dev's speakers for the other half."
)
CORRECTED = (
    " Holm: p corrected for all comparisons of its table. Within: standard deviation of one seed's rate if other utterances were drawn; "
    "between: that of the seeds beyond it."
)
LISTS = {
    "earlier": "Taken over from an earlier table, their models are gone",
    "missing": "Not made yet",
    "stale": "Trained with other options than are planned now, so left out",
}
Content = Mapping[str, Any]
Result = dict[str, Any]
System = dict[str, Any]
Place = tuple[str, str, str, str]  # set, lm, first_pass_lm, rate


def render(content: Content, made: dict[str, str]) -> str:
    """The whole of ABLATION.md; content: that of ablation.json, made: title, note, command, date, git."""
    lines = heading(made)
    for text in paragraphs(content):
        lines += ["", text]
    for name, setting, systems, places in sections(content):
        end = f", {setting}" if setting else ""
        lines += ["", f"## {name}{end}", "", *summary(systems, places).markdown()]
        for place in places:
            lines += ["", f"### {place_name(place, ', ')}{end}", "", *details(systems, place).markdown()]
            same = {**dict(zip(("set", "lm", "first_pass_lm"), place, strict=False)), "setting": setting}
            points = next((d["points"] for d in content.get("detectable", []) if same.items() <= d.items()), None)
            if points is not None:
                lines += ["", f"Smallest difference that is found (p < 0.05, not corrected) in 80% of trials like these: {points:.2f} "
                              "points."]  # fmt: skip
    rows = [[name, str((t["ppl"] or {}).get("unit", "-")), perplexity(t)[0]] for name, t in content["teachers"].items()]
    lines += ["", "## Teachers", "", *Table(["teacher", "unit", "perplexity on dev"], rows).markdown()] if rows else []
    return "\n".join(lines) + "\n"


def paragraphs(content: Content) -> Iterator[str]:
    """What the figures mean, what all systems have in common, what is missing."""
    scales = POOLED_SCALES if content.get("scales") == "pooled" else OWN_SCALES
    yield ABOUT.format(resamples=content["resamples"], scales=scales) + (CORRECTED if "detectable" in content else "")
    if content["options"]:
        changed = ", ".join(f"{k} {v}" for k, v in content["options"].items())
        yield f"All systems: {content['base']} with {changed}, unless their line says else."
    for what, text in LISTS.items():
        if content.get(what):
            yield f"{text}: {by_seeds(content[what])}."


def by_seeds(names: Sequence[str]) -> str:
    """SYSTEM_SEED names grouped by seeds: 'seeds 0, 1 of a, b; seed 1 of c'."""
    seeds: dict[str, list[str]] = {}
    for system, _, seed in (name.rpartition("_") for name in names):
        seeds.setdefault(system, []).append(seed)
    groups: dict[tuple[str, ...], list[str]] = {}
    for system, numbers in seeds.items():
        groups.setdefault(tuple(numbers), []).append(system)
    return "; ".join(f"seed{'s' * (len(numbers) > 1)} {', '.join(numbers)} of {', '.join(systems)}" for numbers, systems in groups.items())


def sets(content: Content) -> list[str]:
    """Names of all sets that were decoded."""
    return sorted({r["set"] for s in content["systems"] for r in s["results"]})


def by_setting(content: Content) -> dict[str, list[System]]:
    """Setting ('' is the plain one) -> its systems, all in the plan's order."""
    return {setting: [s for s in content["systems"] if s["setting"] == setting] for setting in
            dict.fromkeys(s["setting"] for s in content["systems"])}  # fmt: skip


def sections(content: Content) -> Iterator[tuple[str, str, list[System], list[Place]]]:
    """Set, setting, the setting's systems, the graphs with which the set was decoded; those without a decode are left out."""
    for name in sets(content):
        for setting, systems in by_setting(content).items():
            if places := places_of(content, systems, name):
                yield name, setting, systems, places


def places_of(content: Content, systems: Sequence[System], name: str) -> list[Place]:
    """The graphs with which a set was decoded: in the plan's order, others behind."""
    order = {lm: n for n, lm in enumerate(content["graphs"])}
    places = {(r["set"], r["lm"], r["first_pass_lm"], r["rate"]) for s in systems for r in s["results"] if r["set"] == name}
    return sorted(places, key=lambda p: (order.get(p[1], len(order)), p[3] == "wer", p[1] != p[2], p))


def place_name(place: Place, between: str = " ") -> str:
    """'WER 4gram after 3gram'."""
    _, lm, first, rate = place
    return f"{rate.upper()}{between}{lm}{f' after {first}' if lm != first else ''}"


def result_at(system: System, place: Place) -> Result | None:
    """The system's result of one set and graph, if there is one."""
    return next((r for r in system["results"] if (r["set"], r["lm"], r["first_pass_lm"], r["rate"]) == place), None)


def versus_at(system: System, place: Place, reference: System | None) -> dict[str, Any] | None:
    """The system's difference to a reference on one set and graph, if there is one."""
    return ((result_at(system, place) or {}).get("versus") or {}).get(reference["name"]) if reference else None


def mean(r: Result) -> str:
    """Mean and interval."""
    return f"{r['mean']:.2f} [{r['ci95'][0]:.2f}, {r['ci95'][1]:.2f}]"


def summary(systems: Sequence[System], places: Sequence[Place], shown: Callable[[Place, Result], str] = lambda _, r: mean(r)) -> Table:
    """One line per system: its error rates side by side."""
    rows = []
    for s in systems:
        results = [(p, result_at(s, p)) for p in places]
        seeds = sorted({len(r["runs"]) for _, r in results if r})
        rows.append([s["name"], s["about"] or "-", "/".join(map(str, seeds)), *(shown(p, r) if r else "-" for p, r in results)])
    return Table(["system", "what", "seeds", *(f"{p[3].upper()} {p[1]}" for p in places)], rows, range(2, 3 + len(places)))


def details(systems: Sequence[System], place: Place) -> Table:
    """One line per system: errors by kind, and the comparison with each reference."""
    references = list(dict.fromkeys(r for s in systems for r in s["references"]))
    decoded = [(s, r) for s in systems if (r := result_at(s, place))]
    spread = ["within / between"] if any("within" in r for _, r in decoded) else []
    head = ["system", place[3].upper(), "each seed", *spread, "phones" if place[3] == "per" else "words", "sub", "ins", "del", "failed"]
    rows = []
    for s, r in decoded:
        parts = [f"{r['within']:.2f} / {r['between']:.2f}"] if spread else []
        rows.append([
            s["name"], mean(r), " ".join(f"{run['value']:.2f}" for run in r["runs"]), *parts, str(r["words"]),
            *(f"{r[k]:.1f}" for k in head[-4:]), *(versus(r["versus"].get(name)) for name in references),
        ])  # fmt: skip
    return Table([*head, *(f"against {name}" for name in references)], rows, range(3, len(head)))


def versus(v: dict[str, float] | None) -> str:
    """Difference, interval, relative, p."""
    if v is None:
        return "-"
    corrected = f" (Holm {v['holm']:.4f})" if "holm" in v else ""
    return f"{v['delta']:+.2f} [{v['low']:+.2f}, {v['high']:+.2f}] {v['relative']:+.1f}% p {v['p']:.4f}{corrected}"


def perplexity(teacher: Content) -> tuple[str, float | None]:
    """A teacher's perplexity on dev, as text and as a number. Of a masked teacher, which is given the units after as well, it is a
    pseudo-perplexity, which is not comparable."""
    dev = (teacher["ppl"] or {}).get("dev") or {}
    for key, kind in (("ppl", ""), ("pseudo_ppl", " (pseudo)")):
        if key in dev:
            return f"{dev[key]:.3f}{kind}", float(dev[key])
    return "-", None
