"""Findings of a validator.  In: one call per faulty item.  Out: a line per class of problem, and a table of all items."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

EXAMPLES = 3
UNREADABLE = "unreadable"  # the class of files that cannot be read or do not fit each other
COLUMNS = ("class", "item", "file", "found", "expected")


class Level(IntEnum):
    """How much is read: DOOR almost nothing (before each step), FULL all tables and headers, DEEP all content."""

    DOOR = 0
    FULL = 1
    DEEP = 2


@dataclass(frozen=True)
class Class:
    """A class of problem, or of warning, which is reported but no error."""

    meaning: str  # what is wrong, in words
    fix: str  # the command or action that fixes it; {folder} is the checked folder
    warning: bool = False


@dataclass(frozen=True)
class Item:
    """One faulty item: an utterance, a line, a tensor; its file, the value found and the expected one."""

    name: str
    file: str
    found: str
    expected: str

    def __str__(self) -> str:
        words = ", ".join(filter(None, [self.found, self.expected and f"expected {self.expected}"]))
        return f"{self.name} ({words})" if words else self.name


class Report:
    """All findings about one folder, by class."""

    def __init__(self, folder: Path, classes: Mapping[str, Class]) -> None:
        self.folder, self.summary = folder, ""
        self._classes = classes
        self._items: dict[str, list[Item]] = {}

    def add(self, name: str, item: object, file: object = "", found: object = "", expected: object = "") -> None:
        """Add an item of class `name`, which must be one of the validator's classes."""
        assert name in self._classes, name
        self._items.setdefault(name, []).append(Item(str(item), str(file), str(found), str(expected)))

    def items(self, name: str) -> list[Item]:
        """The items of a class, in order of discovery."""
        return self._items.get(name, [])

    @property
    def found(self) -> list[str]:
        """Names of the classes that have items: problems first, then warnings."""
        return sorted(self._items, key=lambda n: (self._classes[n].warning, list(self._classes).index(n)))

    @property
    def problems(self) -> list[str]:
        """Names of the classes that are not only warnings."""
        return [n for n in self.found if not self._classes[n].warning]

    def line(self, name: str) -> str:
        """A class's name, number of items, meaning, first examples, fix."""
        kind, items = self._classes[name], self._items[name]
        first = "; ".join(_flat(str(i)) for i in items[:EXAMPLES]) + ("; .." if len(items) > EXAMPLES else "")
        head = "warning" if kind.warning else "problem"
        return f"{head}: {name}: {len(items)} x {kind.meaning}: {first}; fix: {kind.fix.format(folder=self.folder)}"

    def rows(self) -> list[tuple[str, ...]]:
        """All items as rows of COLUMNS, problems first."""
        return [(name, i.name, i.file, i.found, i.expected) for name in self.found for i in self._items[name]]


def _flat(text: str) -> str:
    """The text on one line, even if a broken id or transcript holds control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def write_items(path: Path, report: Report) -> None:
    """The table of all items as TSV; a tab, a line end or a control character inside a field is written as an escape."""
    from kdtool.core.own_file import write_own_text

    lines = ["\t".join(COLUMNS), *("\t".join(_flat(cell.replace("\\", "\\\\")) for cell in row) for row in report.rows())]
    write_own_text(path, "".join(f"{line}\n" for line in lines))
