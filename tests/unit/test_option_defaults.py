"""First defaults of all options: a record without an option was made with the option's first default (kdtool.core.state).

`python tests/unit/test_option_defaults.py --write` enters options that are new in option_defaults.tsv, and strikes out those that are gone.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from kdtool.core.source import ROOT, take_defaults

TABLE = Path(__file__).with_name("option_defaults.tsv")


def first_defaults() -> dict[str, str]:
    """FILE:CLASS.FIELD -> source of the first default, as the code has it."""
    found = {}
    for path in sorted([*ROOT.glob("kdtool/**/*.py"), *ROOT.glob("local/**/*.py")]):
        defaults = take_defaults(ast.parse(path.read_text(encoding="utf-8")))
        found |= {f"{path.relative_to(ROOT)}:{name}": first for name, (_, first) in defaults.items()}
    return found


def entered() -> dict[str, str]:
    """The table."""
    return dict(line.split("\t", 1) for line in TABLE.read_text(encoding="utf-8").splitlines())


def test_a_changed_default_keeps_the_first_one() -> None:
    table, now = entered(), first_defaults()
    changed = [f"{n}: {table[n]} -> {now[n]}" for n in sorted({*table} & {*now}) if table[n] != now[n]]
    assert not changed, f'{changed}: add metadata {{"before": FIRST DEFAULT}}, for records that do not know the option'


def test_all_options_are_entered() -> None:
    table, now = entered(), first_defaults()
    assert sorted({*table} ^ {*now}) == [], "new or gone: python tests/unit/test_option_defaults.py --write"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {sys.argv[0]} --write")
    known = entered() if TABLE.exists() else {}
    lines = [f"{name}\t{known.get(name, first)}\n" for name, first in sorted(first_defaults().items())]
    TABLE.write_text("".join(lines), encoding="utf-8")
