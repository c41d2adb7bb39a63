"""A decoding graph: graph.safetensors, words.txt, meta.json.

DOOR checks every arc; FULL also checks that every state can be reached and can end, and reports arcs with positive scores.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdtool.core.findings import UNREADABLE, Class, Level, Report
from kdtool.formats.tree import Tree
from kdtool.graph.decoding_graph import GRAPH_FILE, DecodingGraph
from kdtool.graph.fst import live_states
from kdtool.lang.lang import Lang
from kdtool.validate.checks import SHOWN, check_same

AGAIN = "make the graph again (steps/make_graph.sh)"
CLASSES = {
    UNREADABLE: Class("files that are missing, damaged, or do not fit each other", AGAIN),
    "label": Class("an arc whose label is no senone, or no label at all (an epsilon)", AGAIN),
    "output": Class("an arc whose output is no word and no sequence of words", AGAIN),
    "weight": Class("an arc whose score is NaN or infinite", AGAIN),
    "states": Class("arcs that are not in the order of their states, or lead to a negative state", AGAIN),
    "final": Class("a final arc that does not lead to the last state, or another that does", AGAIN),
    "unreachable": Class("a state that no path from the start reaches", AGAIN),
    "dead-end": Class("a state that no path leads to the end from", AGAIN),
    "gain": Class("an arc that is rewarded: its probability is above 1", "make the LM and the graph again", warning=True),
    "self-loop": Class("a state that is entered by a senone which it cannot repeat", AGAIN),
    "tree": Class("a graph of another tree than the model's", "make a graph from this model's tree"),
    "lang": Class("a graph of another lang folder", AGAIN),
}
OTHERS = {"gmm": "GMM folder with the tree", "lang": "lang folder that it was made with"}
SLACK = 1e-3


def check(report: Report, folder: Path, level: Level, others: Mapping[str, Path]) -> None:
    """Check a graph folder."""
    graph = DecodingGraph.load(folder, check=False)
    report.summary = f"{graph.num_states} states, {graph.num_arcs} arcs, {len(graph.words)} words, {graph.num_pdfs} senones"
    path = folder / GRAPH_FILE
    for name, arcs in graph.faults().items():
        for arc in arcs[:SHOWN]:
            found = f"{graph.src[arc]} to {graph.dst[arc]}, label {graph.label[arc]}, output {graph.aux[arc]}, score {graph.score[arc]:g}"
            report.add(name, f"arc {arc}", path, found, f"{graph.num_pdfs} senones, {len(graph.words)} words")
    if level > Level.DOOR and not report.problems:
        _check_paths(report, graph, path)
        _check_loops(report, graph, path)
        for arc in np.flatnonzero(graph.score > SLACK)[:SHOWN]:
            report.add("gain", f"arc {arc}", path, f"score {graph.score[arc]:g}", "at most 0")
    meta = folder / "meta.json"
    if "gmm" in others:
        check_same(report, "tree", meta, str(graph.meta.get("tree")), Tree.load(others["gmm"]).digest)
    if "lang" in others:
        check_same(report, "lang", meta, str(graph.meta.get("lang")), Lang.load(others["lang"]).digest)


def _check_paths(report: Report, graph: DecodingGraph, path: Path) -> None:
    reached, ending = live_states(graph.src, graph.dst, 0, np.array([graph.num_states - 1]), graph.num_states)
    for name, states in (("unreachable", ~reached), ("dead-end", ~ending)):
        for state in np.flatnonzero(states)[:SHOWN]:
            report.add(name, f"state {state}", path, f"{int(states.sum())} such states of {graph.num_states}")


def _check_loops(report: Report, graph: DecodingGraph, path: Path) -> None:
    """Check that a state which is entered by a senone has a self-loop with that senone."""
    loops = graph.src == graph.dst
    repeats = np.zeros(graph.num_states, dtype=np.int64)
    repeats[graph.src[loops]] = graph.label[loops]
    enters = ~loops & (graph.label > 0)
    bad = np.flatnonzero(enters)[repeats[graph.dst[enters]] != graph.label[enters]]
    for arc in bad[:SHOWN]:
        report.add("self-loop", f"state {graph.dst[arc]}", path, f"entered by label {graph.label[arc]}, repeats {repeats[graph.dst[arc]]}")
