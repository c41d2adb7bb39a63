"""Step: a corpus with a Lhotse recipe.  In: its name in Lhotse, its folder.  Out: a Kaldi data folder per part of the corpus.

The recipe `lhotse.recipes.prepare_NAME` lists recordings and transcripts; they are written as wav.scp, segments,
text and utt2spk with times to the microsecond, and then imported like any Kaldi folder (kdtool/corpus/kaldi_import.py), which
decodes the audio and accounts for each utterance.
"""

import inspect
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import write_lines
from kdtool.formats.rows import id_fault

WHOLE = "all"  # the part of a corpus that Lhotse does not divide
Manifests = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Options of the step."""

    name: str = field(default="", metadata={"help": "the corpus in Lhotse: librispeech for lhotse.recipes.prepare_librispeech; needed"})
    arguments: dict[str, Any] = field(default_factory=dict, metadata={"help": "further arguments of that function, e.g. {mic: ihm}"})


def recipes() -> dict[str, Callable[..., Any]]:
    """Lhotse's recipes by the names of their corpora."""
    import lhotse.recipes

    found = {name.removeprefix("prepare_"): getattr(lhotse.recipes, name) for name in dir(lhotse.recipes) if name.startswith("prepare_")}
    return {name: recipe for name, recipe in sorted(found.items()) if callable(recipe)}


def check_arguments(cfg: Config) -> Callable[..., Any]:
    """The recipe; UsageError when Lhotse has none of this name, or it does not take the arguments."""
    known = recipes()
    if cfg.name not in known:
        raise UsageError(f"--name {cfg.name!r}: Lhotse prepares no such corpus; it has {', '.join(known)}")
    parameters = inspect.signature(known[cfg.name]).parameters
    if unknown := sorted(set(cfg.arguments) - set(parameters) | {"output_dir"} & set(cfg.arguments)):
        raise UsageError(f"--arguments: prepare_{cfg.name} takes no {unknown[0]}; it has {', '.join(list(parameters)[1:])}")
    return known[cfg.name]


def parts_of(manifests: Any, name: str = "") -> Iterator[tuple[str, Manifests]]:
    """(part, manifests) of what a recipe returns: at any depth, the names joined by underscores."""
    if not isinstance(manifests, dict):
        return
    if "recordings" in manifests:
        if manifests.get("supervisions") is not None:
            yield name or WHOLE, manifests
        return
    for key, inner in manifests.items():
        yield from parts_of(inner, f"{name}_{key}" if name else str(key))


def write_part(folder: Path, manifests: Manifests) -> int:
    """Write one part's Kaldi folder; returns the number of its utterances. KdError: an id for no table, a recording that is no file."""
    folder.mkdir()
    tables: dict[str, list[str]] = {"wav.scp": [], "segments": [], "text": [], "utt2spk": []}
    channels: dict[str, int] = {}
    for recording in sorted(manifests["recordings"], key=lambda r: r.id):
        sources = [s for s in recording.sources if s.type == "file"]
        if len(sources) != 1 or len(recording.sources) != 1:
            found = f"{len(recording.sources)} sources, {len(sources)} of them files"
            raise KdError(f"recording {recording.id}: {found}; one file expected")
        channels[recording.id] = len(sources[0].channels)
        path = os.path.abspath(sources[0].source)
        tables["wav.scp"].append(f"{recording.id} {f'cat {shlex.quote(path)} |' if path.endswith('|') else path}")
    ids = [*channels]
    for row in sorted(manifests["supervisions"], key=lambda s: s.id):
        speaker = row.speaker or row.recording_id  # Lhotse may not know the speaker
        ids += [row.id, speaker]
        channel = row.channel if isinstance(row.channel, int) else row.channel[0]
        more = f" {channel}" if channels.get(row.recording_id, 1) > 1 else ""
        tables["segments"].append(f"{row.id} {row.recording_id} {row.start:.6f} {row.end:.6f}{more}")
        tables["text"].append(f"{row.id} {' '.join((row.text or '').split())}")
        tables["utt2spk"].append(f"{row.id} {speaker}")
    if faults := [fault for name in ids if (fault := id_fault(name))]:
        raise KdError(f"{faults[0]}; Kaldi's tables cannot hold it")
    for name, lines in tables.items():
        write_lines(folder / name, lines)
    return len(tables["text"])


def prepare(corpus: Path, recipe: Callable[..., Any], cfg: Config, work: Path) -> None:
    """Write a folder per part below `work`."""
    given = dict(cfg.arguments)
    if "output_dir" in inspect.signature(recipe).parameters:
        given["output_dir"] = work / "manifests"  # some recipes require it
        given["output_dir"].mkdir()
    try:
        parts = dict(parts_of(recipe(corpus, **given)))
    except (AssertionError, ValueError, LookupError, TypeError, OSError, RuntimeError, ImportError) as e:
        # Third-party code: each recipe reports an unexpected folder in another way.
        what = " ".join(str(e).split()) or "no reason given"
        raise KdError(f"{corpus}: Lhotse's recipe {cfg.name} failed: {type(e).__name__}: {what}; is it the folder that it expects?") from e
    if not parts:
        raise KdError(f"{corpus}: Lhotse's recipe {cfg.name} found no part with transcripts; is it the folder that the recipe expects?")
    for name, manifests in parts.items():
        count = write_part(work / name.replace("-", "_"), manifests)
        print(f"{cfg.name}: part {name.replace('-', '_')}: {count} utterances, {len(manifests['recordings'])} recordings")
    shutil.rmtree(work / "manifests", ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    positionals = [("corpus", "folder of the corpus"), ("out", "folder to make, with a Kaldi data folder per part")]
    paths, cfg, common = parse_args(Config, positionals, argv, prog="local/lhotse/prepare_data.sh", description=__doc__ or "")
    recipe = check_arguments(cfg)
    if not paths["corpus"].is_dir():
        raise KdError(f"{paths['corpus']}: no such folder; give the folder of the corpus")
    run_step(
        f"lhotse {cfg.name}", out=paths["out"], inputs={"corpus": paths["corpus"]}, common=common,
        options={"name": cfg.name, "arguments": cfg.arguments, "place": os.path.abspath(paths["corpus"])},
        code=("local.lhotse.prepare_data",), body=lambda work: prepare(Path(os.path.abspath(paths["corpus"])), recipe, cfg, work),
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
