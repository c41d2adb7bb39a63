"""Growing the decision tree of tied triphone states.

In: statistics of every (left, centre, right, state) in the training data, questions. Out: a ``Tree``, and the splits
that made it. One root per state of each phone; leaves are split greedily, best gain in likelihood first (Young, Odell and
Woodland 1994). Phones that differ only in their position in the word (a family) share a root, which the position may split.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.tables import write_jsonl
from kdtool.formats.tree import Tree, family_table
from kdtool.gmm.questions import cluster_phones, log_likelihood, question_table
from kdtool.gmm.tree_show import SPLITS_FILE
from kdtool.gmm.tree_stats import TreeStats
from kdtool.lang.lang import Lang

SIDES = ("left", "right", "itself")  # subject of a question: a neighbour, or the phone's position in the word
_COLUMN = (0, 2, 1)  # their columns in a context's key


@dataclass
class Node:
    """A place in the tree. parent: its number in the list of nodes, and whether the answer there was yes; None for roots.

    phone: the family's head; side (into SIDES), question (phone set) and gain (nats) of a node that was split; pdf of a leaf.
    """

    phone: int
    state: int
    frames: float
    parent: tuple[int, bool] | None
    side: int = -1
    question: tuple[int, ...] = ()
    gain: float = 0.0
    pdf: int = -1


@dataclass
class _Leaf:
    """A node that may be split. sets: for each of SIDES, bool (P,), the left phones, right phones and phones themselves (of one family)
    that lead here; rows: indices of its statistics; split: side, question, gain."""

    number: int
    sets: list[np.ndarray]
    rows: np.ndarray
    split: tuple[int, int, float] | None = None


def build_tree(
    stats: TreeStats, num_states: dict[int, int], sil: int, silence: set[int], *, leaves: int, min_count: float, min_gain: float,
    family: Mapping[int, int] | None = None, position_sets: Sequence[tuple[int, ...]] = (),
) -> tuple[Tree, list[tuple[int, ...]], list[Node]]:  # fmt: skip
    """Grow a tree to at most `leaves` pdfs. Silence phones are not split by context.

    family: phone id -> its family's head, itself by default; position_sets: phone sets that are also questions. A split leaves
    at least `min_count` frames on each side and gains at least `min_gain` nats. Returns the tree, the questions (phone
    sets), and all nodes, parents first.
    """
    size = max(num_states) + 1
    heads = family_table(family or {}, size)
    questions = [*_questions(stats, sorted(num_states), heads), *position_sets]
    table = question_table(questions, size, sil)
    done: list[_Leaf] = []
    nodes: list[Node] = []
    heap: list[tuple[float, int, _Leaf]] = []

    def add(phone: int, state: int, parent: tuple[int, bool] | None, sets: list[np.ndarray], rows: np.ndarray) -> None:
        leaf = _Leaf(len(nodes), sets, rows)
        nodes.append(Node(phone, state, float(stats.count[rows].sum()), parent))
        if phone not in silence:
            leaf.split = _best_split(stats, leaf, table, min_count)
        heapq.heappush(heap, (-leaf.split[2] if leaf.split else 0.0, leaf.number, leaf))

    for phone in sorted({int(heads[p]) for p in num_states}):
        itself = heads == phone
        for state in range(num_states[phone]):
            rows = np.flatnonzero(itself[stats.keys[:, 1]] & (stats.keys[:, 3] == state))
            add(phone, state, None, [np.ones(size, bool), np.ones(size, bool), itself], rows)
    while heap:
        gain, _, leaf = heapq.heappop(heap)
        if leaf.split is None or -gain < min_gain or len(done) + len(heap) + 1 >= leaves:
            done.append(leaf)
            continue
        node, (side, q, _) = nodes[leaf.number], leaf.split
        members = table[q] & leaf.sets[side] if SIDES[side] == "itself" else table[q]
        node.side, node.gain, node.question = side, -gain, tuple(p for p in np.flatnonzero(members).tolist() if p)
        yes = table[q][stats.keys[leaf.rows, _COLUMN[side]]]
        for answer in (True, False):
            sets = [s & (table[q] == answer) if n == side else s for n, s in enumerate(leaf.sets)]
            add(node.phone, node.state, (leaf.number, answer), sets, leaf.rows[yes == answer])
    return _to_tree(done, heads, max(num_states.values()), nodes), questions, nodes


def _questions(stats: TreeStats, phones: list[int], heads: np.ndarray) -> list[tuple[int, ...]]:
    """Cluster families of phones on the statistics of their states (summed over states and contexts)."""
    count, moments = np.zeros(len(heads)), np.zeros((len(heads), stats.moments.shape[1]))
    np.add.at(count, heads[stats.keys[:, 1]], stats.count)
    np.add.at(moments, heads[stats.keys[:, 1]], stats.moments)
    sets = cluster_phones(count, moments, sorted({int(heads[p]) for p in phones}))
    return [tuple(p for p in phones if heads[p] in members) for members in sets]


def _best_split(stats: TreeStats, leaf: _Leaf, table: np.ndarray, min_count: float) -> tuple[int, int, float] | None:
    """The question with the largest gain, or None."""
    rows = leaf.rows
    if stats.count[rows].sum() < 2 * min_count:
        return None
    count, moments = stats.count[rows], stats.moments[rows]
    total_count, total_moments = count.sum(), moments.sum(axis=0)
    whole = log_likelihood(total_count, total_moments)
    best: tuple[int, int, float] | None = None
    for side in range(3 if leaf.sets[2].sum() > 1 else 2):
        member = table[:, stats.keys[rows, _COLUMN[side]]].astype(np.float64)
        yes_count, yes_moments = member @ count, member @ moments
        no_count = total_count - yes_count
        gain = log_likelihood(yes_count, yes_moments) + log_likelihood(no_count, total_moments - yes_moments) - whole
        gain[(yes_count < min_count) | (no_count < min_count)] = -np.inf
        q = int(np.argmax(gain))
        if np.isfinite(gain[q]) and gain[q] > 0 and (best is None or gain[q] > best[2]):
            best = (side, q, float(gain[q]))
    return best


def _to_tree(leaves: list[_Leaf], heads: np.ndarray, depth: int, nodes: list[Node]) -> Tree:
    """Number the leaves by phone, state and their sets, so that the numbering does not depend on the order of splits."""

    def place(leaf: _Leaf) -> tuple[Any, ...]:
        left, right, itself = (tuple(~s) for s in leaf.sets)
        return nodes[leaf.number].phone, nodes[leaf.number].state, itself, left, right

    size = len(heads)
    pdf_map = np.full((size, size, size, depth), -1, np.int32)
    for pdf, leaf in enumerate(sorted(leaves, key=place)):
        left, right, itself = leaf.sets
        pdf_map[np.ix_(left, itself, right, [nodes[leaf.number].state])] = pdf
        nodes[leaf.number].pdf = pdf
    return Tree(pdf_map, heads)


def grow_tree(stats: TreeStats, lang: Lang, num_states: dict[int, int], cfg: Any, work: Path) -> tuple[Tree, int]:
    """The tree on a lang folder's phones, and the number of questions; writes questions.txt and splits.jsonl (utils/show_tree.sh).

    cfg: options of a step with leaves, min_count and min_gain.
    """
    tree, questions, nodes = build_tree(
        stats, num_states, lang.sil, lang.silence_ids, leaves=cfg.leaves, min_count=cfg.min_count, min_gain=cfg.min_gain,
        family=lang.family, position_sets=lang.position_sets,
    )  # fmt: skip
    lines = (" ".join(lang.phone_names[p] for p in members) + "\n" for members in questions)
    (work / "questions.txt").write_text("".join(lines), encoding="utf-8")
    save_nodes(work, nodes, lang.phone_names, lang.plain_names)
    return tree, len(questions)


def save_nodes(folder: Path, nodes: Sequence[Node], names: Sequence[str], plain: Sequence[str]) -> None:
    """Write splits.jsonl. names: phone by id; plain: without its position in the word, as a root represents it."""
    rows = []
    for number, n in enumerate(nodes):
        row: dict[str, Any] = {"node": number, "phone": plain[n.phone], "state": n.state, "frames": round(n.frames, 1)}
        if n.parent:
            row |= {"parent": n.parent[0], "answer": n.parent[1]}
        if n.side >= 0:
            row |= {"side": SIDES[n.side], "question": [names[p] for p in n.question], "gain": round(n.gain, 1)}
        else:
            row |= {"pdf": n.pdf}
        rows.append(row)
    write_jsonl(folder / SPLITS_FILE, rows)
