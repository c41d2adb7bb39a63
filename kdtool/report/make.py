"""Step make_report: an ablation -> one page with its results.

In: ablation.json, the students' curves and decodes beside it; for the picture of an utterance also a data set,
its features and alignment, the GMM that made the alignment, and the lang folder. Out: ``index.html``, which needs no network.

The page names missing parts, and shows the rest.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.core.tables import open_text, read_json
from kdtool.formats.system import read_system
from kdtool.report.choice import places, relative, sets
from kdtool.report.config import PICTURE, Chosen, Config, choose
from kdtool.student.encoders import code_of as encoder_code
from kdtool.teacher.registry import code_of as teacher_code

PAGE = "index.html"


def inputs_of(root: Path, content: dict[str, Any], cfg: Config) -> dict[str, Path]:
    """All inputs of the page beside ablation.json: plan, students, decodes, teacher, the picture's folders."""
    found: dict[str, Path] = {}
    if (root / "conf").is_dir():
        found["plan"] = root / "conf"
    chosen = choose(content, cfg.feats)
    for system in content["systems"]:
        found |= {f"student {st['folder']}": root / st["folder"] for st in system["students"]}
    for system in (chosen.reference, chosen.best):
        for run in (run for r in (system["results"] if system else []) for run in r["runs"]):
            found[f"decode {run['decode']}"] = root / run["decode"]
    folders = {name: root / teacher["folder"] for name, teacher in content["teachers"].items()}
    found |= {f"teacher {name}": folder for name, folder in folders.items() if (folder / "teacher.json").is_file()}
    return {**found, **{n: p for n in PICTURE if (p := getattr(cfg, n)) is not None and n not in ("gmm", "data")},
            **({"tree": cfg.gmm / "tree.safetensors"} if cfg.gmm else {}), **(_data_inputs(cfg.data) if cfg.data else {})}  # fmt: skip


def _data_inputs(data: Path) -> dict[str, Path]:
    from kdtool.features.extract import data_inputs

    return data_inputs(data)


def chosen_code(inputs: dict[str, Path]) -> list[str]:
    """The code of the students' encoders and of the teachers."""
    entries: set[str] = set()
    for name, folder in inputs.items():
        if name.startswith("student "):
            entries |= {*encoder_code(read_system(folder))}
        elif name.startswith("teacher "):
            entries |= {*teacher_code(folder)}
    return sorted(entries)


def page(root: Path, content: dict[str, Any], cfg: Config) -> str:
    """The whole page."""
    from kdtool.pictures import charts
    from kdtool.pictures.page import STYLE, document, esc
    from kdtool.report import curves, learnt, sweeps, tables, utterance

    chosen = choose(content, cfg.feats)
    names = {"table": "Error rates", "curves": "Learning curves", "sweeps": "What was varied", "teachers": "Teachers",
             "learnt": "What heads learnt", "picture": "One utterance", "gains": "Phones and words"}  # fmt: skip
    runs = sum(len(s["students"]) for s in content["systems"])
    parts = [
        f"<h1>{esc(cfg.title)}</h1>",
        f'<p class="note">{runs} students of {len(content["systems"])} systems, decoded on {esc(", ".join(sets(content)))}. '
        f"{_about(content, chosen)}</p>",
        "<p>" + " · ".join(f'<a href="#{k}">{v}</a>' for k, v in names.items()) + "</p>",
        tables.section(content), curves.section(root, content, chosen.bold, chosen.best), sweeps.section(content), sweeps.teachers(content),
        learnt.section(root, content, learnt.opened(cfg)), utterance.section(root, content, chosen, cfg), gains(root, content, chosen),
    ]  # fmt: skip
    return document(cfg.title, parts, STYLE + charts.STYLE + OWN_STYLE)


OWN_STYLE = """
h2 { border-top: 2px solid #ddd; padding-top: .8em } h3 { font-size: 1em; margin: 1.2em 0 .2em } h4 { font-size: .9em; margin: .8em 0 0 }
.scroll { overflow-x: auto } table { font-size: 13px } summary { cursor: pointer; color: #0059b3; font-size: 13px }
th { vertical-align: bottom } td.n { white-space: nowrap } small { color: #777; font-size: 11px; font-weight: normal }
"""


def _about(content: dict[str, Any], chosen: Chosen) -> str:
    from kdtool.pictures.page import esc

    if chosen.reference is None:
        return f"None of the references {esc(', '.join(content['references']))} is decoded, so nothing can be compared."
    if chosen.best is None:
        return "No system that learns from a teacher is decoded yet."
    share = relative(content, chosen.best, chosen.reference, chosen.name)
    change = f"{100 * (share - 1):+.1f}%" if share is not None else "unknown"
    return (
        f"Best of those that learn from teachers, by its error rates on {esc(chosen.name)} relative to {esc(chosen.reference['name'])}'s "
        f"(mean over graphs: {change}): {esc(chosen.best['name'])}, {esc(chosen.best['about'] or 'not described')}. "
        + (f"Chosen from {chosen.candidates} on {esc(chosen.name)}: its figures there flatter it." if chosen.candidates > 1 else "")
    )


def gains(root: Path, content: dict[str, Any], chosen: Chosen) -> str:
    """Phones and words with gains, on each set: the first phone graph and the last word graph."""
    from kdtool.pictures.page import esc
    from kdtool.report.gains import section

    parts = ['<h2 id="gains">Which phones and words gained</h2>']
    if chosen.reference is None or chosen.best is None:
        return parts[0] + '<p class="note">The reference, or a system that learns from a teacher, is not decoded yet.</p>'
    parts.append(f'<p class="note">{esc(chosen.best["name"])} against {esc(chosen.reference["name"])}. Counts are means over seeds; a '
                 "token that occurs seldom says little.</p>")  # fmt: skip
    for name in sets(content):
        found = places(content, name, [chosen.reference])
        wanted = [p for p in found if p[3] == "per"][:1] + [p for p in found if p[3] == "wer"][-1:]
        parts += [section(root, chosen.reference, chosen.best, p) for p in wanted]
    return "\n".join(parts)


def make(root: Path, content: dict[str, Any], cfg: Config, work: Path) -> None:
    """Write the page into ``work``."""
    text = page(root, content, cfg)
    with open_text(work / PAGE, "w") as f:
        f.write(text)
    print(f"make_report: {len(text) / 1e6:.2f} MB", file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/make_report.sh."""
    places_ = [("ablation", "ablation.json; the students and decodes that it names lie beside it"), ("out", "folder to make")]
    paths, cfg, common = parse_args(Config, places_, argv, prog="steps/make_report.sh", description=__doc__ or "")
    table: Path = paths["ablation"]
    if not table.is_file():
        raise KdError(f"{table}: no such file; collect the ablation first (steps/collect_ablation.sh)")
    root, content = table.parent, read_json(table)
    if cfg.data is not None and cfg.feats is None:
        raise UsageError("--data is for the picture of an utterance, which also needs --feats, --ali, --gmm and --lang")
    kinds = {"feats": "features", "ali": "ali", "lang": "lang"}
    inputs = {"ablation": table, **inputs_of(root, content, cfg)}
    run_step(
        "report", out=paths["out"], inputs=inputs, options=cfg, code=("kdtool.report.make", *chosen_code(inputs)), common=common,
        body=lambda work: make(root, content, cfg, work),
        doors=[door(kind, p) for name, kind in kinds.items() if (p := getattr(cfg, name)) is not None],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
