"""Step make_report: an ablation -> one page with its results.

In: ablation.json, the students' curves and decodes beside it; for the picture of an utterance also a data set,
its features and alignment, the GMM that made the alignment, and the lang folder. Out: ``index.html``, which needs no network.

The page names missing parts, and shows the rest.
"""

import sys
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.core.tables import open_text, read_json
from kdtool.formats.system import read_system
from kdtool.report.choice import Config, Shown, relative, sets
from kdtool.student.encoders import code_of as encoder_code
from kdtool.teacher.registry import code_of as teacher_code

STYLE = """
h2 { border-top: 2px solid #ddd; padding-top: .8em } h3 { font-size: 1em; margin: 1.2em 0 .2em } h4 { font-size: .9em; margin: .8em 0 0 }
.scroll { overflow-x: auto } table { font-size: 13px } summary { cursor: pointer; color: #0059b3; font-size: 13px }
th { vertical-align: bottom } td.n { white-space: nowrap } small { color: #777; font-size: 11px; font-weight: normal }
"""


def inputs_of(shown: Shown) -> dict[str, Path]:
    """All inputs of the page beside ablation.json: plan, students, decodes, teacher, the picture's folders."""
    root, content, cfg = shown.root, shown.content, shown.cfg
    inputs = {"plan": root / "conf"} if (root / "conf").is_dir() else {}
    inputs |= {f"student {st['folder']}": root / st["folder"] for s in content["systems"] for st in s["students"]}
    decodes = [run["decode"] for s in (shown.reference, shown.best) if s for r in s["results"] for run in r["runs"]]
    inputs |= {f"decode {decode}": root / decode for decode in decodes}
    folders = {name: root / teacher["folder"] for name, teacher in content["teachers"].items()}
    inputs |= {f"teacher {name}": folder for name, folder in folders.items() if (folder / "teacher.json").is_file()}
    inputs |= {name: path for name in ("feats", "ali", "lang") if (path := getattr(cfg, name)) is not None}
    if cfg.gmm:
        inputs["tree"] = cfg.gmm / "tree.safetensors"
    if cfg.data:
        from kdtool.features.extract import data_inputs

        inputs |= data_inputs(cfg.data)
    return inputs


def chosen_code(inputs: dict[str, Path]) -> list[str]:
    """The code of the students' encoders and of the teachers."""
    encoders = {code for name, folder in inputs.items() if name.startswith("student ") for code in encoder_code(read_system(folder))}
    return sorted(encoders | {code for name, folder in inputs.items() if name.startswith("teacher ") for code in teacher_code(folder)})


def page(shown: Shown) -> str:
    """The whole page."""
    from kdtool.pictures import charts
    from kdtool.pictures.page import STYLE as PAGE_STYLE
    from kdtool.pictures.page import document, esc, note
    from kdtool.report import curves, gains, learnt, rates, utterance

    sections = {
        "table": ("Error rates", rates.section), "curves": ("Learning curves", curves.section),
        "sweeps": ("What was varied", rates.sweeps),
        "teachers": ("Teachers: perplexity against gain", rates.teachers),
        "learnt": ("What the soft heads learnt of their teachers", learnt.section),
        "picture": ("One utterance, as teacher, auxiliary head and main head see it", utterance.section),
        "gains": ("Which phones and words gained", gains.section),
    }  # fmt: skip
    content, title = shown.content, shown.cfg.title
    runs = sum(len(s["students"]) for s in content["systems"])
    about = f"{runs} students of {len(content['systems'])} systems, decoded on {', '.join(sets(content))}. {_about(shown)}"
    links = " · ".join(f'<a href="#{anchor}">{name}</a>' for anchor, (name, _) in sections.items())
    parts = [f'<h2 id="{anchor}">{name}</h2>{section(shown)}' for anchor, (name, section) in sections.items()]
    return document(title, [f"<h1>{esc(title)}</h1>", note(about), f"<p>{links}</p>", *parts], PAGE_STYLE + charts.STYLE + STYLE)


def _about(shown: Shown) -> str:
    """Which system is the best."""
    best, reference = shown.best, shown.reference
    if reference is None:
        return f"None of the references {', '.join(shown.content['references'])} is decoded, so nothing can be compared."
    if best is None:
        return "No system that learns from a teacher is decoded yet."
    share = relative(shown.content, best, reference, shown.name)
    change = f"{100 * (share - 1):+.1f}%" if share is not None else "unknown"
    flatter = f"Chosen from {shown.candidates} on {shown.name}: its figures there flatter it." if shown.candidates > 1 else ""
    return (f"Best of those that learn from teachers, by its error rates on {shown.name} relative to {reference['name']}'s "
            f"(mean over graphs: {change}): {best['name']}, {best['about'] or 'not described'}. {flatter}")  # fmt: skip


def make(shown: Shown, work: Path) -> None:
    """Write the page into ``work``."""
    text = page(shown)
    with open_text(work / "index.html", "w") as f:
        f.write(text)
    print(f"make_report: {len(text) / 1e6:.2f} MB", file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/make_report.sh."""
    places = [("ablation", "ablation.json; the students and decodes that it names lie beside it"), ("out", "folder to make")]
    paths, cfg, common = parse_args(Config, places, argv, prog="steps/make_report.sh", description=__doc__ or "")
    table: Path = paths["ablation"]
    if not table.is_file():
        raise KdError(f"{table}: no such file; collect the ablation first (steps/collect_ablation.sh)")
    content: dict[str, Any] = read_json(table)
    if cfg.data is not None and cfg.feats is None:
        raise UsageError("--data is for the picture of an utterance, which also needs --feats, --ali, --gmm and --lang")
    shown = Shown.choose(table.parent, content, cfg)
    kinds = {"feats": "features", "ali": "ali", "lang": "lang"}
    inputs = {"ablation": table, **inputs_of(shown)}
    run_step(
        "report", out=paths["out"], inputs=inputs, options=cfg, code=("kdtool.report.make", *chosen_code(inputs)), common=common,
        body=lambda work: make(shown, work),
        doors=[door(kind, p) for name, kind in kinds.items() if (p := getattr(cfg, name)) is not None],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
