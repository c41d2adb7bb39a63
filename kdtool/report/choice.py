"""Options of make_report, and what it shows in detail.  In: ablation.json's content.  Out: systems, a set, an utterance."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median_high
from typing import Any

from kdtool.ablation.tables import Content, Place, System, by_setting, places_of, result_at, sets
from kdtool.core.errors import UsageError
from kdtool.formats.system import learns_of

RANKED = ("median", "worst")


@dataclass(frozen=True)
class Config:
    """Options of make_report."""

    data: Path | None = field(default=None, metadata={"help": "data set of the utterance to show (default: show none)"})
    feats: Path | None = field(default=None, metadata={"help": "features of that set, of the students' kind"})
    ali: Path | None = field(default=None, metadata={"help": "alignment of that set"})
    gmm: Path | None = field(default=None, metadata={"help": "GMM that made the alignment: its tree maps senones to phones"})
    lang: Path | None = field(default=None, metadata={"help": "language folder"})
    utterance: str = field(
        default="median", metadata={"help": "utterance to show: median or worst by errors per word of the two systems, or an id"}
    )
    title: str = field(default="Ablation", metadata={"help": "heading of the page"})


@dataclass(frozen=True)
class Shown:
    """What the page shows. ``root``: the folder of ablation.json; ``name``: a set, that of the picture if it was decoded, else the first.

    ``systems``: those of one setting, with its ``reference`` and the ``best`` of the ``candidates``, which learn from a teacher;
    ``bold``: names of the references and of the best of each kind.
    """

    root: Path
    content: Content
    cfg: Config
    name: str
    systems: list[System]
    reference: System | None
    best: System | None = None
    bold: tuple[str, ...] = ()
    candidates: int = 0

    @classmethod
    def choose(cls, root: Path, content: Content, cfg: Config) -> "Shown":
        """What to show of an ablation."""
        names, given = sets(content), cfg.feats.resolve().parent.name if cfg.feats else ""
        name, setting = given if given in names else names[0], setting_of(content)
        reference, systems = reference_of(content, setting), by_setting(content).get(setting, [])
        if reference is None:
            return cls(root, content, cfg, name, systems, None, bold=tuple(s["name"] for s in systems[:4]))
        learnt = [s for s in systems if taught(s)]
        kinds = [best(content, group, reference, name) for group in ([s for s in learnt if taught(s) == "main"], learnt)]
        bold = [*(s["name"] for r in content["references"] for s in systems if s["system"] == r), *(s["name"] for s in kinds if s)]
        return cls(root, content, cfg, name, systems, reference, kinds[1], tuple(dict.fromkeys(bold)), len(learnt))

    def places(self, name: str, systems: Iterable[System]) -> list[Place]:
        """The graphs with which a set was decoded, in the plan's order."""
        return places_of(self.content, list(systems), name)


def heads_of(system: System) -> list[dict[str, Any]]:
    """The auxiliary heads of a system that differ from the base's, which has none in the recipes."""
    return list(system["changed"].get("heads") or [])


def taught(system: System) -> str:
    """The head that learns from a teacher: "main", "heads" (auxiliary ones, and perhaps the main head), or "" for none."""
    recorded = [student["learns_from"] for student in system["students"] if "learns_from" in student]
    # An old ablation.json lacks this field: then from the plan's options.
    learns = recorded[0] if recorded else learns_of(system["changed"].get("main") or "ce", heads_of(system))
    return learns if learns in ("main", "heads") else ""


def relative(content: Content, system: System, reference: System, name: str) -> float | None:
    """Mean over a set's graphs of the error rate divided by the reference's; None if they have no graph in common."""
    pairs = [(result_at(system, place), result_at(reference, place)) for place in places_of(content, [reference], name)]
    shares = [result["mean"] / base["mean"] for result, base in pairs if result and base and base["mean"] > 0]
    return mean(shares) if shares else None


def best(content: Content, systems: Iterable[System], reference: System, name: str) -> System | None:
    """The system with the lowest error rates of a set relative to the reference; ties: the first."""
    rated = [(value, n, s) for n, s in enumerate(systems) if (value := relative(content, s, reference, name)) is not None]
    return min(rated, key=lambda r: r[:2])[2] if rated else None


def reference_of(content: Content, setting: str = "") -> System | None:
    """The first existing reference of a setting: cross-entropy."""
    systems = {s["name"]: s for s in content["systems"] if s["setting"] == setting}
    names = [f"{r}-{setting}" if setting else r for r in content["references"]]
    return next((systems[name] for name in names if name in systems), None)


def setting_of(content: Content) -> str:
    """The setting shown in detail: the first with a reference and a system that learns from a teacher, else with a reference, else ''."""
    settings = {setting: systems for setting, systems in by_setting(content).items() if reference_of(content, setting)}
    return next((setting for setting, systems in settings.items() if any(map(taught, systems))), next(iter(settings), ""))


def utterance(name: str, errors: Mapping[str, tuple[float, int]], lengths: Mapping[str, int]) -> str:
    """The utterance to show: 'median', 'worst' or an id; of several with the same share of errors, the one with the most typical length.

    errors: id -> (errors, reference words), all 0 if no candidate is here; lengths: frames of the candidates. UsageError: not a candidate.
    """
    if name not in RANKED:
        if name not in lengths:
            raise UsageError(f"--utterance {name}: not among the {len(lengths)} utterances that have features and an alignment; "
                             "give one of them, or median or worst")  # fmt: skip
        return name
    rates = {u: errors[u][0] / max(1, errors[u][1]) for u in lengths if u in errors} or dict.fromkeys(lengths, 0.0)
    rate = max(rates.values()) if name == "worst" else median_high(rates.values())
    usual = median_high(lengths.values())
    return min((u for u in rates if rates[u] == rate), key=lambda u: (abs(lengths[u] - usual), u))
