"""ablation.json -> the text of ABLATION.md.  In: its content (see kdtool.ablation.collect) and how it was made.  Out: Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdtool.results.generated import heading, table

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
    "Holm: p corrected for all comparisons of its table. Within: standard deviation of one seed's rate if other utterances were drawn; "
    "between: that of the seeds beyond it."
)
LISTS = {
    "earlier": "Taken over from an earlier table, their models are gone",
    "missing": "Not made yet",
    "stale": "Trained with other options than are planned now, so left out",
}
Result = dict[str, Any]


def render(content: dict[str, Any], made: dict[str, str]) -> str:
    """The whole of ABLATION.md; content: that of ablation.json, made: title, note, command, date, git."""
    lines = [*heading(made), "", about(content)]
    lines += ["", common(content)] if content["options"] else []
    for what, text in LISTS.items():
        if content.get(what):
            lines += ["", f"{text}: {by_seeds(content[what])}."]
    sets = sorted({r["set"] for s in content["systems"] for r in s["results"]})
    settings = list(dict.fromkeys(s["setting"] for s in content["systems"]))
    for name in sets:
        for setting in settings:
            lines += section(content, name, setting)
    return "\n".join([*lines, *teachers(content)]) + "\n"


def about(content: Mapping[str, Any]) -> str:
    """What the figures mean; tables that were collected before there was a correction do not speak of it."""
    text = ABOUT.format(resamples=content["resamples"], scales=POOLED_SCALES if content.get("scales") == "pooled" else OWN_SCALES)
    return f"{text} {CORRECTED}" if "detectable" in content else text


def common(content: Mapping[str, Any]) -> str:
    """What all systems have in common, as far as it is not the base's."""
    changed = ", ".join(f"{k} {v}" for k, v in content["options"].items())
    return f"All systems: {content['base']} with {changed}, unless their line says else."


def by_seeds(names: Sequence[str]) -> str:
    """SYSTEM_SEED names put together by seeds: 'seeds 0, 1 of a, b; seed 1 of c'."""
    seeds: dict[str, list[str]] = {}
    for system, _, seed in (name.rpartition("_") for name in names):
        seeds.setdefault(system, []).append(seed)
    groups: dict[tuple[str, ...], list[str]] = {}
    for system, own in seeds.items():
        groups.setdefault(tuple(own), []).append(system)
    return "; ".join(f"seed{'s' * (len(own) > 1)} {', '.join(own)} of {', '.join(systems)}" for own, systems in groups.items())


def section(content: dict[str, Any], name: str, setting: str) -> list[str]:
    """All tables of one set under one setting; none when nothing was decoded there."""
    systems = [s for s in content["systems"] if s["setting"] == setting]
    places = columns(content, systems, name)
    if not places:
        return []
    lines = ["", f"## {name}{', ' + setting if setting else ''}", "", *summary(systems, places)]
    for place in places:
        rate, lm = place[3].upper(), place[1]
        lines += ["", f"### {rate}, {lm}{f' after {place[2]}' if lm != place[2] else ''}{', ' + setting if setting else ''}", "",
                  *details(systems, place), *found(content, place, setting)]  # fmt: skip
    return lines


def columns(content: dict[str, Any], systems: Sequence[dict[str, Any]], name: str) -> list[tuple[str, str, str, str]]:
    """(set, lm, first_pass_lm, rate) of one set: as the plan has them, others behind."""
    order = {lm: n for n, lm in enumerate(content["graphs"])}
    places = {(r["set"], r["lm"], r["first_pass_lm"], r["rate"]) for s in systems for r in s["results"] if r["set"] == name}
    return sorted(places, key=lambda p: (order.get(p[1], len(order)), p[3] == "wer", p[1] != p[2], p))


def result_at(system: dict[str, Any], place: tuple[str, str, str, str]) -> Result | None:
    """The system's result of one set and graph, if there is one."""
    return next((r for r in system["results"] if (r["set"], r["lm"], r["first_pass_lm"], r["rate"]) == place), None)


def summary(systems: Sequence[dict[str, Any]], places: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """One line a system: its error rates side by side."""
    rows = []
    for s in systems:
        found = [result_at(s, p) for p in places]
        seeds = sorted({len(r["runs"]) for r in found if r})
        rows.append([s["name"], s["about"] or "-", "/".join(map(str, seeds)), *(mean(r) if r else "-" for r in found)])
    return table(["system", "what", "seeds", *(f"{p[3].upper()} {p[1]}" for p in places)], rows)


def found(content: dict[str, Any], place: tuple[str, str, str, str], setting: str) -> list[str]:
    """What the comparisons of one table can find; nothing where that is not known."""
    same = {"set": place[0], "lm": place[1], "first_pass_lm": place[2], "setting": setting}
    points = next((d["points"] for d in content.get("detectable", []) if same.items() <= d.items()), None)
    if points is None:
        return []
    return ["", f"Smallest difference that is found (p < 0.05, not corrected) in 80% of trials like these: {points:.2f} points."]


def details(systems: Sequence[dict[str, Any]], place: tuple[str, str, str, str]) -> list[str]:
    """One line a system: errors by kind, and the comparison with each reference."""
    references = list(dict.fromkeys(r for s in systems for r in s["references"]))
    unit = "phones" if place[3] == "per" else "words"
    rows, parts = [], any("within" in r for s in systems if (r := result_at(s, place)))
    for s in systems:
        if (r := result_at(s, place)) is None:
            continue
        kinds = [f"{r[k]:.1f}" for k in ("sub", "ins", "del", "failed")]
        each = " ".join(f"{run['value']:.2f}" for run in r["runs"])
        spread = [f"{r['within']:.2f} / {r['between']:.2f}"] if parts else []
        rows.append([s["name"], mean(r), each, *spread, str(r["words"]), *kinds, *(versus(r["versus"].get(name)) for name in references)])
    spread = ["within / between"] if parts else []
    head = ["system", place[3].upper(), "each seed", *spread, unit, "sub", "ins", "del", "failed"]
    return table([*head, *(f"against {name}" for name in references)], rows)


def mean(r: Result) -> str:
    """Mean and interval."""
    return f"{r['mean']:.2f} [{r['ci95'][0]:.2f}, {r['ci95'][1]:.2f}]"


def versus(v: dict[str, float] | None) -> str:
    """Difference, interval, relative, p."""
    if v is None:
        return "-"
    corrected = f" (Holm {v['holm']:.4f})" if "holm" in v else ""
    return f"{v['delta']:+.2f} [{v['low']:+.2f}, {v['high']:+.2f}] {v['relative']:+.1f}% p {v['p']:.4f}{corrected}"


def teachers(content: dict[str, Any]) -> list[str]:
    """What the teachers know: perplexity a unit on dev."""
    rows = []
    for name, teacher in content["teachers"].items():
        dev = (teacher["ppl"] or {}).get("dev") or {}
        # Of a masked teacher, which is given the units after as well, it is called pseudo-perplexity.
        shown = f"{dev['ppl']:.3f}" if "ppl" in dev else f"{dev['pseudo_ppl']:.3f} (pseudo)" if "pseudo_ppl" in dev else "-"
        rows.append([name, str((teacher["ppl"] or {}).get("unit", "-")), shown])
    return ["", "## Teachers", "", *table(["teacher", "unit", "perplexity on dev"], rows)] if rows else []
