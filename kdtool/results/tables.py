"""results.json -> the text of RESULTS.md.  In: result objects and the record of their making.  Out: Markdown, deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdtool.results.generated import heading, table

COUNTS = ("utterances", "words", "sub", "ins", "del", "failed")


def render(results: Sequence[dict[str, Any]], made: dict[str, str]) -> str:
    """The whole of RESULTS.md.

    Args:
        results: the content of results.json, in reporting order.
        made: title, note, command, date, git; also stored in a comment, so that a check can render the file again.
    """
    lines = heading(made)
    lines += ["", "LM scale and prior scale of each half of the speakers are chosen on the other half, out of ranges that are constants of "
              f"the decode step, as is the LM scale of its search. {_tuned(results)}"
              "Phone error rates are against the phones of the forced alignment "
              "given as reference. In brackets: 95% bootstrap interval over utterances (10,000 resamples)."]  # fmt: skip
    for name in sorted({r["set"] for r in results}):
        here = [r for r in results if r["set"] == name]
        lines += ["", f"## {name}", "", *summary(here)]
        for rate, label in (("per", "Phone error rate"), ("wer", "Word error rate")):
            for lm in _lms(here, rate):
                rows = [r for r in here if r["lm"] == lm and r[rate] is not None]
                lines += ["", f"### {label}, {lm}", "", *details(rows, rate)]
    return "\n".join(lines) + "\n"


def _tuned(results: Sequence[dict[str, Any]]) -> str:
    """A sentence per set whose scales were chosen on another one."""
    pairs = sorted({(r["set"], r["tuned_on"]) for r in results if "tuned_on" in r})
    return "".join(f"Those of {name} are the best ones on all of {other}: nothing was chosen on {name}. " for name, other in pairs)


def _lms(results: Sequence[dict[str, Any]], rate: str) -> list[str]:
    """LM names with this rate, first passes before rescored ones."""
    return sorted({r["lm"] for r in results if r[rate] is not None}, key=lambda lm: (any(
        r["lm"] == lm and r["first_pass_lm"] != lm for r in results), lm))  # fmt: skip


def summary(results: Sequence[dict[str, Any]]) -> list[str]:
    """One line per system: its error rates side by side."""
    columns = [("per", lm) for lm in _lms(results, "per")] + [("wer", lm) for lm in _lms(results, "wer")]
    systems: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in results:
        systems.setdefault((r["system"], _seed(r)), []).append(r)
    rows = []
    for (system, seed), own in systems.items():
        cells = []
        for rate, lm in columns:
            match = [r for r in own if r["lm"] == lm and r[rate] is not None]
            cells.append(" / ".join(_rate(r, rate) for r in match) or "-")
        rows.append([system, describe(own[0]), seed, *cells])
    return table(["system", "objective", "seed", *(f"{rate.upper()} {lm}" for rate, lm in columns)], rows)


def details(results: Sequence[dict[str, Any]], rate: str) -> list[str]:
    """One line per decode: counts by kind, scales, comparison with the baseline."""
    unit = "words" if rate == "wer" else "phones"
    penalty = any(s["penalty"] for r in results for s in r["scales"])
    scales_head = "scales (LM, prior, penalty)" if penalty else "scales (LM, prior)"
    head = ["system", rate.upper(), "utterances", unit, "sub", "ins", "del", "failed", scales_head, "against baseline"]
    rows = []
    for r in results:
        scales = " / ".join(_scales(s, penalty) for s in r["scales"])
        rows.append([r["system"], _rate(r, rate), *(str(r[k]) for k in COUNTS), scales, _versus(r)])
    return table(head, rows)


def _scales(scales: dict[str, float], penalty: bool) -> str:
    return ", ".join(f"{scales[k]:g}" for k in ("lm_scale", "prior_scale", *(["penalty"] if penalty else [])))


def describe(result: dict[str, Any]) -> str:
    """The loss in words, with the auxiliary heads."""
    heads = [f"{h['unit']}@{h['layer']} {h['kind']} {_weight(h['weight'])}" for h in result.get("heads") or []]
    return " ".join([str(result["objective"]), *([f"({', '.join(heads)})"] if heads else [])])


def _weight(weight: Any) -> str:
    """A number, or the values of a schedule [[share of the updates, weight], ..]."""
    return " to ".join(f"{w:g}" for _, w in weight) if isinstance(weight, list) else f"{weight:g}"


def _seed(result: dict[str, Any]) -> str:
    return "-" if result.get("seed") is None else str(result["seed"])


def _rate(result: dict[str, Any], rate: str) -> str:
    low, high = result["ci95"]
    return f"{result[rate]:.2f} [{low:.2f}, {high:.2f}]"


def _versus(result: dict[str, Any]) -> str:
    versus = result.get("vs_baseline")
    if not versus:
        return "-"
    return f"{versus['delta']:+.2f} [{versus['low']:+.2f}, {versus['high']:+.2f}] vs {versus['system']}"
