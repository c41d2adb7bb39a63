"""Scoring, two-fold scales, bootstrap, candidates and n-best lists on cases with known answers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from kdtool.core.errors import KdError
from kdtool.decode.bootstrap import interval, paired
from kdtool.decode.candidates import Candidate, best, read_candidates, write_candidates
from kdtool.decode.score_files import Task, write_scores
from kdtool.decode.scoring import Counts, count_errors, error_rate, halves, two_fold
from kdtool.graph.lattice import Lattice, best_paths, nbest, scale_weights


@pytest.mark.parametrize(
    ("ref", "hyp", "wanted"),
    [
        ("a b c", "a b c", (3, 0, 0, 0)),
        ("a b c", "", (3, 0, 0, 3)),
        ("", "a b", (0, 0, 2, 0)),
        ("a b c d", "a x c", (4, 1, 0, 1)),
        ("the cat sat", "the the cat sat on", (3, 0, 2, 0)),
    ],
)
def test_hand_counted_errors(ref: str, hyp: str, wanted: tuple[int, ...]) -> None:
    assert count_errors(ref.split(), hyp.split()) == Counts(*wanted)


def test_error_counts_equal_a_textbook_edit_distance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        ref, hyp = ([str(x) for x in rng.integers(0, 4, rng.integers(0, 9))] for _ in range(2))
        row = list(range(len(hyp) + 1))
        for i, r in enumerate(ref, 1):
            previous, row = row, [i]
            for j, h in enumerate(hyp, 1):
                row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (r != h)))
        counts = count_errors(ref, hyp)
        assert counts.errors == row[-1]
        assert counts.words - counts.dele + counts.ins == len(hyp)


def test_error_rate_needs_words() -> None:
    assert error_rate([Counts(4, 1, 0, 0), Counts(4, 0, 2, 0)]) == pytest.approx(37.5)
    with pytest.raises(KdError, match="no word at all"):
        error_rate([Counts(0, 0, 1, 0)])


def test_no_speaker_is_in_both_halves() -> None:
    speakers = {f"u{i}": f"s{i % 5}" for i in range(23)}
    utterances = sorted(speakers)
    folds, split_by = halves(utterances, speakers)
    sides = {s: {int(f) for u, f in zip(utterances, folds, strict=True) if speakers[u] == s} for s in set(speakers.values())}
    assert split_by == "speakers" and all(len(v) == 1 for v in sides.values()) and set(folds) == {0, 1}
    assert halves(["a", "b"], {"a": "s", "b": "s"})[1] == "utterances"
    assert halves(["a"], {"a": "s"})[1] == "nothing"


def test_scales_are_chosen_on_the_other_half_only() -> None:
    # Point 0 is best on fold 0, point 1 on fold 1: an honest choice gives each half the other's point.
    errors = np.array([[0, 9, 5], [0, 9, 5], [9, 0, 5], [9, 0, 5]])
    folds = np.array([0, 0, 1, 1])
    chosen, notes = two_fold(errors, folds, [0.0, 0.0, 0.0])
    assert chosen.tolist() == [1, 1, 0, 0]
    assert [n["tuning_errors"] for n in notes] == [[18, 0, 10], [0, 18, 10]]


def test_equal_errors_prefer_the_point_nearest_to_the_search() -> None:
    chosen, _ = two_fold(np.zeros((4, 3), dtype=int), np.array([0, 0, 1, 1]), [0.5, 0.1, 0.3])
    assert chosen.tolist() == [1, 1, 1, 1]


def test_bootstrap_interval_covers_and_repeats() -> None:
    rng = np.random.default_rng(1)
    words = rng.integers(5, 40, 300)
    errors = rng.binomial(words, 0.3)
    low, high = interval(errors, words)
    rate = 100 * errors.sum() / words.sum()
    # Normal approximation of the ratio's standard error, over utterances.
    spread = 100 * np.sqrt(np.sum((errors - rate / 100 * words) ** 2)) / words.sum()
    assert low < rate < high and interval(errors, words) == (low, high)
    assert low == pytest.approx(rate - 1.96 * spread, abs=0.15) and high == pytest.approx(rate + 1.96 * spread, abs=0.15)


def test_bootstrap_agrees_with_kaldialigns() -> None:
    import kaldialign

    rng = np.random.default_rng(2)
    refs = [["w"] * int(n) for n in rng.integers(4, 20, 200)]
    hyps = [["w" if x > 0.25 else "x" for x in rng.random(len(r))] for r in refs]
    theirs = kaldialign.bootstrap_wer_ci(refs, hyps)
    counts = [count_errors(r, h) for r, h in zip(refs, hyps, strict=True)]
    low, high = interval(np.array([c.errors for c in counts]), np.array([c.words for c in counts]))
    assert 100 * theirs["wer"] == pytest.approx(error_rate(counts), abs=0.1)
    assert high - low == pytest.approx(2 * 100 * theirs["ci95"], rel=0.1)


def test_paired_bootstrap_sees_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(3)
    words = np.full(60, 30)
    base = rng.binomial(words, rng.uniform(0.1, 0.7, 60))
    better = np.maximum(base - rng.integers(0, 2, 60), 0)
    d = paired(better, base, words)
    assert d.high < 0 and d.better > 0.99 and d.delta == pytest.approx(100 * (better - base).sum() / words.sum())
    same = paired(base, base, words)
    assert (same.delta, same.low, same.high, same.better) == (0.0, 0.0, 0.0, 0.0)
    with pytest.raises(KdError, match="same set"):
        paired(base[:5], base, words)


def test_candidates_round_trip_and_best(tmp_path: Path) -> None:
    rows = {
        "u1": [Candidate(("A", "B"), np.array([-10.0, -3.0, -2.0, 2.0]), -1.5), Candidate((), np.array([-12.0, -2.0, -0.5, 0.0]), -9.0)],
        "u2": [Candidate(("C",), np.array([-1.0, 0.0, -1.0, 1.0]), -2.0)],
    }
    path = tmp_path / "c.tsv.gz"
    write_candidates(path, rows.items())
    again = read_candidates(path)
    assert [c.words for c in again["u1"]] == [("A", "B"), ()] and again["u1"][0].rescored == -1.5
    weights = np.stack([scale_weights(0.0, 1.0), scale_weights(0.0, 2.0), scale_weights(0.0, 2.0, -5.0)])
    assert best(again["u1"], weights, use_rescored=False).tolist() == [0, 1, 1]
    assert best(again["u1"], weights, use_rescored=True).tolist() == [0, 0, 0]
    with pytest.raises(KdError, match="--rescore-lm"):
        best([Candidate(("A",), np.zeros(4))], weights, use_rescored=True)


def test_a_damaged_candidates_file_is_named(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "c.tsv.gz"
    path.write_bytes(gzip.compress(b"u1\t-1\t0\t-1\t1\t-\tA\nu2\t-1\t0\n"))
    with pytest.raises(KdError, match="line 2"):
        read_candidates(path)


def _task(candidates: dict[str, list[Candidate]], meta: dict) -> Task:
    grid = [{"prior_scale": 0.0, "lm_scale": s, "penalty": 0.0} for s in (1.0, 2.0)]
    weights = np.array([scale_weights(**g) for g in grid])
    refs = {"u1": ["A", "B"], "u2": ["A"], "u3": ["B"]}
    names = {"system": "x", "objective": "ce", "heads": [], "seed": 0, "set": "dev", "rescore_lm": None}
    return Task(["u1", "u2", "u3"], refs, {"u1": "s1", "u2": "s1", "u3": "s2"}, candidates, grid, weights, 1.0, names, meta)


def test_failed_utterances_count_as_deletions_and_empty_hypotheses_are_counted(tmp_path: Path) -> None:
    good = Candidate(("A", "B"), np.array([-1.0, 0.0, -1.0, 2.0]))
    empty = Candidate((), np.array([-1.0, 0.0, -1.0, 0.0]))
    meta = {"kind": "word", "lm": "3gram", "silence_words": []}
    result = write_scores(tmp_path, _task({"u1": [good], "u2": [empty]}, meta), use_rescored=False)
    assert (result["words"], result["del"], result["failed"], result["empty"], result["per"]) == (4, 2, 1, 2, None)
    assert result["wer"] == pytest.approx(50.0) and json.loads((tmp_path / "score.json").read_text()) == result
    rows = [line.split("\t") for line in (tmp_path / "per_utt.tsv").read_text().splitlines()]
    assert rows[3] == ["u3", "s2", "1", "0", "0", "1", "", "B"]


def test_silence_phones_are_no_errors(tmp_path: Path) -> None:
    path = Candidate(("SIL", "A", "SIL", "B"), np.array([-1.0, 0.0, -1.0, 2.0]))
    meta = {"kind": "phone", "lm": "phone", "silence_words": ["SIL"]}
    result = write_scores(tmp_path, _task({u: [path] for u in ("u1", "u2", "u3")}, meta), use_rescored=False)
    assert result["wer"] is None and (result["ins"], result["sub"], result["del"]) == (2, 0, 0)


def random_lattice(seed: int, frames: int = 5, width: int = 3, words: int = 3) -> Lattice:
    """Each frame's states fully joined to the next; one start, one end."""
    rng = np.random.default_rng(seed)
    layers = [[0], *([1 + f * width + i for i in range(width)] for f in range(frames)), [1 + frames * width]]
    arcs = [(f, a, b) for f in range(frames + 1) for a in layers[f] for b in layers[f + 1]]
    frame = np.array([f for f, _, _ in arcs])
    outputs = rng.integers(0, words + 1, (len(arcs), 2)) * (rng.random((len(arcs), 2)) < 0.4)
    outputs[frame == frames] = 0
    outputs[:, 1] *= outputs[:, 0] > 0
    parts = rng.standard_normal((len(arcs), 4))
    src, dst = (np.array([a[n] for a in arcs], dtype=np.int32) for n in (1, 2))
    return Lattice(src, dst, outputs.astype(np.int32), parts, np.searchsorted(frame, np.arange(frames + 2)), np.full(len(src), -1))


def every_path(lattice: Lattice) -> dict[tuple[int, ...], list[np.ndarray]]:
    """All paths by their outputs, by walking."""
    result: dict[tuple[int, ...], list[np.ndarray]] = {}
    leaving = {s: np.flatnonzero(lattice.src == s) for s in range(lattice.num_states)}
    stack: list[tuple[int, tuple[int, ...], np.ndarray]] = [(0, (), np.zeros(4))]
    while stack:
        state, words, parts = stack.pop()
        if state == lattice.num_states - 1:
            result.setdefault(words, []).append(parts)
        for a in leaving[state]:
            grown = words + tuple(w for w in lattice.words[a].tolist() if w)
            stack.append((int(lattice.dst[a]), grown, parts + lattice.parts[a]))
    return result


@pytest.mark.parametrize("seed", range(4))
def test_nbest_is_exact_and_distinct(seed: int) -> None:
    lattice, weights = random_lattice(seed), scale_weights(0.7, 1.3, 0.1)
    wanted = sorted((max(float(p @ weights) for p in paths) for paths in every_path(lattice).values()), reverse=True)
    found = nbest(lattice, weights, count=20, max_tokens=10**6)
    assert len({p.words for p in found}) == len(found) == min(20, len(wanted))
    np.testing.assert_allclose([p.parts @ weights for p in found], wanted[:20], atol=1e-9)


def test_best_paths_at_many_weights_are_exact() -> None:
    lattice = random_lattice(9)
    weights = np.array([scale_weights(p, s, w) for p, s, w in itertools.product((0.0, 1.0), (0.5, 2.0), (0.0, -1.0))])
    everything = [(words, p) for words, paths in every_path(lattice).items() for p in paths]
    for row, path in zip(weights, best_paths(lattice, weights), strict=True):
        words, parts = max(everything, key=lambda item: float(item[1] @ row))
        assert path.words == words
        np.testing.assert_allclose(path.parts, parts)
