"""Unit tables.  In: a lang folder and a decision tree.  Out: the number of units and a digest that identifies the table.

senone: the tree's pdfs; phone: the lang's phone ids (0 is no phone and never used); subword: sentencepiece ids.
"""

import hashlib
import json

from kdtool.core.errors import KdError, UsageError
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang

UNITS = ("senone", "phone", "subword")


def check_unit(unit: str) -> None:
    """UsageError unless the unit exists."""
    if unit not in UNITS:
        raise UsageError(f"unit {unit!r}: known are {', '.join(UNITS)}")


def num_units(unit: str, lang: Lang, tree: Tree) -> int:
    """V, the number of ids of a unit (0 .. V - 1)."""
    check_unit(unit)
    if unit == "senone":
        return tree.num_pdfs
    return max((lang.phones if unit == "phone" else lang.subwords).values()) + 1


def units_digest(unit: str, lang: Lang, tree: Tree | None) -> str:
    """sha256 of the meaning of every unit id: the tree's table, the phone table, or the sentencepiece table."""
    check_unit(unit)
    if unit == "senone":
        if tree is None:
            raise KdError("senones are identified by their decision tree, and none was given")
        return tree.digest
    table = lang.phones if unit == "phone" else lang.subwords
    return hashlib.sha256(json.dumps([unit, sorted(table.items())]).encode()).hexdigest()


def check_tree_fits(lang: Lang, tree: Tree) -> None:
    """KdError unless the tree was built for this lang's phones."""
    size = max(lang.phones.values()) + 1
    # Disambiguation symbols may follow the phones in phones.txt, so the tree may know fewer ids, but never more.
    if tree.pdf_map.shape[0] > size:
        raise KdError(f"the tree knows {tree.pdf_map.shape[0]} phone ids, the lang {size}; use the lang the GMM was trained with")
