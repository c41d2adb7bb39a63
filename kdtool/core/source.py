"""The code version of a step.  In: its entry modules.  Out: one digest per part of the source that decides its result.

The modules' imports inside kdtool are followed, including those inside functions and those named in strings (job arrays), so that no
list has to be kept by hand. C++ beside a module under the same name belongs to it. Left out, so that the toolkit
can grow without making earlier results stale:

* ``kdtool.core`` and ``kdtool.validate``: they carry and judge results, they do not make them;
* comments, layout, docstrings, imports for type checkers only;
* registries (``NAME = Registry(..)``, kdtool.core.registry): the step names its chosen entries, "module:attribute";
* in classes of options (dataclasses called *Config, *Options or *Spec) the fields with defaults and, if the class is
  frozen, ``__post_init__``, which can only raise errors. Each default is a part, FILE:CLASS.FIELD: a changed or removed one
  counts, an added one does not, unless it differs from the first one, given by metadata={"before": FIRST} (kdtool.core.state).
  The step's own options count by their values.
"""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from kdtool.core.digest import combine

LOADED = Path(__file__).resolve().parents[2]
ROOT = LOADED  # a test may set another copy
NOT_CODE = ("kdtool.core", "kdtool.validate")
NAME = re.compile(r"kdtool(?:\.\w+)+")
SUFFIXES = (".py", ".cc")
OPTIONS = re.compile(r"\w*(Config|Options|Spec)")
DEFAULT = ".py:"  # marks a default in the name of a part
Parts = dict[str, str]
Defaults = dict[str, tuple[str, str]]  # CLASS.FIELD -> source of its default, and of the first one


def code_parts(entries: Iterable[str], options: Any = None) -> Parts:
    """Part -> digest of all source that decides a result; defaults of ``options``, the step's dataclass of options, are no parts.

    entries: modules, packages, or chosen entries of registries ("module:attribute" with its traits).
    """
    entries = [*entries]
    parts = {entry: "" for entry in entries if ":" in entry}
    waiting = [file for entry in entries for file in _files(entry.partition(":")[0])]
    excluded = _classes_of(options)
    found: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        digest, named, defaults = _read(file, file.stat().st_mtime_ns)
        name = str(file.relative_to(ROOT))
        parts[name] = digest
        for field, (default, first) in defaults.items():
            if (file, field.partition(".")[0]) not in excluded:
                parts[f"{name}:{field}"] = combine([default])
                if default != first:
                    parts[f"{name}, no longer {first}: {field}"] = ""
        waiting += [f for n in named if not n.startswith(NOT_CODE) for f in _files(n)]
    return dict(sorted(parts.items()))


def changed_parts(old: Parts, new: Parts) -> list[str]:
    """Names of changed parts; an added default is not a change."""
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name) and (name in old or DEFAULT not in name)]


def _classes_of(options: Any) -> set[tuple[Path, str]]:
    """File and name of the classes of these options."""
    if not dataclasses.is_dataclass(options):
        return set()
    files = {c.__qualname__: getattr(sys.modules.get(c.__module__), "__file__", None) for c in inspect.getmro(type(options))}
    places = {name: Path(file).resolve() for name, file in files.items() if file}
    return {(ROOT / place.relative_to(LOADED), name) for name, place in places.items() if place.is_relative_to(LOADED)}


@cache
def _read(file: Path, _time: int) -> tuple[str, set[str], Defaults]:
    """Digest of one file, its imported modules, its defaults; cached, for checking many steps in one process."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return combine([text]), set(), {}
    tree = ast.parse(text, str(file))
    tree.body = [node for node in tree.body if not _is_left_out(node)]
    defaults = take_defaults(tree)
    for node in ast.walk(tree):  # docstrings
        body = node.body if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else []
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
            body.pop(0)
    return combine([ast.dump(tree)]), _named(tree), defaults


def _is_left_out(node: ast.stmt) -> bool:
    """Whether a top-level statement is a registry, or imports for type checkers only."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Registry"


def take_defaults(tree: ast.Module) -> Defaults:
    """Remove from a module's classes of options the fields with a default, and pure checks; returns the defaults."""
    return {f"{node.name}.{name}": both for node in tree.body if isinstance(node, ast.ClassDef) and OPTIONS.fullmatch(node.name)
            and _decorated(node, "dataclass") for name, both in _take_fields(node).items()}  # fmt: skip


def _decorated(node: ast.ClassDef, word: str) -> bool:
    return any(word in ast.dump(decorator) for decorator in node.decorator_list)


def _take_fields(node: ast.ClassDef) -> Defaults:
    stays: list[ast.stmt] = []
    defaults: Defaults = {}
    for part in node.body:
        both = _default(part.value) if isinstance(part, ast.AnnAssign) else None
        if both and isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            defaults[part.target.id] = both
        elif not (_decorated(node, "frozen") and isinstance(part, ast.FunctionDef) and part.name == "__post_init__"
                  and "__setattr__" not in ast.dump(part)):  # fmt: skip
            stays.append(part)  # all but the check of a frozen dataclass, which cannot change a field without object.__setattr__
    node.body = stays
    return defaults


def _default(value: ast.expr | None) -> tuple[str, str] | None:
    """Source of a field's default and of the first one; None if there is none. Help texts etc. do not count."""
    if not (isinstance(value, ast.Call) and getattr(value.func, "id", getattr(value.func, "attr", "")) == "field"):
        return (ast.unparse(value), ast.unparse(value)) if value else None
    given = {k.arg: k.value for k in value.keywords}
    default = given.get("default", given.get("default_factory"))
    if default is None:
        return None
    metadata = [*ast.walk(given["metadata"])] if "metadata" in given else []
    before = [n.value for n in metadata if isinstance(n, ast.keyword) and n.arg == "before"]
    before += [v for n in metadata if isinstance(n, ast.Dict) for k, v in zip(n.keys, n.values, strict=True)
               if isinstance(k, ast.Constant) and k.value == "before"]  # fmt: skip
    return ast.unparse(default), ast.unparse((before or [default])[0])


def _files(name: str) -> list[Path]:
    """Source files of a module with the __init__ of its packages, or all files of a package; none for other names."""
    place = ROOT.joinpath(*name.split("."))
    if place.is_dir():
        return sorted(f for suffix in SUFFIXES for f in place.rglob(f"*{suffix}"))
    module = place.with_suffix(".py")
    if not module.exists():
        return []
    files = [f for suffix in SUFFIXES if (f := place.with_suffix(suffix)).exists()]
    return [*files, *(p / "__init__.py" for p in module.parents if p != ROOT and (p / "__init__.py").exists() and p.parent != ROOT)]


def _named(tree: ast.Module) -> set[str]:
    """Names of modules that the source imports or mentions; of 'from a import b' both a.b and, if that is none, a."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if NAME.fullmatch(alias.name)}
        elif isinstance(node, ast.ImportFrom) and node.module and NAME.fullmatch(node.module):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {n for n in inner if _files(n)}
            names |= modules
            if len(modules) < len(inner):  # a package imported for a name defined in it counts by its __init__ only
                names.add(f"{node.module}.__init__" if ROOT.joinpath(*node.module.split(".")).is_dir() else node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(NAME.findall(node.value))
    return names
