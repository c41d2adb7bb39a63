"""Inspects, verifies and exports teachers' posteriors.  In: dumps.  Out: a description; arrays, Arrow, Lhotse.

    kdtool posteriors inspect DUMP [--utterance ID] [--lang LANG]   describe it; with an utterance, its units and their posteriors
    kdtool posteriors verify DUMP ...                               check every shard's digest and content; one line per problem
    kdtool posteriors export DUMP ... OUT --format FORMAT           safetensors, npy, arrow, lhotse

Exit status: 0 fine, 1 problems, 2 wrong usage. `kdtool posteriors inspect --help` and so on list the options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import UsageError
from kdtool.posteriors.dense import ExportConfig

PROG = "kdtool posteriors"
FORMATS = ("safetensors", "npy", "arrow", "lhotse")


@dataclass(frozen=True)
class InspectConfig:
    """Options of inspect."""

    utterance: str = field(default="", metadata={"help": "show this utterance's units"})
    lang: Path | None = field(default=None, metadata={"help": "lang folder that names phones and subwords"})
    top: int = field(default=5, metadata={"help": "number of most likely units shown per row"})


def inspect(argv: Sequence[str]) -> int:
    """Print the description of a dump."""
    from kdtool.posteriors.inspect import describe, describe_utterance, unit_names

    paths, cfg, _ = parse_args(InspectConfig, [("dump", "dump folder")], argv, prog=f"{PROG} inspect", description=__doc__ or "")
    from kdtool.posteriors.dump import PosteriorDump

    if cfg.top < 1:
        raise UsageError(f"--top {cfg.top}: at least 1")
    dump = PosteriorDump.open(paths["dump"])
    names = unit_names(dump, cfg.lang)
    lines = describe_utterance(dump, cfg.utterance, names, cfg.top) if cfg.utterance else describe(dump)
    print("\n".join(lines))
    return 0


def verify(argv: Sequence[str]) -> int:
    """Check dumps; returns the exit status."""
    from kdtool.core.findings import Level
    from kdtool.core.inputs import validate

    @dataclass(frozen=True)
    class NoOptions:
        """None."""

    paths, _, _ = parse_args(NoOptions, [("dumps...", "dump folders")], argv, prog=f"{PROG} verify", description=__doc__ or "")
    bad = 0
    for folder in paths["dumps"]:
        report = validate("dump", folder, Level.DEEP)
        for kind, item, file, found, wanted in report.rows():
            print(f"{kind}: {item}: {file}: {found}{f', expected {wanted}' if wanted else ''}")
        bad += bool(report.problems)
        print(f"{folder}: {'not sound' if report.problems else 'sound'}{f' ({report.summary})' if report.summary else ''}")
    return 1 if bad else 0


def export(argv: Sequence[str]) -> int:
    """Write dumps in another format."""
    from kdtool.core.inputs import door
    from kdtool.core.step import run_step
    from kdtool.posteriors.export import needs, write

    positionals = [("dumps...", "dump folders (several for lhotse only)"), ("out", "folder to make")]
    paths, cfg, common = parse_args(ExportConfig, positionals, argv, prog=f"{PROG} export", description=__doc__ or "")
    dumps, out = paths["dumps"], paths["out"]
    if cfg.format not in FORMATS or cfg.dtype not in ("float16", "float32") or cfg.storage not in ("numpy", "dump"):
        raise UsageError(f"--format {cfg.format} --dtype {cfg.dtype} --storage {cfg.storage}: known are {', '.join(FORMATS)}; "
                         "float16, float32; numpy, dump")  # fmt: skip
    if (cfg.format == "lhotse") != (cfg.data is not None) or (cfg.format != "lhotse" and len(dumps) > 1):
        raise UsageError("--format lhotse wants --data and takes several dumps; the other formats take one dump and no --data")
    if cfg.ali and not cfg.frames:
        raise UsageError("--ali tells how many frames there are: it goes with --frames")
    needs(cfg.format)
    inputs = {f"dump{n}": folder for n, folder in enumerate(dumps)}
    inputs |= {name: path for name, path in (("ali", cfg.ali), ("data", cfg.data)) if path}
    run_step(
        f"export {' '.join(d.name for d in dumps)}", out=out, inputs=inputs, options=cfg, code=("kdtool.posteriors.export",),
        body=lambda work: write(dumps, work, out, cfg), common=common, doors=[door("dump", d) for d in dumps],
    )  # fmt: skip
    return 0


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
