"""The command of a step that makes a folder from others.  In: its inputs, options and function.  Out: the folder (core/step.py)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from kdtool.core.cli import parse_args
from kdtool.core.inputs import door
from kdtool.core.step import run_step

C = TypeVar("C")


@dataclass(frozen=True)
class Input:
    """A folder that a step reads. record: its name in the record; help: for --help; check: the validator that looks at it before the step
    runs (kdtool.core.inputs), None for none; beside: other inputs that the validator compares it with; file: the one file that counts, ''
    for the whole folder."""

    record: str
    help: str
    check: str | None = None
    beside: tuple[str, ...] = ()
    file: str = ""

    def called(self, text: str) -> "Input":
        """The same with another help text."""
        return replace(self, help=text)


FEATS = Input("features", "feature folder", "features")
LANG = Input("lang", "lang folder", "lang")
ALI = Input("alignment", "10 ms alignment", "ali")
GMM = Input("gmm", "GMM folder", "model")
TREE = Input("tree", "folder with a chain tree", file="tree.safetensors")


def step_main(
    name: str, config: type[C], inputs: Mapping[str, Input], out: str, body: Callable[[dict[str, Path], Path, C, int], None],
    argv: Sequence[str] | None, *, code: str, description: str, resolve: Callable[[C], C] = lambda cfg: cfg, prog: str = "",
) -> None:  # fmt: skip
    """Parse the command line (None: of this process) and run the step.

    inputs: by the names of their positional arguments; out: the help text of the output; body(paths, work, config, nj) makes it in `work`;
    code: the step's module; resolve: turns options that depend on the machine into what is done; prog: the script, steps/NAME.sh if ''.
    """
    places = [*((key, one.help) for key, one in inputs.items()), ("out", out)]
    paths, given, common = parse_args(config, places, argv, prog=prog or f"steps/{name}.sh", description=description)
    cfg = resolve(given)
    run_step(
        name, out=paths["out"], inputs={one.record: paths[key] / one.file for key, one in inputs.items()}, options=cfg, code=(code,),
        body=lambda work: body(paths, work, cfg, common.nj), common=common,
        doors=[door(one.check, paths[key], **{k: paths[k] for k in one.beside}) for key, one in inputs.items() if one.check],
    )  # fmt: skip
