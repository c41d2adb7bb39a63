"""`kdtool posteriors`: its output, its findings, and that every exported format equals the dump, frame by frame."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import student_data
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.dataset.collation import collate_custom_field

from kdtool.__main__ import main
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tensors import load_tensors
from kdtool.formats.alignment import AlignmentSet, Segments
from kdtool.posteriors import lhotse_field
from kdtool.posteriors.dump import PosteriorDump, UnitPosteriors


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dumps over phones and senones of four utterances, and a data folder whose second recording holds two of them."""
    folder = tmp_path_factory.mktemp("tool")
    _, ali = student_data.write_set(folder)
    for unit in ("phone", "senone"):
        student_data.write_dump(folder / unit, ali, unit, seed=len(unit))
    data, lengths = folder / "data", [AlignmentSet.open(ali).get(f"s0-u{n}").num_frames / 100 for n in range(4)]
    data.mkdir()
    seconds = [lengths[0], lengths[1] + lengths[2] + 0.7, lengths[3]]
    RecordingSet.from_recordings(
        Recording(f"r{n}", sources=[], sampling_rate=16000, num_samples=round(s * 16000), duration=s) for n, s in enumerate(seconds)
    ).to_file(data / "recordings.jsonl.gz")
    places = [("r0", 0.0), ("r1", 0.31), ("r1", 0.5 + lengths[1]), ("r2", 0.0)]
    SupervisionSet.from_segments(
        SupervisionSegment(f"s0-u{n}", r, start, lengths[n], text="A", speaker="s") for n, (r, start) in enumerate(places)
    ).to_file(data / "supervisions.jsonl.gz")
    return folder


def _wanted(dump: PosteriorDump, name: str, frames: int) -> np.ndarray:
    """Log-probabilities (frames, V), unit by unit and entry by entry; -inf where no unit is."""
    post, out = dump.get(name), np.full((frames, dump.num_units), -np.inf)
    for row in range(len(post)):
        kept = slice(post.offsets[row], post.offsets[row + 1])
        probs = np.full(dump.num_units, np.exp(post.rest_logp[row]) / max(dump.num_units - (kept.stop - kept.start), 1))
        probs[post.ids[kept]] = np.exp(post.logp[kept])
        with np.errstate(divide="ignore"):
            out[post.start[row] : post.start[row] + post.length[row]] = np.log(probs)
    return out


def _export(root: Path, *argv: str) -> Path:
    out = root / "-".join(a.strip("-").replace("/", "_") for a in argv if not a.startswith(str(root)))
    assert main(["posteriors", "export", *argv[:1], str(out), *argv[1:]]) == 0
    return out


def test_inspect(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["posteriors", "inspect", str(root / "phone")]) == 0
    shown = capsys.readouterr().out
    dump = PosteriorDump.open(root / "phone")
    assert f"4 utterances, {dump.meta['units']} units" in shown and f"bytes       {dump.meta['bytes']}," in shown
    assert main(["posteriors", "inspect", str(root / "phone"), "--utterance", "s0-u1", "--top", "2"]) == 0
    lines, post = capsys.readouterr().out.splitlines(), dump.get("s0-u1")
    assert len(lines) == 2 + len(post)
    first = lines[2].split()
    assert [int(x) for x in first[:3]] == [post.unit_ids[0], post.start[0], post.length[0]]
    assert int(first[4]) == post.ids[0] and float(first[5]) == pytest.approx(np.exp(post.logp[0]), abs=6e-4) and "+ 1 more" in lines[2]
    with pytest.raises(KdError, match="no posteriors of nobody"):
        main(["posteriors", "inspect", str(root / "phone"), "--utterance", "nobody"])


def test_verify_names_each_bad_shard(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["posteriors", "verify", str(root / "phone"), str(root / "senone")]) == 0
    assert capsys.readouterr().out.count(": sound (4 utterances") == 2
    bad = student_data.write_dump(tmp_path / "bad", root / "ali", "phone")
    data = bytearray((bad / "shard-00000.safetensors").read_bytes())
    data[-1] ^= 1
    (bad / "shard-00000.safetensors").write_bytes(data)
    assert main(["posteriors", "verify", str(root / "phone"), str(bad)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("shard: shard-00000.safetensors: ") and "sha256 is" in lines[1] and lines[2].startswith(f"{bad}: not sound")


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_dense_arrays(root: Path, kind: str) -> None:
    dump, ali = PosteriorDump.open(root / "phone"), AlignmentSet.open(root / "ali")
    files = load_tensors(_export(root, str(root / "phone"), "--dtype", kind) / "posteriors-00000.safetensors")
    framed = _export(root, str(root / "phone"), "--dtype", kind, "--frames", "true", "--ali", str(root / "ali"), "--format", "npy")
    for name in dump.ids:
        frames, post = ali.get(name).num_frames, dump.get(name)
        units, by_frame, wanted = files[name], np.load(framed / f"{name}.npy"), _wanted(dump, name, frames)
        assert units.dtype == by_frame.dtype == np.dtype(kind) and by_frame.shape == (frames, dump.num_units)
        near = 2e-3 if kind == "float16" else 1e-6
        np.testing.assert_allclose(by_frame, wanted, atol=near, rtol=near)
        np.testing.assert_allclose(units, wanted[post.start], atol=near, rtol=near)
        np.testing.assert_array_equal(files[f"{name}.segments"], np.stack([post.unit_ids, post.start, post.length], axis=1))
        heard = np.isfinite(wanted).any(axis=1)
        np.testing.assert_allclose(np.exp(by_frame[heard].astype(np.float64)).sum(axis=1), 1.0, atol=near)
        assert (heard == (ali.get(name).pdf != 0)).all() and not heard.all()  # pdf 0 is this data's silence


@pytest.mark.parametrize("storage", ["numpy", "dump"])
def test_a_lhotse_loader_gets_them(root: Path, storage: str) -> None:
    out = root / f"cuts_{storage}"
    assert main(["posteriors", "export", str(root / "phone"), str(root / "senone"), str(out), "--format", "lhotse", "--data",
                 str(root / "data"), "--storage", storage, "--dtype", "float32"]) == 0  # fmt: skip
    dumps = {unit: PosteriorDump.open(root / unit) for unit in ("phone", "senone")}
    cuts = CutSet.from_file(out / "cuts.jsonl.gz")
    assert sorted(cut.id for cut in cuts) == dumps["phone"].ids
    for cut in cuts:
        frames = round(cut.duration * 100)
        for unit, dump in dumps.items():
            wanted = _wanted(dump, cut.id, frames)
            np.testing.assert_allclose(cut.load_custom(f"posteriors_{unit}"), wanted, atol=1e-5)
            part = cut.truncate(offset=0.13, duration=0.3)
            np.testing.assert_allclose(part.load_custom(f"posteriors_{unit}"), wanted[13:43], atol=1e-5)
        assert cut.load_posteriors_phone().shape == (frames, dumps["phone"].num_units)
    values, lengths = collate_custom_field(CutSet.from_cuts(list(cuts)).sort_by_duration(), "posteriors_senone")
    assert values.shape[:2] == (4, int(lengths.max()))


@pytest.mark.parametrize("storage", ["numpy", "dump"])
def test_a_cut_of_several_supervisions(root: Path, storage: str) -> None:
    """Whole recordings as cuts: each supervision's frames at its place, nothing between them; also for cuts that start within."""
    cuts = CutSet.from_manifests(*(kind.from_file(root / "data" / f"{name}.jsonl.gz") for kind, name in (
        (RecordingSet, "recordings"), (SupervisionSet, "supervisions"))))  # fmt: skip
    cut = next(c for c in cuts if len(c.supervisions) == 2)
    CutSet.from_cuts([cut, cut.truncate(offset=0.4, preserve_id=False).with_id("late")]).to_file(root / "whole.jsonl.gz")
    out = root / f"whole_{storage}"
    main(["posteriors", "export", str(root / "phone"), str(out), "--format", "lhotse", "--data", str(root / "whole.jsonl.gz"),
          "--storage", storage, "--dtype", "float32"])  # fmt: skip
    dump, (whole, late) = PosteriorDump.open(root / "phone"), CutSet.from_file(out / "cuts.jsonl.gz")
    wanted = np.full((round(whole.duration * 100), dump.num_units), -np.inf)
    for sup in cut.supervisions:
        frames, start = round(sup.duration * 100), round(sup.start * 100)
        wanted[start : start + frames] = _wanted(dump, sup.id, frames)
    np.testing.assert_allclose(whole.load_posteriors_phone(), wanted, atol=1e-5)
    np.testing.assert_allclose(late.load_posteriors_phone(), wanted[40:], atol=1e-5)
    np.testing.assert_allclose(late.truncate(offset=0.2, duration=0.5).load_posteriors_phone(), wanted[60:110], atol=1e-5)


def test_cuts_that_the_dumps_do_not_know(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = student_data.write_dump(root / "part", root / "ali", "phone", drop="s0-u2")
    main(["posteriors", "export", str(part), str(root / "some"), "--format", "lhotse", "--data", str(root / "data")])
    assert "3 cuts with posteriors_phone, 1 without left out" in capsys.readouterr().err
    main(["posteriors", "export", str(part), str(root / "phone"), str(root / "two"), "--format", "lhotse", "--data", str(root / "data")])
    cut = next(iter(CutSet.from_file(root / "two/cuts.jsonl.gz")))
    assert {name for name in cut.custom if name.startswith("posteriors")} == {"posteriors_part", "posteriors_phone"}
    again = student_data.write_dump(root / "other/part", root / "ali", "phone")
    with pytest.raises(KdError, match="two dumps are over phones and both would be posteriors_part"):
        main(["posteriors", "export", str(part), str(again), str(root / "no"), "--format", "lhotse", "--data", str(root / "data")])
    with pytest.raises(KdError, match="neither a file of cuts nor a folder"):
        lhotse_field.load_cuts(root / "ali")


def test_dense_rows_and_frames_by_hand() -> None:
    segments = Segments(*(np.array(x, np.int32) for x in ([1, 0], [2, 4], [2, 1])))
    rest = np.log(np.array([0.3, 0.0]) + 1e-38).astype(np.float32)
    rest[1] = -np.inf
    post = UnitPosteriors(segments.ids, segments.start, segments.length, np.array([0, 2, 5]), np.array([1, 0, 2, 0, 1], np.int32),
                          np.log(np.array([0.5, 0.2, 0.6, 0.3, 0.1], np.float32)), rest)  # fmt: skip
    np.testing.assert_allclose(np.exp(post.dense(3)), [[0.2, 0.5, 0.3], [0.3, 0.1, 0.6]], atol=1e-6)
    np.testing.assert_allclose(np.exp(post.dense(5)), [[0.2, 0.5, 0.1, 0.1, 0.1], [0.3, 0.1, 0.6, 0.0, 0.0]], atol=1e-6)
    assert post.frame_rows(6, "u").tolist() == [-1, -1, 0, 0, 1, -1]
    with pytest.raises(KdError, match="u ends at frame 5 of 4"):
        post.frame_rows(4, "u")


def test_usage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone, out = str(root / "phone"), str(root / "never")
    for wrong in (["show", phone], ["export", phone, out, "--format", "hdf"], ["export", phone, out, "--dtype", "int8"],
                  ["export", phone, out, "--format", "lhotse"], ["export", phone, phone, out], ["export", phone, out, "--ali", phone],
                  ["inspect", phone, "--top", "0"]):  # fmt: skip
        with pytest.raises(UsageError):
            main(["posteriors", *wrong])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pip install pyarrow"):
        main(["posteriors", "export", phone, out, "--format", "arrow"])
    assert not Path(out).exists()
