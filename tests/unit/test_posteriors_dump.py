"""The dump: rows come back within the quantisation step, the stated loss is the true one, a damaged or foreign dump is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtool.core.errors import KdError
from kdtool.core.tables import read_jsonl, write_jsonl
from kdtool.formats.alignment import Segments
from kdtool.posteriors import codec
from kdtool.posteriors.codec import Coder, before_units, pack, temper, unpack
from kdtool.posteriors.dump import PosteriorDump, finish_dump, save_coder, write_shard

UNITS = 40
Dense = dict[str, tuple[Segments, np.ndarray]]


def _log_probs(rows: int, seed: int = 0, sharp: float = 2.0, units: int = UNITS) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(rows, units)) * sharp
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def _segments(rows: int, seed: int = 0) -> Segments:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 9, rows)
    gap = rng.integers(0, 2, rows) * rng.integers(0, 400, rows)
    start = np.cumsum(gap + length) - length
    return Segments(rng.integers(0, UNITS, rows).astype(np.int32), start.astype(np.int32), length.astype(np.int32))


def _coder(log_probs: np.ndarray, mass: float = 1.0, top_k: int = 0, step: float = 0.002, before: np.ndarray | None = None) -> Coder:
    before = np.full(len(log_probs), log_probs.shape[1]) if before is None else before
    return Coder.fit(log_probs, before, mass=mass, top_k=top_k, step=step)


def _dump(folder: Path, per_shard: int = 2, mass: float = 1.0, top_k: int = 0, step: float = 0.002) -> Dense:
    utterances = [(f"u{n}", _segments(rows, n), _log_probs(rows, n)) for n, rows in enumerate((5, 1, 0, 7, 3))]
    before = np.concatenate([before_units(s.ids, UNITS) for _, s, _ in utterances])
    coder, shards = _coder(np.concatenate([p for _, _, p in utterances]), mass, top_k, step, before), []
    save_coder(folder, coder)
    for number, first in enumerate(range(0, len(utterances), per_shard)):
        part = utterances[first : first + per_shard]
        name = f"shard-{number:05d}.safetensors"
        shards.append((name, write_shard(folder / name, coder, [(u, s, coder.quantise(p)) for u, s, p in part])))
    finish_dump(folder, shards, {"unit": "phone", "num_units": UNITS, "units_digest": "a" * 64, "alignment_digest": "b" * 64})
    return {u: (s, p) for u, s, p in utterances}


def test_everything_kept_comes_back(tmp_path: Path) -> None:
    dense = _dump(tmp_path)
    dump = PosteriorDump.open(tmp_path, alignment_digest="b" * 64)
    assert dump.ids == list(dense) and dump.unit == "phone" and dump.num_units == UNITS
    for utterance, (segments, log_probs) in dense.items():
        got = dump.get(utterance)
        for name in ("start", "length"):
            np.testing.assert_array_equal(getattr(got, name), getattr(segments, name))
        np.testing.assert_array_equal(got.unit_ids, segments.ids)
        np.testing.assert_allclose(np.exp(got.dense(UNITS) / 2), np.exp(log_probs / 2), atol=0.0006)
        assert np.all(got.rest_logp == -np.inf)


def test_a_shard_of_which_every_utterance_was_dropped(tmp_path: Path) -> None:
    segments, log_probs = _segments(4), _log_probs(4)
    coder = _coder(log_probs)
    save_coder(tmp_path, coder)
    kept = [("u", segments, coder.quantise(log_probs))]
    shards = [("a", write_shard(tmp_path / "a", coder, [])), ("b", write_shard(tmp_path / "b", coder, kept))]
    finish_dump(tmp_path, shards, {"unit": "phone", "num_units": UNITS, "units_digest": "a" * 64, "alignment_digest": "b" * 64})
    dump = PosteriorDump.open(tmp_path)
    assert dump.ids == ["u"] and list(dump.get("u").unit_ids) == list(segments.ids)


@pytest.mark.parametrize(("mass", "top_k"), [(1.0, 6), (0.9, 0), (0.97, 12)])
def test_truncated_against_dense(tmp_path: Path, mass: float, top_k: int) -> None:
    dense = _dump(tmp_path, mass=mass, top_k=top_k, step=0.01)
    dump, masses = PosteriorDump.open(tmp_path), []
    for utterance, (_, log_probs) in dense.items():
        got = dump.get(utterance)
        for row in range(len(got)):
            ids = got.ids[got.offsets[row] : got.offsets[row + 1]]
            ranked = np.argsort(-log_probs[row], kind="stable")
            assert set(ids) == set(ranked[: len(ids)])  # the likeliest, and in their order up to a level
            read = got.logp[got.offsets[row] : got.offsets[row + 1]]
            assert np.all(np.diff(read) <= 0)
            masses.append(np.exp(log_probs[row][ids].astype(np.float64)).sum())
            assert abs(np.sqrt(np.exp(got.rest_logp[row])) - np.sqrt(max(0.0, 1 - masses[-1]))) < 0.021
            assert np.exp(read.astype(np.float64)).sum() + np.exp(got.rest_logp[row]) == pytest.approx(1.0, abs=1e-5)
            assert not top_k or len(ids) <= top_k
    if not top_k:
        assert mass <= np.mean(masses) < mass + 0.02


def test_the_floor_keeps_fewer_entries_than_each_rows_own_share() -> None:
    log_probs = np.concatenate([_log_probs(50, sharp=1.0), _log_probs(50, 1, sharp=5.0)])
    levels = _coder(log_probs, mass=0.95).quantise(log_probs)
    assert 1 - levels.left.mean() >= 0.95
    ranked = -np.sort(-np.exp(log_probs), axis=1)
    own = (np.cumsum(ranked, axis=1) < 0.95).sum() + len(log_probs)
    assert (levels.level > 0).sum() < own


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(2, 60), st.integers(0, 999), st.sampled_from([0.01, 0.05, 0.3]), st.sampled_from([0.8, 0.99, 1.0]),
       st.sampled_from([0, 1, 5]))  # fmt: skip
def test_decoded_rows_are_what_the_coder_says_that_it_loses(rows: int, units: int, seed: int, step: float, mass: float, top_k: int) -> None:
    """Rows outside the coder's sample, after unseen units: nothing breaks, and the loss is as stated."""
    rng = np.random.default_rng(seed)
    coder = _coder(_log_probs(5, seed + 1, units=units), mass, top_k, step, rng.integers(0, units + 1, 5))
    coder = Coder.from_tensors(coder.tensors())
    log_probs, before = _log_probs(rows, seed, 4.0, units), rng.integers(0, units + 1, rows)
    levels = coder.quantise(log_probs)
    offsets, ids, logp, rest = coder.decode(coder.encode(levels, before), before)
    assert np.array_equal(np.diff(offsets), (levels.level > 0).sum(axis=1)) and np.all(np.diff(offsets) >= 1)
    for row, lost in enumerate(coder.lost(log_probs, levels)):
        kept = ids[offsets[row] : offsets[row + 1]]
        p, q = np.exp(log_probs[row].astype(np.float64)), np.exp(logp[offsets[row] : offsets[row + 1]].astype(np.float64))
        left = p[np.setdiff1d(np.arange(units), kept)].sum()
        want = (p[kept] * np.log(p[kept] / q)).sum() + (left * (np.log(left) - rest[row]) if left > 0 else 0.0)
        assert lost == pytest.approx(want, abs=1e-5) and lost > -1e-5
        assert q.sum() + np.exp(rest[row]) == pytest.approx(1.0, abs=1e-5)


def test_a_wide_vocabulary_has_one_prior() -> None:
    log_probs = _log_probs(6, units=3000)
    before = np.array([3000, 5, 2999, 0, 1, 2])
    coder = _coder(log_probs, 0.9, step=0.05, before=before)
    assert coder.contexts == 1
    levels = coder.quantise(log_probs)
    offsets, ids, _, _ = coder.decode(coder.encode(levels, before), before)
    for row in range(6):
        np.testing.assert_array_equal(np.sort(ids[offsets[row] : offsets[row + 1]]), np.flatnonzero(levels.level[row]))
    ranks = coder.ranks(np.array([5, 2999, 0, 1, 2, 7]), before)
    found, again = coder.from_ranks(ranks, np.array([6]))
    np.testing.assert_array_equal(found, [5, 2999, 0, 1, 2, 7])
    np.testing.assert_array_equal(again, before)


@given(st.lists(st.integers(0, 2**40), max_size=50))
def test_packed_numbers_come_back(values: list[int]) -> None:
    np.testing.assert_array_equal(unpack(pack(np.array(values, dtype=np.int64))), values)


def test_temperature_is_that_of_a_softmax() -> None:
    import torch

    log_probs = _log_probs(6)
    expected = torch.log_softmax(torch.from_numpy(log_probs) / 3.0, dim=1).numpy()
    np.testing.assert_allclose(temper(log_probs, 3.0), expected, atol=1e-5)
    assert temper(log_probs, 1.0) is log_probs
    with pytest.raises(KdError, match="temperature 0"):
        temper(log_probs, 0)


def test_units_that_never_occur_are_not_kept() -> None:
    log_probs = np.full((1, UNITS), -np.inf, dtype=np.float32)
    log_probs[0, [3, 9]] = np.log([0.25, 0.75])
    levels = _coder(log_probs).quantise(log_probs)
    assert np.flatnonzero(levels.level[0]).tolist() == [3, 9] and levels.left[0] == 0.0


def test_not_a_distribution_is_refused() -> None:
    with pytest.raises(KdError, match=r"row 1 .* sums to 0.5"):
        _coder(_log_probs(2)).quantise(_log_probs(2) + np.log(np.array([[1.0], [0.5]], np.float32)))
    with pytest.raises(KdError, match="mass 0"):
        _coder(_log_probs(2), mass=0.0)


@pytest.mark.parametrize(("step", "kind"), [(0.002, np.uint16), (0.1, np.uint8)])
def test_rows_are_quantised_in_blocks_as_they_are_at_once(step: float, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    log_probs = _log_probs(11)
    coder = _coder(log_probs, mass=0.9, step=step)
    whole = coder.quantise(log_probs)
    monkeypatch.setattr(codec, "BLOCK_BYTES", 4 * UNITS * 3)
    parts = coder.quantise(log_probs)
    assert whole.level.dtype == kind
    np.testing.assert_array_equal(parts.level, whole.level)
    np.testing.assert_array_equal(parts.left, whole.left)
    log_probs[7] += 1.0
    with pytest.raises(KdError, match=r"row 7 .* sums to 2.7"):
        coder.quantise(log_probs)


def test_changed_file_is_named_with_both_digests(tmp_path: Path) -> None:
    _dump(tmp_path)
    path = tmp_path / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    dump = PosteriorDump.open(tmp_path)
    dump.get("u0")
    with pytest.raises(KdError, match=r"shard-00001.safetensors: sha256 is [0-9a-f]{64}, meta.json says [0-9a-f]{64}"):
        dump.get("u3")
    path.unlink()
    with pytest.raises(KdError, match="no such file"):
        PosteriorDump.open(tmp_path).get("u3")
    coder = tmp_path / "coder.safetensors"
    coder.write_bytes(coder.read_bytes()[:-1] + b"?")
    with pytest.raises(KdError, match=r"coder.safetensors: sha256 is"):
        PosteriorDump.open(tmp_path).get("u0")


def test_foreign_dump_is_refused(tmp_path: Path) -> None:
    _dump(tmp_path)
    with pytest.raises(KdError, match=r"dumped for alignment bbbb.* yours is cccc"):
        PosteriorDump.open(tmp_path, alignment_digest="c" * 64)
    with pytest.raises(KdError, match="no posteriors of u9"):
        PosteriorDump.open(tmp_path).get("u9")
    (tmp_path / "meta.json").write_text("{}\n")
    with pytest.raises(KdError, match="does not describe a dump"):
        PosteriorDump.open(tmp_path)


def test_index_that_lost_lines_is_refused(tmp_path: Path) -> None:
    _dump(tmp_path)
    write_jsonl(tmp_path / "index.jsonl.gz", list(read_jsonl(tmp_path / "index.jsonl.gz"))[:-1])
    with pytest.raises(KdError, match="lists 4 utterances"):
        PosteriorDump.open(tmp_path)


def test_a_probability_that_rounding_took_above_one_has_the_highest_level() -> None:
    """A row may sum to a little more than 1, so its likeliest entry may be above 1: for any step there is a level for it."""
    sample = np.log(np.full((4, 3), 1.0 / 3.0, np.float32))
    for step in np.linspace(0.01, 0.1, 200):
        coder = Coder.fit(sample, np.full(4, 3), mass=0.9, top_k=0, step=float(step))
        row = np.log(np.array([[1.0009, 1e-30, 1e-30]], np.float32))
        levels = coder.quantise(row)
        assert np.isfinite(coder.lost(row, levels)).all() and levels.level.max() < len(coder.value)
