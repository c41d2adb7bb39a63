"""Named choices of a user.  In: name -> "module:attribute".  Out: the chosen object, imported on first use.

    ENCODERS: Registry[type[Encoder]] = Registry("encoder", {"tdnn": "kdtool.student.encoders.tdnn:Tdnn", ..})

A new line makes no record stale: the code version of a step (kdtool.core.source) leaves out all statements
``NAME = Registry(..)``, and does not follow their modules. Instead the step names the chosen entries, ``*ENCODERS.code("tdnn")``,
in its ``code``. So entries are text, not imports, and a registry is a top-level statement of its module.
"""

import importlib
from collections.abc import Collection, Iterator, Mapping
from typing import Generic, TypeVar

from kdtool.core.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """``what``: the word for an entry, in messages. ``entries``: their text. ``traits``: trait -> names of the entries that have it."""

    def __init__(self, what: str, entries: Mapping[str, str], **traits: Collection[str]) -> None:
        self.what, self.entries, self.traits = what, dict(entries), {trait: tuple(names) for trait, names in traits.items()}

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self.entries[self.check(name)].partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def check(self, name: str) -> str:
        """``name`` if the entry exists, else UsageError."""
        if name not in self.entries:
            raise UsageError(f"no {self.what} '{name}'; there are: {', '.join(sorted(self.entries))}")
        return name

    def code(self, *names: str) -> tuple[str, ...]:
        """The ``code`` entries of a step that has chosen these names; UsageError on an unknown name."""
        traits = {name: [t for t, having in self.traits.items() if name in having] for name in map(self.check, names)}
        return tuple(" ".join([self.entries[name], *traits[name]]) for name in names)
