"""Selects what the report shows in detail.  In: ablation.json's content.  Out: systems, places (set and graph), an utterance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median_high
from typing import Any

from kdtool.ablation.tables import columns, result_at
from kdtool.core.errors import UsageError
from kdtool.core.tables import read_lines
from kdtool.formats.system import learns_of

Place = tuple[str, str, str, str]  # set, lm, first_pass_lm, rate
System = dict[str, Any]
RANKED = ("median", "worst")


def sets(content: Mapping[str, Any]) -> list[str]:
    """Names of all sets that were decoded."""
    return sorted({r["set"] for s in content["systems"] for r in s["results"]})


def settings(content: Mapping[str, Any]) -> list[str]:
    """All settings, in the plan's order; '' is the plain one."""
    return list(dict.fromkeys(s["setting"] for s in content["systems"]))


def of_setting(content: Mapping[str, Any], setting: str) -> list[System]:
    """The systems of one setting, in the plan's order."""
    return [s for s in content["systems"] if s["setting"] == setting]


def places(content: Mapping[str, Any], name: str, systems: Sequence[System]) -> list[Place]:
    """The graphs with which a set was decoded, in the plan's order."""
    return columns(dict(content), systems, name)


def place_name(place: Place) -> str:
    """'WER 4gram after 3gram'."""
    _, lm, first, rate = place
    return f"{rate.upper()} {lm}{f' after {first}' if lm != first else ''}"


def heads_of(system: System) -> list[dict[str, Any]]:
    """The auxiliary heads of a system that differ from the base's, which has none in the recipes."""
    return list(system["changed"].get("heads") or [])


def learns_from_teachers(system: System) -> bool:
    """Whether its main head or an auxiliary head learns from a teacher."""
    return learns(system) in ("main", "heads")


def interpolates_only(system: System) -> bool:
    """Whether only its main head learns from a teacher."""
    return learns(system) == "main"


def learns(system: System) -> str:
    """What it learns from (kdtool.formats.system); for an old ablation.json without this field, from the plan's options."""
    known = [student["learns_from"] for student in system["students"] if "learns_from" in student]
    return known[0] if known else learns_of(system["changed"].get("main") or "ce", heads_of(system))


def relative(content: Mapping[str, Any], system: System, reference: System, name: str) -> float | None:
    """Mean over a set's graphs of the error rate divided by the reference's; None if they have no graph in common."""
    found = []
    for place in places(content, name, [reference]):
        own, base = result_at(system, place), result_at(reference, place)
        if own and base and base["mean"] > 0:
            found.append(own["mean"] / base["mean"])
    return mean(found) if found else None


def best(content: Mapping[str, Any], systems: Iterable[System], reference: System, name: str) -> System | None:
    """The system with the lowest error rates of a set relative to the reference; ties: the first."""
    rated = [(value, n, s) for n, s in enumerate(systems) if (value := relative(content, s, reference, name)) is not None]
    return min(rated, key=lambda r: r[:2])[2] if rated else None


def reference_of(content: Mapping[str, Any], setting: str = "") -> System | None:
    """The first existing reference of a setting: cross-entropy."""
    here = {s["name"]: s for s in of_setting(content, setting)}
    wanted = [f"{r}-{setting}" if setting else r for r in content["references"]]
    return next((here[r] for r in wanted if r in here), None)


def setting_of(content: Mapping[str, Any]) -> str:
    """The setting shown in detail: the first with a reference and a system that learns from a teacher, else with a reference.

    '' (the plain one) if there is none: if the plain systems are missing, a setting with systems is shown instead.
    """
    known = [s for s in settings(content) if reference_of(content, s)]
    return next((s for s in known if any(map(learns_from_teachers, of_setting(content, s)))), known[0] if known else "")


def utterance(wanted: str, errors: Mapping[str, tuple[float, int]], lengths: Mapping[str, int]) -> str:
    """The utterance to show; of several with the same share of errors, the one with the most typical length.

    Args:
        wanted: 'median', 'worst' or an id.
        errors: id -> (errors, reference words); others count as without errors if none of the candidates is here.
        lengths: frames of the candidates.

    Raises:
        UsageError: an id that is no candidate.
    """
    if wanted not in RANKED:
        if wanted not in lengths:
            raise UsageError(f"--utterance {wanted}: not among the {len(lengths)} utterances that have features and an alignment; "
                             "give one of them, or median or worst")  # fmt: skip
        return wanted
    rates = {u: errors[u][0] / max(1, errors[u][1]) for u in lengths if u in errors} or dict.fromkeys(lengths, 0.0)
    rate = max(rates.values()) if wanted == "worst" else median_high(rates.values())
    usual = median_high(lengths.values())
    return min((u for u in rates if rates[u] == rate), key=lambda u: (abs(lengths[u] - usual), u))


def words_of(per_utt: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Utterance -> (reference, hypothesis), from a decode's per_utt.tsv."""
    lines = [line.split("\t") for line in read_lines(per_utt)[1:]]
    return {f[0]: (f[7].split(), f[6].split()) for f in lines}
