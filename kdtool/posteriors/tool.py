"""Inspects, verifies and exports teachers' posteriors.  In: dumps.  Out: a description; arrays, Arrow, Lhotse.

    kdtool posteriors inspect DUMP [--utterance ID] [--lang LANG]   describe it; with an utterance, its units and their posteriors
    kdtool posteriors verify DUMP ...                               check every shard's digest and content; one line per problem
    kdtool posteriors export DUMP ... OUT --format FORMAT           safetensors, npy, arrow, lhotse

Exit status: 0 fine, 1 problems, 2 wrong usage. `kdtool posteriors inspect --help` and so on list the options.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.findings import Level
from kdtool.core.inputs import door, validate
from kdtool.core.step import run_step
from kdtool.lang.lang import Lang
from kdtool.posteriors.dump import PosteriorDump
from kdtool.posteriors.export import ExportConfig, write
from kdtool.units.table import units_digest

PROG = "kdtool posteriors"


@dataclass(frozen=True)
class InspectConfig:
    """Options of inspect."""

    utterance: str = field(default="", metadata={"help": "show this utterance's units"})
    lang: Path | None = field(default=None, metadata={"help": "lang folder that names phones and subwords"})
    top: int = field(default=5, metadata={"help": "number of most likely units shown per row"})


@dataclass(frozen=True)
class NoOptions:
    """Of verify: none."""


def inspect(argv: Sequence[str]) -> int:
    """Print the description of a dump."""
    paths, cfg, _ = parse_args(InspectConfig, [("dump", "dump folder")], argv, prog=f"{PROG} inspect", description=__doc__ or "")
    if cfg.top < 1:
        raise UsageError(f"--top {cfg.top}: at least 1")
    dump = PosteriorDump.open(paths["dump"])
    names = unit_names(dump, cfg.lang)
    lines = describe_utterance(dump, cfg.utterance, names, cfg.top) if cfg.utterance else describe(dump)
    print("\n".join(lines))
    return 0


def verify(argv: Sequence[str]) -> int:
    """Check dumps; returns the exit status."""
    paths, _, _ = parse_args(NoOptions, [("dumps...", "dump folders")], argv, prog=f"{PROG} verify", description=__doc__ or "")
    bad = 0
    for folder in paths["dumps"]:
        report = validate("dump", folder, Level.DEEP)
        for kind, item, file, found, expected in report.rows():
            print(f"{kind}: {item}: {file}: {found}{f', expected {expected}' if expected else ''}")
        bad += bool(report.problems)
        print(f"{folder}: {'not sound' if report.problems else 'sound'}{f' ({report.summary})' if report.summary else ''}")
    return 1 if bad else 0


def export(argv: Sequence[str]) -> int:
    """Write dumps in another format."""
    positionals = [("dumps...", "dump folders (several for lhotse only)"), ("out", "folder to make")]
    paths, cfg, common = parse_args(ExportConfig, positionals, argv, prog=f"{PROG} export", description=__doc__ or "")
    dumps, out = paths["dumps"], paths["out"]
    cfg.check(len(dumps))
    inputs = {f"dump{n}": folder for n, folder in enumerate(dumps)}
    inputs |= {name: path for name, path in (("ali", cfg.ali), ("data", cfg.data)) if path}
    run_step(
        f"export {' '.join(d.name for d in dumps)}", out=out, inputs=inputs, options=cfg, code=("kdtool.posteriors.export",),
        body=lambda work: write(dumps, work, out, cfg), common=common, doors=[door("dump", d) for d in dumps],
    )  # fmt: skip
    return 0


def unit_names(dump: PosteriorDump, lang: Path | None) -> list[str]:
    """A name per unit: the lang's, or its number (senones have no other). Raises KdError: the lang's units are not the dump's."""
    names = [str(i) for i in range(dump.num_units)]
    if lang is None or dump.unit == "senone":
        return names
    loaded = Lang.load(lang)
    if (own := units_digest(dump.unit, loaded, None)) != dump.meta["units_digest"]:
        made = dump.meta["units_digest"][:16]
        raise KdError(f"{dump.folder} is over {dump.unit}s {made}, {lang} has {own[:16]}; name the lang that it was made with")
    for name, number in (loaded.phones if dump.unit == "phone" else loaded.subwords).items():
        if number < len(names):
            names[number] = name
    return names


def describe(dump: PosteriorDump) -> list[str]:
    """The dump as a whole."""
    m = dump.meta
    units, frames = max(m["units"], 1), m.get("aligned_frames", m.get("frames", 0))
    row = "row" if dump.per_frame else "unit"
    rows = {
        "dump": f"{dump.folder} ({m['format']})",
        "teacher": f"{m.get('teacher_kind', '?')} over {dump.num_units} {dump.unit}s, {m.get('teacher_digest', '?')[:16]}",
        "alignment": f"{m['alignment_digest'][:16] or 'none'}, units {m['units_digest'][:16] or 'not named'}",
        "rows": f"one every {1000 * m.get('frame_shift', 0.01):g} ms, silence too" if dump.per_frame else "one per unit, silence has none",
        "temperature": f"{m.get('temperature', 1.0):g}",
        "size": f"{len(dump)} utterances, {m['units']} {row}s, {m['entries']} entries in {len(m['shards'])} shards",
        "kept": f"{m['entries'] / units:.1f} entries a {row}",
        "bytes": f"{m['bytes']}, {m['bytes'] / units:.1f} a {row} (shards {sum(s['bytes'] for s in m['shards'])}, "
                 f"coder {m['coder']['bytes']}, index {m['index']['bytes']})",
    }  # fmt: skip
    if "mean_mass_kept" in m:
        rows["kept"] += f", {m['mean_mass_kept']:.2%} of the mass, {m['nats_lost_per_unit']:.4f} nats per {row} lost"
        rows["perplexity"] = f"{math.exp(m['teacher_nats_per_unit']):.3f} ({m['unseen']} units unseen)"
    if dump.per_frame and "mean_mass_kept" in m:
        rows["labels"] = f"{m['teacher_nats_per_unit']:.4f} nats per row on average"
        del rows["perplexity"]
    if frames:
        speech = "speech" if "aligned_frames" in m or dump.per_frame else "speech without silence"
        rows["bytes"] += f"; {100.0 * m['bytes'] / frames:.0f} per second of {speech}"
    return [f"{name:12s}{text}" for name, text in rows.items()]


def describe_utterance(dump: PosteriorDump, utterance: str, names: list[str], top: int) -> list[str]:
    """One utterance, one line per unit: its frames, its posterior, the likeliest entries, and the mass of the rest."""
    post = dump.get(utterance)
    what = f"rows over {dump.unit}s" if dump.per_frame else f"{dump.unit}s"
    label = "row's label" if dump.per_frame else "unit itself"
    lines = [f"{utterance}: {len(post)} {what}; frames of 10 ms, probability of the {label} (< where it was not kept)",
             f"{'label' if dump.per_frame else 'unit':>12s} {'start':>6s} {'frames':>6s} {'p':>7s}  expected"]  # fmt: skip
    for row in range(len(post)):
        kept = slice(post.offsets[row], post.offsets[row + 1])
        ids, probs, rest = post.ids[kept], np.exp(post.logp[kept]), np.exp(post.rest_logp[row])
        place = np.flatnonzero(ids == post.unit_ids[row])
        p = f"{probs[place[0]]:.3f}" if len(place) else f"<{min(probs.min(), rest):.3f}"
        likely = "  ".join(f"{names[i]} {v:.3f}" for i, v in zip(ids[:top], probs, strict=False))
        more = f"  + {len(ids) - top} more" if len(ids) > top else ""
        lines.append(f"{names[post.unit_ids[row]]:>12s} {post.start[row]:6d} {post.length[row]:6d} {p:>7s}  {likely}{more}"
                     f"  rest {rest:.3f}")  # fmt: skip
    return lines


ACTIONS: dict[str, Callable[[Sequence[str]], int]] = {"inspect": inspect, "verify": verify, "export": export}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if argv[0] not in ACTIONS:
        raise UsageError(f"{PROG} {argv[0]}: known are {', '.join(ACTIONS)}\n\n{__doc__}")
    return ACTIONS[argv[0]](argv[1:])


if __name__ == "__main__":
    cli_main(main)
