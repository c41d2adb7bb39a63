"""Options of make_report, and the systems that it shows in detail."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.report.choice import System, best, interpolates_only, learns_from_teachers, of_setting, reference_of, sets, setting_of

PICTURE = ("data", "feats", "ali", "gmm", "lang")


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
class Chosen:
    """What is shown in detail: ``name`` a set, the reference, the best of the ``candidates``, which learn from a teacher, and, in
    ``bold``, the references and the best of each kind."""

    name: str
    reference: System | None
    best: System | None
    bold: list[str]
    candidates: int = 0


def choose(content: dict[str, Any], feats: Path | None) -> Chosen:
    """The systems, of one setting, and the set: the picture's if it was decoded, else the first."""
    known = sets(content)
    given = feats.resolve().parent.name if feats else ""
    name = given if given in known else known[0]
    setting = setting_of(content)
    reference, systems = reference_of(content, setting), of_setting(content, setting)
    if reference is None:
        return Chosen(name, None, None, [s["name"] for s in systems][:4])
    learnt = [s for s in systems if learns_from_teachers(s)]
    found = best(content, learnt, reference, name)
    kinds = [best(content, [s for s in learnt if interpolates_only(s)], reference, name), found]
    bold = [*(s["name"] for r in content["references"] for s in systems if s["system"] == r), *(s["name"] for s in kinds if s)]
    return Chosen(name, reference, found, list(dict.fromkeys(bold)), len(learnt))


def phone_teacher(root: Path, content: dict[str, Any], chosen: Chosen) -> Path | None:
    """The phone teacher of the best system (else of the reference); None if there is none on disk."""
    system = chosen.best or chosen.reference
    name = (system or {"teachers": {}})["teachers"].get("phone", "")
    folder = root / content["teachers"][name]["folder"] if name in content["teachers"] else None
    return folder if folder is not None and (folder / "teacher.json").is_file() else None
