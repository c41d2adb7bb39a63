"""The dump: what is written comes back, truncation loses what it says, and a damaged or foreign dump is refused."""

import numpy as np
import pytest

from kdtool.ali.store import Segments
from kdtool.core.errors import KdError
from kdtool.posteriors.dump import PosteriorDump, finish_dump, write_shard
from kdtool.posteriors.truncate import temper, truncate

UNITS = 40


def _log_probs(rows: int, seed: int = 0, sharp: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(rows, UNITS)) * sharp
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def _segments(rows: int, seed: int = 0) -> Segments:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 9, rows)
    gap = rng.integers(0, 2, rows) * rng.integers(0, 400, rows)
    start = np.cumsum(gap + length) - length
    return Segments(rng.integers(0, UNITS, rows).astype(np.int32), start.astype(np.int32), length.astype(np.int32))


def _dump(folder, per_shard=2, **limits):
    dense, shards = {}, []
    utterances = [(f"u{n}", _segments(rows, n), _log_probs(rows, n)) for n, rows in enumerate((5, 1, 0, 7, 3))]
    for number, first in enumerate(range(0, len(utterances), per_shard)):
        part = utterances[first : first + per_shard]
        name = f"shard-{number:05d}.safetensors"
        shards.append((name, write_shard(folder / name, [(u, s, truncate(p, **limits)) for u, s, p in part])))
    dense = {u: (s, p) for u, s, p in utterances}
    finish_dump(folder, shards, {"unit": "phone", "num_units": UNITS, "units_digest": "a" * 64, "alignment_digest": "b" * 64})
    return dense


def test_everything_kept_comes_back(tmp_path):
    dense = _dump(tmp_path, top_k=0, mass=1.0)
    dump = PosteriorDump.open(tmp_path, units_digest="a" * 64, alignment_digest="b" * 64)
    assert dump.ids == list(dense) and dump.unit == "phone" and dump.num_units == UNITS
    for utterance, (segments, log_probs) in dense.items():
        got = dump.get(utterance)
        for name in ("start", "length"):
            np.testing.assert_array_equal(getattr(got, name), getattr(segments, name))
        np.testing.assert_array_equal(got.unit_ids, segments.ids)
        ids, logp = got.padded(UNITS)
        rebuilt = np.full((len(got), UNITS), -np.inf, dtype=np.float32)
        np.put_along_axis(rebuilt, ids, logp, axis=1)
        np.testing.assert_allclose(rebuilt, log_probs, rtol=5e-4)
        assert np.all(got.rest_logp == -np.inf)


@pytest.mark.parametrize("limits", [{"top_k": 6, "mass": 1.0}, {"top_k": 0, "mass": 0.9}, {"top_k": 8, "mass": 0.95}])
def test_truncated_against_dense(tmp_path, limits):
    dense = _dump(tmp_path, **limits)
    dump = PosteriorDump.open(tmp_path)
    for utterance, (_, log_probs) in dense.items():
        got = dump.get(utterance)
        for row in range(len(got)):
            ids = got.ids[got.offsets[row] : got.offsets[row + 1]]
            ranked = np.argsort(-log_probs[row], kind="stable")
            np.testing.assert_array_equal(ids, ranked[: len(ids)])
            kept = np.exp(log_probs[row][ids].astype(np.float64)).sum()
            assert abs(np.exp(got.rest_logp[row]) - (1 - kept)) < 1e-3
            assert len(ids) == limits["top_k"] or kept >= limits["mass"]
            assert len(ids) == 1 or kept - np.exp(log_probs[row][ids[-1]]) < limits["mass"]


def test_padded_pads_and_cuts():
    kept = truncate(_log_probs(4), top_k=0, mass=0.8)
    segments = _segments(4)
    from kdtool.posteriors.dump import UnitPosteriors

    offsets = np.concatenate([[0], np.cumsum(kept.counts)])
    units = UnitPosteriors(segments.ids, segments.start, segments.length, offsets, kept.ids, kept.logp, kept.rest_logp)
    ids, logp = units.padded(units.most_kept + 2)
    assert np.all((logp > -np.inf).sum(1) == kept.counts) and ids.dtype == np.int64
    assert np.all(ids[logp == -np.inf] == 0)
    short_ids, short = units.padded(2)
    np.testing.assert_array_equal(short_ids, ids[:, :2])
    np.testing.assert_array_equal(short, logp[:, :2])


def test_temperature_is_that_of_a_softmax():
    import torch

    log_probs = _log_probs(6)
    expected = torch.log_softmax(torch.from_numpy(log_probs) / 3.0, dim=1).numpy()
    np.testing.assert_allclose(temper(log_probs, 3.0), expected, atol=1e-5)
    assert temper(log_probs, 1.0) is log_probs
    with pytest.raises(KdError, match="temperature 0"):
        temper(log_probs, 0)


def test_units_that_never_occur_are_not_kept():
    log_probs = np.full((1, UNITS), -np.inf, dtype=np.float32)
    log_probs[0, [3, 9]] = np.log([0.25, 0.75])
    kept = truncate(log_probs, top_k=10, mass=1.0)
    assert kept.ids.tolist() == [9, 3] and kept.rest_logp[0] == -np.inf


def test_not_a_distribution_is_refused():
    with pytest.raises(KdError, match=r"row 1 .* sums to 0.5"):
        truncate(_log_probs(2) + np.log([[1.0], [0.5]]), top_k=3, mass=1.0)


def test_changed_shard_is_named_with_both_digests(tmp_path):
    _dump(tmp_path, top_k=4, mass=1.0)
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
        PosteriorDump.open(tmp_path).verify()


def test_foreign_dump_is_refused(tmp_path):
    _dump(tmp_path, top_k=4, mass=1.0)
    with pytest.raises(KdError, match=r"dumped for alignment bbbb.* yours is cccc"):
        PosteriorDump.open(tmp_path, alignment_digest="c" * 64)
    with pytest.raises(KdError, match=r"dumped for units aaaa.* yours is cccc"):
        PosteriorDump.open(tmp_path, units_digest="c" * 64)
    with pytest.raises(KdError, match="no posteriors of u9"):
        PosteriorDump.open(tmp_path).get("u9")
    (tmp_path / "meta.json").write_text("{}\n")
    with pytest.raises(KdError, match="does not describe a dump"):
        PosteriorDump.open(tmp_path)


def test_index_that_lost_lines_is_refused(tmp_path):
    _dump(tmp_path, top_k=4, mass=1.0)
    lines = (tmp_path / "index.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "index.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(KdError, match="lists 4 utterances"):
        PosteriorDump.open(tmp_path)
