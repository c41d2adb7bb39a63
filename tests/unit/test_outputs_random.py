"""Random files in, above, below and beside an output, then a step: no byte of a user's file is ever lost.

KD_SITUATIONS=2000 KD_SEED=1: how many situations, and from which seed (default: 150 from seed 0, a few seconds).
Each user's file has unique content. After a step with exit status 2 the tree is as it was; after any other end, a kill
included, each content is where it was or in a backup. The step is a stand-in that writes a few files; what is drawn is
what run_step finds: outputs of every kind and state, interrupted runs, links, nested steps, inputs that touch the output.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from kdtool.core import step as step_module
from kdtool.core.cli import Common
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step

SITUATIONS, SEED = int(os.environ.get("KD_SITUATIONS", "150")), int(os.environ.get("KD_SEED", "0"))
NAMES = ("out", "result", "more", "log", "notes.txt", ".hidden", "data", "wav", ".out.work", ".out.old", ".out.backup.1", ".out.lock",
         ".out.lock.owner", ".done.json", ".key.json", "env.json", "config.yaml", "nested", ".nested.work", ".nested.old", "job.log", "a b",
         "\u00e9")  # fmt: skip
HELPER = re.compile(r"\.(out|elsewhere)\.(?:old|work)(?=/)")


def body(content: str) -> Callable[[Path], None]:
    def write(work: Path) -> None:
        for place in ("result", "more/deep", "log/job.log", ".hidden"):
            (work / place).parent.mkdir(exist_ok=True)
            (work / place).write_text(content)

    return write


class Situation:
    """A tree below `root` with an output place, and what the user has in it."""

    def __init__(self, root: Path, draw: random.Random) -> None:
        self.root, self.draw, self.number = root, draw, itertools.count()
        self.out = root / draw.choice(["out", "work/out", "work/deep/out"])
        self.inputs: dict[str, Path] = {}

    def user_file(self, path: Path) -> None:
        """A user's file with unique content, replacing an old one; skipped where no file can be."""
        if path.is_dir() or any(os.path.lexists(p) and not p.is_dir() for p in path.parents) or path.is_symlink():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"user {next(self.number)}" + "x" * self.draw.randrange(3))

    def make(self, out: Path, name: str = "toy", content: str = "a", **more: bool) -> None:
        run_step(name, out=out, inputs={}, options={"content": content}, code=(), body=body(content), common=Common(**more))

    def some_place(self, near: Path) -> Path:
        """A name below `near`, up to three deep."""
        return near.joinpath(*self.draw.choices(NAMES, k=self.draw.choice([1, 1, 1, 2, 2, 3])))

    def build(self) -> None:
        """An output in some state, files of the user's, links, what an interrupted run leaves."""
        draw, out = self.draw, self.out
        out.parent.mkdir(parents=True, exist_ok=True)
        state = self.make_output()
        for _ in range(draw.choice([0, 1, 1, 2, 3, 6])):
            self.user_file(self.some_place(draw.choice([out, out, out, out.parent, self.root, self.root / "elsewhere"])))
        if draw.random() < 0.3:
            self.link(self.some_place(draw.choice([out, out.parent])))
        if draw.random() < 0.2 and out.is_dir():
            self.touch_up()
        self.interrupt(state)
        if state == "damaged" and (out / ".done.json").is_file():
            (out / ".done.json").write_text(draw.choice(["", "{}", "[", '{"name": "another x"}']))
        self.draw_inputs()

    def make_output(self) -> str:
        draw, out = self.draw, self.out
        state = draw.choice(["absent", "empty", "own", "own", "own", "own", "other", "file", "link", "dangling", "damaged", "old", "work"])
        if state in ("own", "damaged", "old", "work"):
            self.make(out)
            if draw.random() < 0.4:
                self.make(out / "nested")
            if draw.random() < 0.2:
                shutil.copytree(out / "nested" if (out / "nested").exists() else out, out.parent / "copy")
        elif state == "other":
            self.make(out, name="another")
        elif state == "empty":
            out.mkdir()
        elif state == "file":
            self.user_file(out)
        elif state in ("link", "dangling"):
            out.symlink_to(os.path.relpath(self.root / "elsewhere", out.parent))
            if state == "link" and draw.random() < 0.5:
                self.make(self.root / "elsewhere")
        return state

    def link(self, place: Path) -> None:
        if not os.path.lexists(place) and place.parent.is_dir():
            place.symlink_to(self.draw.choice([self.root / "elsewhere", self.root, self.out, Path("nowhere")]))

    def touch_up(self) -> None:
        """Change a result of the toolkit, with its size and time as recorded."""
        results = [p for p in sorted(self.out.rglob("*")) if p.is_file() and p.read_bytes() == b"a"]
        if results:
            path = self.draw.choice(results)
            time = path.stat().st_mtime_ns
            path.write_text("U")
            os.utime(path, ns=(time, time))

    def interrupt(self, state: str) -> None:
        """What a killed run leaves: the old output moved away, a new one half made."""
        old, work = (self.out.with_name(f".out.{kind}") for kind in ("old", "work"))
        if state == "old" and self.out.is_dir() and not os.path.lexists(old):
            self.out.rename(old)
        if state == "work" and not os.path.lexists(work):
            work.mkdir()
            if self.draw.random() < 0.7:
                (work / ".key.json").write_text('{"inputs": {}, "options": {"content": "b"}, "code": ""}')
                (work / "half").write_text("half made")

    def draw_inputs(self) -> None:
        sources = [self.out, self.out / "result", self.out / "nested", self.out.parent, *(self.root / n for n in (".", "wav", "elsewhere"))]
        for n in range(self.draw.choice([0, 0, 0, 1, 1, 2])):
            self.inputs[f"source{n}"] = self.draw.choice([p for p in sources if p.exists()])


def contents(root: Path) -> dict[str, list[str]]:
    """Content of the user's files -> where it is; links are not followed."""
    found: dict[str, list[str]] = {}
    for place, _, files in os.walk(root):
        for name in files:
            path = Path(place, name)
            if not path.is_symlink() and (text := path.read_text(errors="replace")).startswith(("user", "U")):
                found.setdefault(text, []).append(str(path.relative_to(root)))
    return found


def whole_tree(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(place, name)
            found[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def run(situation: Situation, content: str, *, force: bool, kill: int = 0) -> int:
    """Make the output in a child (killed before its n-th change of the file system); the exit status, -9 when it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 99
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        if kill:
            kill_at(kill)
        options, common = {"content": content}, Common(force=force)
        run_step("toy", out=situation.out, inputs=situation.inputs, options=options, code=(), body=body(content), common=common)
        status = 0
    except UsageError:
        status = 2
    except (KdError, OSError):
        status = 1
    finally:
        os._exit(status)


def kill_at(operation: int) -> None:
    left = [operation]

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*args: object, **more: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **more)

        return counting

    for name in ("rename", "rmdir", "unlink", "mkdir", "replace"):
        setattr(os, name, counted(getattr(os, name)))


def moved_or_kept(before: dict[str, list[str]], root: Path) -> None:
    """Each of the user's contents is where it was, or in a backup (where an interrupted swap moves what it had put away, as it was)."""
    after = contents(root)
    for content, places in before.items():
        assert content in after, f"{content!r} of {places} is lost"
        for place in set(places) - set(after[content]):
            assert any(".backup." in now or is_swapped(place, now) for now in after[content]), f"{place} is now {after[content]}"


def is_swapped(before: str, now: str) -> bool:
    """Whether a file moved between an output and its hidden helpers."""
    return HELPER.sub(r"\1", before) == HELPER.sub(r"\1", now)


def check(seed: int, root: Path) -> list[int]:
    """Build a situation, run the step one to three times; the exit statuses."""
    draw, statuses = random.Random(seed), []
    root.mkdir()
    situation = Situation(root, draw)
    situation.build()
    for _ in range(draw.choice([1, 2, 3])):
        before, tree = contents(root), whole_tree(root)
        kill = draw.choice([0, 0, draw.randrange(1, 40)])
        status = run(situation, draw.choice(["a", "b"]), force=draw.random() < 0.3, kill=kill)
        assert status in ((0, 1, 2, -signal.SIGKILL) if kill else (0, 1, 2)), f"status {status}"
        if status == 2:
            assert whole_tree(root) == tree, "refused, but not untouched"
        moved_or_kept(before, root)
        statuses.append(status)
        if draw.random() < 0.5 and situation.out.is_dir():
            situation.user_file(situation.some_place(situation.out))
    return statuses


def test_no_byte_of_the_user_s_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(step_module, "environment", lambda: {"python": "", "packages": {}, "git": ""})  # asks git each time
    statuses: Counter[int] = Counter()
    for seed in range(SEED, SEED + SITUATIONS):
        root = tmp_path / "root"
        try:
            statuses.update(check(seed, root))
        except AssertionError as e:
            raise AssertionError(f"seed {seed}: {e}; KD_SEED={seed} KD_SITUATIONS=1 shows it alone") from e
        shutil.rmtree(root)
    with capsys.disabled():
        print(f"\n{SITUATIONS} random outputs, runs by exit status: {dict(sorted(statuses.items()))}")
    assert min(statuses[0], statuses[2], statuses[-signal.SIGKILL]) > SITUATIONS // 20
