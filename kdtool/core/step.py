"""The only way to make an output.  In: a step's inputs, options and code.  Out: its folder, complete or not at all.

A step writes into a hidden folder beside its output, which is renamed at the end; the record `.done.json` inside says what
it was made from. Run again: if nothing changed, 'up to date'; else it says what changed and runs again. A folder that the
step did not make is refused (kdtool.core.ownership); a user's changes to the output are kept (kdtool.core.keep).

    exp/tri/              the output           exp/.tri.work/   the new one while it is made (.key.json: from what)
    exp/tri/.done.json    its record           exp/.tri.old/    the old one, while the new one takes its place
    exp/.tri.lock         held while it is made    exp/.tri.backup.1/   the user's changes to it
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtool.core.cli import Common
from kdtool.core.digest import RECORD, Stats, folder_stats, read_record, stats_digest
from kdtool.core.environment import environment
from kdtool.core.errors import KdError, name_file
from kdtool.core.keep import other_stats, remove_work, retire
from kdtool.core.lock import Lock
from kdtool.core.ownership import check_output
from kdtool.core.parts import JOBS, forget, salvage
from kdtool.core.progress import clock
from kdtool.core.slurm_calls import settle
from kdtool.core.state import KEY, Key, Step, is_whole, key_of, same, why
from kdtool.core.tables import write_json

# Set by kdtool.core.stages: it gets the step, and nothing is done.
planner: Callable[[Step], None] | None = None


def run_step(
    name: str, *, out: Path, inputs: Mapping[str, Path], options: Any, code: Sequence[str], body: Callable[[Path], None],
    common: Common, resumable: bool = False, doors: Sequence[Callable[[], None]] = (),
) -> bool:  # fmt: skip
    """Make `out` by calling `body(work)`, unless it is up to date.

    Args:
        name: the step's name for messages.
        out: the folder to make.
        inputs: what it is made from, by name: files, folders, other steps' folders. Counted by content.
        options: the step's config dataclass. Fields of type Path, and those with metadata {"key": False}, do not count; options that
            depend on the machine ("auto") are resolved first, so that the record says what was done.
        code: modules or packages whose source, with all that they import, counts as the code version: ("kdtool.decode.decode",);
            also the entries chosen from registries, *ENCODERS.code("tdnn").
        body: writes the output into the given folder.
        resumable: hand an interrupted run's folder back to `body` if nothing changed, instead of an empty one.
        doors: checks of the inputs (kdtool.core.inputs.door), called only if the step runs, before anything is made.

    Returns True when it ran, False when it was up to date.

    Raises:
        UsageError: the output was not made by this kind of step, or the output is, contains or lies inside an input.
        KdError: an input is missing, was altered or changed during the run, another process makes the same folder, or `body` failed.
    """
    step = Step(name, Path(os.path.abspath(out)), inputs, options, code, body, resumable)
    if planner is not None:
        planner(step)
        return False
    if step.out.is_symlink():  # moved to another disk: make and lock the new one there, keep the link
        step = dataclasses.replace(step, out=Path(os.path.realpath(step.out)))
    check_output(step)
    sources: Stats = {}
    reason = why(step, step.key(sources), common.force)
    if common.dry_run:
        print(f"{name}: {f'would run ({reason})' if reason else 'up to date'}", flush=True)
        return False
    if reason or step.old.exists():
        step.out.parent.mkdir(parents=True, exist_ok=True)
        with Lock(step.lock, str(step.out), common.wait_lock):
            # Checked again under the lock: another process may have made it meanwhile.
            check_output(step)
            key = step.key(sources)
            _finish_interrupted_swap(step, key)
            reason = why(step, key, common.force)
            if reason:
                print(f"{name}: runs ({reason})", flush=True)
                for door in doors:
                    door()
                seconds = _make(step, key, sources, common.force)
                print(f"{name}: done in {clock(seconds)}", flush=True)
                return True
    print(f"{name}: up to date", flush=True)
    return False


def _make(step: Step, key: Key, sources: Stats, force: bool) -> float:
    """Run the body, write the record, put the output in place; returns the seconds that it took."""
    work = step.work
    _prepare_work(step, key, force)
    start = time.monotonic()
    try:
        step.body(work)
        changed = {n for n, d in step.key(sources)["inputs"].items() if d != key["inputs"][n]}
        if changed:
            forget(work)  # jobs may have seen different content
            raise KdError(f"{step.name}: changed while the step ran: input {', '.join(sorted(changed))}; run the same command again")
        _write_record(step, key, sources, time.monotonic() - start)
    except OSError as e:
        name_file(e, work)
        raise
    _swap(step)
    return time.monotonic() - start


def _prepare_work(step: Step, key: Key, force: bool) -> None:
    if step.work.exists():
        settle(step.work / "log" / JOBS)
        goes_on = same(key_of(step.work), key) and not force
        if goes_on and step.resumable:
            print(f"an interrupted run with the same inputs and options is resumed in {step.work}", file=sys.stderr)
            return
        if goes_on:
            salvage(step.work, [KEY])
            return
        if read_record(step.work):  # complete, but not in place: a user may have added notes
            retire(step.name, step.work, step.out)
        else:
            remove_work(step.work)
    step.work.mkdir()
    write_json(step.work / KEY, key)


def _write_record(step: Step, key: Key, sources: Stats, seconds: float) -> None:
    """Write the last file: from now on the folder counts as complete."""
    import yaml

    work, options = step.work, step.options
    resolved = dataclasses.asdict(options) if dataclasses.is_dataclass(options) else options  # type: ignore[arg-type]
    text = yaml.safe_dump({n: str(v) if isinstance(v, Path) else v for n, v in resolved.items()}, sort_keys=False, allow_unicode=True)
    (work / "config.yaml").write_text(text, encoding="utf-8")
    write_json(work / "env.json", environment())
    forget(work)
    outputs = folder_stats(work, {})
    if not outputs:
        raise KdError(f"{step.name}: finished without making any file in {work}; this is a bug in the step, please report it")
    finished = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    record = {"name": step.name, "key": key, "outputs": outputs, "digest": stats_digest(outputs), "sources": sources}
    whose = {"kind": step.kind, "place": step.out.name, "others": other_stats(work, outputs)}
    write_json(work / RECORD, {**record, **whose, "seconds": round(seconds, 1), "finished": finished})


def _swap(step: Step) -> None:
    """Put the new folder in place, whichever part of this an interrupted run has already done."""
    out, work, old = step.out, step.work, step.old
    if work.exists():
        (work / KEY).unlink(missing_ok=True)
        if os.path.lexists(out):
            retire(step.name, old, out)
            os.rename(out, old)
        os.rename(work, out)
    if os.path.lexists(old):
        _retire_old(step)


def _retire_old(step: Step) -> None:
    """Remove the old output; nested steps' folders come along if their inputs are the same."""
    before, now = read_record(step.old), read_record(step.out)
    if before and now and before["digest"] == now["digest"]:
        for child in sorted(step.old.iterdir()):
            if child.is_dir() and (child / RECORD).exists() and not (step.out / child.name).exists():
                os.rename(child, step.out / child.name)
    retire(step.name, step.old, step.out)


def _finish_interrupted_swap(step: Step, key: Key) -> None:
    """After a kill between a run's record and the end of its renames: put a complete result in place, else put the old one back."""
    if is_whole(step.work, key) and not is_whole(step.out, key):
        print(f"{step.name}: an interrupted run had finished it", flush=True)
        _swap(step)
    elif step.old.exists() and not step.out.exists():
        os.rename(step.old, step.out)
    elif step.old.exists():
        _retire_old(step)
