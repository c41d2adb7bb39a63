"""Options of a step.  In: a frozen dataclass (its fields are the options) and the command line.  Out: paths and config.

Order of precedence: command line, then --config files (YAML; later files win, key by key), then the dataclass's defaults.
Nothing is evaluated: YAML is read by the safe loader, and unknown keys are errors.
"""

import argparse
import dataclasses
import errno
import os
import select
import signal
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kdtool.core.children import STOPS
from kdtool.core.errors import KdError, UsageError
from kdtool.core.names import escaped, is_utf8

C = TypeVar("C")
BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
CONFIG_HELP = "YAML file with values for these options, or one section of it; may be repeated, the last one wins"
# An error that the user can fix, so no traceback.
SPACE, RIGHTS = "free space, or choose another disk", "fix its permissions, or choose another place"
USERS_TO_FIX = {
    errno.ENOSPC: SPACE, errno.EDQUOT: SPACE, errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EACCES: RIGHTS, errno.EROFS: RIGHTS, errno.EPERM: RIGHTS,
    errno.EEXIST: "remove it, or choose another path", errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EISDIR: "a file was expected there, not a folder; check the path", errno.ENOENT: "check the path",
    errno.EIO: "check the disk, and make or fetch the file again", errno.ELOOP: "a link leads to itself; remove it",
    errno.ENAMETOOLONG: "choose a shorter name", errno.EINVAL: "the disk does not take that; check the name, or choose another disk",
    errno.EILSEQ: "the disk does not take that name; rename the file, or choose another disk",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Common:
    """Options of every step."""

    nj: int = 2
    force: bool = False
    dry_run: bool = False
    wait_lock: float = 0.0


class Parser(argparse.ArgumentParser):
    """argparse with this toolkit's usage errors."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{message}\n{self.format_usage().strip()}\n--help lists the options")


def parse_args(
    config_cls: type[C], positionals: Sequence[tuple[str, str]], argv: Sequence[str] | None, *, prog: str, description: str
) -> tuple[dict[str, Any], C, Common]:
    """The positional paths by name, the config, and the common options of a step's command line; UsageError if it is wrong.

    Args:
        config_cls: frozen dataclass; fields of type int, float, str, bool, Path (or `| None`) are given as text, list and
            dict fields as YAML text.
        positionals: (name, help); a name that ends in '...' takes one or more paths.
    """
    parser = Parser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    for name, text in positionals:
        plain = name.removesuffix("...")
        parser.add_argument(plain, type=Path, help=text, nargs="+" if plain != name else None)  # type: ignore[arg-type]
    fields = {f.name: f for f in dataclasses.fields(config_cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(config_cls)
    for f in fields.values():
        default = f.default if f.default is not dataclasses.MISSING else f.default_factory()  # type: ignore[misc,operator]
        # In the user's syntax; nothing if the option is off without a value.
        shown = "" if default is None or default == "" else f" (default: {str(default).lower() if isinstance(default, bool) else default})"
        text = f"{f.metadata.get('help', '')}{shown}".strip().replace("%", "%%")
        parser.add_argument("--" + f.name.replace("_", "-"), dest="opt_" + f.name, metavar=f.name.upper(), help=text)
    parser.add_argument("--config", action="append", default=[], metavar="FILE[:SECTION]", help=CONFIG_HELP)
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    parser.add_argument("--force", action="store_true", help="run even when the output is up to date")
    parser.add_argument("--dry-run", action="store_true", help="say what would run and why, without running it")
    # A recipe passes --force and --wait-lock to its steps through the environment.
    parser.add_argument("--wait-lock", type=float, default=os.environ.get("KD_WAIT_LOCK", "0"), metavar="SECONDS",
                        help="seconds to wait for another process that makes the same folder (default: 0)")  # fmt: skip
    args = vars(parser.parse_args(argv))
    if wrong := [word for word in (sys.argv[1:] if argv is None else argv) if not is_utf8(word)]:
        raise UsageError(f"{escaped(wrong[0])}: not UTF-8, so no file could name it; rename the file or folder")
    if args["nj"] < 1:
        raise UsageError(f"--nj {args['nj']}: at least 1")
    values: dict[str, Any] = {}
    for layer in args["config"]:
        content = read_config(layer)
        if unknown := sorted(str(k) for k in content if k not in fields):
            raise UsageError(f"--config {layer}: unknown {', '.join(unknown)}; known are {', '.join(sorted(fields))}")
        values.update({k: _convert(k, v, hints[k], f"--config {layer}: {k}") for k, v in content.items()})
    for name in fields:
        if (given := args["opt_" + name]) is not None:
            values[name] = _convert(name, given, hints[name], "--" + name.replace("_", "-"))
    paths = {name.removesuffix("..."): args[name.removesuffix("...")] for name, _ in positionals}
    force = args["force"] or os.environ.get("KD_FORCE") == "true"
    return paths, config_cls(**values), Common(args["nj"], force, args["dry_run"], args["wait_lock"])


def read_config(layer: str) -> dict[str, Any]:
    """The mapping in a YAML file, or in one section of it: 'FILE', 'FILE:SECTION'; 'FILE?' may be missing.

    A missing section is empty, so that an overlay names only the steps that it changes. UsageError for anything else.
    """
    import yaml

    path, section = config_file(layer)
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if section and isinstance(content, dict):
            content = content.get(section) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise UsageError(f"--config {layer}: not plain YAML ({e})") from e
    if not isinstance(content, dict):
        raise UsageError(f"--config {layer}: 'key: value' lines expected")
    return content


def config_file(layer: str) -> tuple[Path | None, str]:
    """(file, section or '') of a layer; no file if 'FILE?' is missing; UsageError if another one is."""
    name, section = layer, ""
    optional = name.endswith("?") and not Path(name).exists()
    name = name.removesuffix("?") if optional else name
    if not Path(name).exists() and ":" in name:
        name, _, section = name.rpartition(":")
    if Path(name).is_file():
        return Path(name), section
    if not optional:
        raise UsageError(f"--config {layer}: no such file")
    return None, section


def _convert(name: str, value: Any, hint: Any, where: str) -> Any:
    """Turn text or a YAML value into the field's type."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in options and (value is None or value in ("", "none")):
        return None
    expected = next(h for h in options if h is not type(None))
    base = typing.get_origin(expected) or expected
    try:
        if base is bool:
            if str(value).lower() not in BOOLEANS:
                raise ValueError("true or false expected")
            return BOOLEANS[str(value).lower()]
        if base is int and (isinstance(value, bool) or float(value) != int(float(value))):
            raise ValueError("a whole number is expected")
        if base in (int, float, str, Path):
            return base(value)
        if base in (list, tuple, dict):
            return _structured(value, base)
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"{where} {value!r}: not a valid {base.__name__} ({e})") from e
    raise UsageError(f"{where}: fields of type {hint} are not supported")


def _structured(value: Any, base: type) -> Any:
    import yaml

    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError) as e:
            raise ValueError(f"not plain YAML: {e}") from e
    if base is dict and not isinstance(value, dict):
        raise ValueError("a YAML mapping is expected")
    if base is not dict and not isinstance(value, list):
        raise ValueError("a YAML list is expected")
    return base(value)


def cli_main(main: Callable[[], int | None]) -> typing.NoReturn:
    """Run a step's main and turn errors into one message on stderr and the agreed exit status.

    The return value of main (None is 0), 2 usage error, 1 failure, 130 interrupted; a programming error keeps its traceback (status 1).
    """
    prog = Path(sys.argv[0]).name
    for stop in STOPS:
        # Signals that the caller ignores stay ignored: INT in the background of a shell, HUP below nohup.
        if signal.getsignal(stop) is not signal.SIG_IGN:
            signal.signal(stop, _interrupt)
    try:
        status = main()
        sys.stdout.flush()
    except KdError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_status)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as e:
        if isinstance(e, BrokenPipeError) and _output_is_gone():
            print(f"error: {prog}: the reader of the output has ended, as '| head' does; run it again without that", file=sys.stderr)
            sys.exit(1)
        if e.errno not in USERS_TO_FIX:
            raise
        print(f"error: {e.filename or 'write'}: {e.strerror}; {USERS_TO_FIX[e.errno]}, then run the same command again", file=sys.stderr)
        sys.exit(1)
    sys.exit(status or 0)


def _output_is_gone() -> bool:
    """Whether standard output is a pipe without reader; if so, discard the rest of the output, so that Python's exit does not fail, too."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not any(events & select.POLLERR for _, events in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _interrupt(signum: int, frame: object) -> None:
    """End in order. A recipe signals each of its processes, so the signal may come twice: the second must not cut the clean-up short."""
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.SIG_IGN)
    raise KeyboardInterrupt
