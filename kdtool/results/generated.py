"""A JSON file of scores and its Markdown tables, and the steps that collect them.

In: folders of decodes.  Out: the two files. A comment of the Markdown says how it was made (title, note, command, date, git), so that a
check can render it again. The JSON holds no time, so equal scores give equal bytes.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.cli import parse_args
from kdtool.core.environment import git_state
from kdtool.core.errors import KdError
from kdtool.core.own_file import check_file, write_own_text
from kdtool.core.tables import json_text, read_json, read_lines

_MARK = "<!-- made: "
OPTIONS = ("title", "note", "command")  # of a file's making: another one makes the file again
Render = Callable[[Any, dict[str, str]], str]


@dataclass(frozen=True)
class Options:
    """Options of a collecting step."""

    results: Path | None = field(default=None, metadata={"help": "JSON file to write (default: in the first folder)"})
    title: str = field(default="", metadata={"help": "heading of the Markdown"})
    note: str = field(default="", metadata={"help": "sentence under the heading that describes the data"})
    command: str = field(default="", metadata={"help": "command that made the results, for the record"})
    check: bool = field(default=False, metadata={"help": "true: write nothing, fail when the Markdown does not match the JSON"})


@dataclass(frozen=True)
class Collection:
    """A step that collects scores, without a completion record: its two files say what they were made from.

    ``folders``: its positional argument, name and help; ``collect``: folders and options -> content of the JSON; ``git``: first folder and
    content -> commits of the scores; ``counts``: content -> what was collected, and what to add to that message.
    """

    step: str
    options: type[Options]
    folders: tuple[str, str]
    files: tuple[str, str]
    collect: Callable[[list[Path], Any], Any]
    git: Callable[[Path, Any], str]
    render: Render
    counts: Callable[[Any], tuple[str, str]]
    description: str

    def _arguments(self, argv: list[str] | None) -> tuple[list[Path], tuple[Path, Path], Any]:
        places = [self.folders, ("markdown", f"{self.files[1]} to write")]
        paths, cfg, _ = parse_args(self.options, places, argv, prog=f"steps/{self.step}.sh", description=self.description)
        given = paths[self.folders[0].removesuffix("...")]
        roots = [given] if isinstance(given, Path) else given
        return roots, (cfg.results or roots[0] / self.files[0], paths["markdown"]), cfg

    def _made(self, root: Path, cfg: Options, content: Any) -> dict[str, str]:
        options = {name: str(getattr(cfg, name)) for name in OPTIONS}
        return {**options, "git": self.git(root, content), "date": time.strftime("%Y-%m-%d", time.gmtime())}

    def main(self, argv: list[str] | None = None) -> None:
        """Entry of the step's script."""
        roots, files, cfg = self._arguments(argv)
        if cfg.check:
            check(*files, self.render, self.step)
            return
        content = self.collect(roots, cfg)
        print(write(*files, content, self._made(roots[0], cfg, content), self.render))
        counts, more = self.counts(content)
        print(f"{self.step}: {counts} in {files[0]}, tables in {files[1]}{more}", file=sys.stderr)

    def would_run(self) -> str:
        """Why collecting would change something, '' if nothing; for a recipe's --dry-run. Making the tables takes no time."""
        roots, files, cfg = self._arguments(None)
        if not all(path.is_file() for path in files):
            return "no output yet"
        content = self.collect(roots, cfg)
        return would_change(*files, content, self._made(roots[0], cfg, content), self.render)

    def check_outputs(self) -> None:
        """UsageError when a file cannot be written where it goes; for a recipe, before its first stage."""
        for path in self._arguments(None)[1]:
            check_file(path)


def heading(made: dict[str, str]) -> list[str]:
    """Title, record, note, date and command: the first lines of every generated file."""
    # Escaped, so that the JSON cannot end its comment.
    comment = json.dumps(made, sort_keys=True).replace(">", "\\u003e")
    lines = [f"# {made['title']}", "", f"{_MARK}{comment} -->", "", *([made["note"], ""] if made["note"] else [])]
    lines.append(f"Generated {made['date']} at commit {made['git']}; do not edit by hand.")
    return [*lines, "", f"    {made['command']}"] if made["command"] else lines


def parse_made(text: str, path: Path) -> dict[str, str]:
    """The record of how a file was made, from its comment; KdError when it is not a generated file."""
    for line in text.split("\n"):
        if line.startswith(_MARK) and line.endswith(" -->"):
            try:
                return dict(json.loads(line[len(_MARK) : -len(" -->")]))
            except json.JSONDecodeError:
                break
    raise KdError(f"{path} was not generated by this toolkit, or was edited; collect again (steps/collect_results.sh, collect_ablation.sh)")


def commits(folders: Sequence[Path]) -> str:
    """The commits at which folders were made, from their env.json (or that of the folder above), else this code's."""
    records = {p / "env.json" if (p / "env.json").is_file() else p.parent / "env.json" for p in folders}
    states = sorted({str(read_json(r)["git"]) for r in records if r.is_file()})
    return ", ".join(states) or git_state()


def write(json_path: Path, markdown: Path, content: Any, made: dict[str, str], render: Render) -> str:
    """Write both files; the old record's date and commit stay if nothing else has changed. Returns the Markdown."""
    if json_path.is_file() and markdown.is_file() and not would_change(json_path, markdown, content, made, render):
        made = parse_made(_text(markdown), markdown)
    text = render(content, made)
    write_own_text(json_path, json_text(content))
    write_own_text(markdown, text)
    return text


def would_change(json_path: Path, markdown: Path, content: Any, made: dict[str, str], render: Render) -> str:
    """Why ``write`` would change something, '' if nothing."""
    try:
        same = read_json(json_path) == content
    except KdError:
        same = False  # broken, or not written by us
    if not same:
        return "changed: scores of the decodes"
    try:
        line, old = different_line(json_path, markdown, render), parse_made(_text(markdown), markdown)
    except KdError:
        return f"changed: {markdown.name} was not made by this step"
    if line:
        return f"changed: its output was altered, line {line} of {markdown.name}"
    changed = [f"option {name}" for name in OPTIONS if old.get(name) != made[name]]
    return "changed: " + ", ".join(changed) if changed else ""


def _text(path: Path) -> str:
    return "\n".join(read_lines(path)) + "\n"


def different_line(json_path: Path, markdown: Path, render: Render) -> int:
    """The first line of the Markdown that differs from the JSON and its heading; 0 if none does."""
    text = _text(markdown)
    pairs = itertools.zip_longest(render(read_json(json_path), parse_made(text, markdown)).split("\n"), text.split("\n"))
    return next((number for number, (expected, line) in enumerate(pairs, 1) if expected != line), 0)


def check(json_path: Path, markdown: Path, render: Render, step: str) -> None:
    """KdError unless the Markdown is, byte for byte, what the JSON and its heading give."""
    if line := different_line(json_path, markdown, render):
        raise KdError(f"{markdown}, line {line}: does not match {json_path}; run steps/{step}.sh, do not edit by hand")
    print(f"{step}: {markdown} matches {json_path}")
