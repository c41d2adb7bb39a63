"""results.json -> the text of RESULTS.md.  In: result objects and the record of their making.  Out: Markdown, deterministic."""

from collections.abc import Sequence
from typing import Any

from kdtool.pictures.page import Table
from kdtool.results.generated import heading

COUNTS = ("utterances", "words", "sub", "ins", "del", "failed")
Results = Sequence[dict[str, Any]]


def render(results: Results, made: dict[str, str]) -> str:
    """The whole of RESULTS.md.

    Args:
        results: the content of results.json, in reporting order.
        made: title, note, command, date, git; also stored in a comment, so that a check can render the file again.
    """
    tuned = sorted({(r["set"], r["tuned_on"]) for r in results if "tuned_on" in r})
    lines = [*heading(made), "", "LM scale and prior scale of each half of the speakers are chosen on the other half, out of ranges that "
             "are constants of the decode step, as is the LM scale of its search. "
             + "".join(f"Those of {name} are the best ones on all of {other}: nothing was chosen on {name}. " for name, other in tuned)
             + "Phone error rates are against the phones of the forced alignment "
             "given as reference. In brackets: 95% bootstrap interval over utterances (10,000 resamples)."]  # fmt: skip
    for name in sorted({r["set"] for r in results}):
        rows = [r for r in results if r["set"] == name]
        lines += ["", f"## {name}", "", *summary(rows)]
        for rate, label in (("per", "Phone error rate"), ("wer", "Word error rate")):
            for lm in _lms(rows, rate):
                lines += ["", f"### {label}, {lm}", "", *details([r for r in rows if r["lm"] == lm and r[rate] is not None], rate)]
    return "\n".join(lines) + "\n"


def _lms(results: Results, rate: str) -> list[str]:
    """LM names with this rate, first passes before rescored ones."""
    rescored = {r["lm"] for r in results if r["lm"] != r["first_pass_lm"]}
    return sorted({r["lm"] for r in results if r[rate] is not None}, key=lambda lm: (lm in rescored, lm))


def summary(results: Results) -> list[str]:
    """One line per system: its error rates side by side."""
    columns = [(rate, lm) for rate in ("per", "wer") for lm in _lms(results, rate)]
    systems: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in results:
        systems.setdefault((r["system"], "-" if r.get("seed") is None else str(r["seed"])), []).append(r)
    rows = []
    for (system, seed), decodes in systems.items():
        cells = [[_rate(r, rate) for r in decodes if r["lm"] == lm and r[rate] is not None] for rate, lm in columns]
        rows.append([system, describe(decodes[0]), seed, *(" / ".join(cell) or "-" for cell in cells)])
    return Table(["system", "objective", "seed", *(f"{rate.upper()} {lm}" for rate, lm in columns)], rows).markdown()


def details(results: Results, rate: str) -> list[str]:
    """One line per decode: counts by kind, scales, comparison with the baseline."""
    scales = {"lm_scale": "LM", "prior_scale": "prior"}
    if any(s["penalty"] for r in results for s in r["scales"]):
        scales["penalty"] = "penalty"
    head = ["system", rate.upper(), "utterances", "words" if rate == "wer" else "phones", *COUNTS[2:],
            f"scales ({', '.join(scales.values())})", "against baseline"]  # fmt: skip
    rows = []
    for r in results:
        points = " / ".join(", ".join(f"{s[k]:g}" for k in scales) for s in r["scales"])
        v = r.get("vs_baseline")
        against = f"{v['delta']:+.2f} [{v['low']:+.2f}, {v['high']:+.2f}] vs {v['system']}" if v else "-"
        rows.append([r["system"], _rate(r, rate), *(str(r[k]) for k in COUNTS), points, against])
    return Table(head, rows).markdown()


def describe(result: dict[str, Any]) -> str:
    """The loss in words, with the auxiliary heads."""
    heads = [f"{h['unit']}@{h['layer']} {h['kind']} {_weight(h['weight'])}" for h in result.get("heads") or []]
    return " ".join([str(result["objective"]), *([f"({', '.join(heads)})"] if heads else [])])


def _weight(weight: Any) -> str:
    """A number, or the values of a schedule [[share of the updates, weight], ..]."""
    return " to ".join(f"{w:g}" for _, w in weight) if isinstance(weight, list) else f"{weight:g}"


def _rate(result: dict[str, Any], rate: str) -> str:
    low, high = result["ci95"]
    return f"{result[rate]:.2f} [{low:.2f}, {high:.2f}]"
