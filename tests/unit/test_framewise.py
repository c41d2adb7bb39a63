"""Teachers of frames: ensembles and lattices, from models to a dump that a student learns from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gmm_data import write_features
from test_decode_scoring import random_lattice
from test_decode_steps import WIDE, root  # noqa: F401  (a fixture: lang, features, GMM, graphs)

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json, read_jsonl, write_json, write_jsonl
from kdtool.decode.acoustic import load_acoustic
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.system import System
from kdtool.formats.tree import Tree
from kdtool.framewise import make
from kdtool.framewise.teachers import Plan, check_members, lattice_posteriors, mean_posterior, path_weights, to_units
from kdtool.graph.lattice import Lattice
from kdtool.posteriors.dump import PosteriorDump
from kdtool.student.model import Shape, Student
from kdtool.student.train import main as train

EXACT = ("--mass", "1.0", "--step", "0.002")
ENCODER = {"dim": 12, "bottleneck": 6, "contexts": [1]}


@pytest.fixture(scope="module")
def world(root: Path) -> Path:  # noqa: F811
    """The world with three students of random weights, the third of another tree."""
    features, gmm = FeatureSet.open(root / "dev/mfcc"), load_acoustic(root / "exp/mono")
    for seed, (name, tree) in enumerate((("one", gmm.tree_digest), ("two", gmm.tree_digest), ("alien", "f" * 64))):
        torch.manual_seed(seed)
        folder = root / "exp" / name
        folder.mkdir()
        model = Student(Shape("tdnnf", ENCODER, features.dim, gmm.num_pdfs, 8, features.kind, tree))
        model.log_priors.fill_(-np.log(gmm.num_pdfs))
        model.save(folder)
        System("hybrid", seed, main={"loss": "ce", "options": {}}, encoder={"name": "tdnnf", "options": ENCODER}).write(folder)
    return root


def dump(world: Path, models: str, out: str, *options: str) -> PosteriorDump:
    folders = ",".join(str(world / "exp" / name) for name in models.split(","))
    make.main([*EXACT, *options, folders, *(str(world / name) for name in ("dev/mfcc", "lang", out))])
    return PosteriorDump.open(world / out)


def lattices(world: Path, out: str, *options: str) -> PosteriorDump:
    return dump(world, "mono", out, "--kind", "lattice", "--graph", str(world / "exp/mono/graph_2gram"), *WIDE, *options)


def paths_of(lattice: Lattice) -> list[list[int]]:
    """All paths of a lattice as lists of arcs, by walking."""
    done: list[list[int]] = []
    stack: list[tuple[int, list[int]]] = [(0, [])]
    while stack:
        state, arcs = stack.pop()
        if state == lattice.num_states - 1:
            done.append(arcs)
        stack += [(int(lattice.dst[a]), [*arcs, int(a)]) for a in np.flatnonzero(lattice.src == state)]
    return done


@pytest.mark.parametrize("seed", range(4))
def test_lattice_posteriors_are_sums_over_all_paths(seed: int) -> None:
    """The probability of a path is exp(acoustic_scale * (acoustic - prior_scale * prior + lm_scale * graph)): nats."""
    lattice = random_lattice(seed, frames=4)
    last = lattice.first[4]
    lattice.pdf = np.where(np.arange(len(lattice.src)) < last, np.random.default_rng(seed).integers(0, 5, len(lattice.src)), -1)
    for lm_scale, prior_scale, scale in ((8.0, 0.75, 1 / 8), (1.0, 0.0, 1.0), (3.0, 0.5, 0.6)):
        probs, best = lattice_posteriors(lattice, path_weights(lm_scale, prior_scale, scale), 5)
        expected, likeliest, total = np.zeros((4, 5)), (-np.inf, [0]), 0.0
        for arcs in paths_of(lattice):
            acoustic, prior, graph, _ = lattice.parts[arcs].sum(axis=0)
            nats = scale * (acoustic - prior_scale * prior + lm_scale * graph)
            likeliest, total = max(likeliest, (nats, arcs)), total + np.exp(nats)
            expected[np.arange(4), lattice.pdf[arcs[:4]]] += np.exp(nats)
        np.testing.assert_allclose(probs, expected / total, rtol=1e-10, atol=1e-15)
        assert best.tolist() == lattice.pdf[likeliest[1][:4]].tolist()


def test_at_one_over_the_lm_scale_the_graph_counts_in_full() -> None:
    """Two paths of equal acoustic scores have the odds of their LM probabilities, whatever the LM scale."""
    parts = np.array([[-50.0, -1.0, np.log(0.9), 1], [-50.0, -1.0, np.log(0.1), 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    lattice = Lattice(np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3]), np.zeros((4, 1), np.int32), parts, np.array([0, 2, 4]),
                      np.array([0, 1, -1, -1]))  # fmt: skip
    for lm_scale in (1.0, 8.0, 12.0):
        np.testing.assert_allclose(lattice_posteriors(lattice, path_weights(lm_scale, 0.75, 1 / lm_scale), 2)[0], [[0.9, 0.1]])


def test_an_ensemble_is_the_mean_of_probabilities_and_a_phone_the_sum_of_its_senones() -> None:
    z = [torch.randn(7, 6, generator=torch.Generator().manual_seed(s), dtype=torch.float64) * 3 for s in range(3)]
    logs = [torch.log_softmax(one, 1) for one in z]
    mean = torch.stack([one.exp() for one in logs]).mean(0).numpy()
    found = mean_posterior([one.float().numpy() for one in logs])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, mean, atol=1e-7)
    summed = to_units(mean, Plan("ensemble", [], "", "phone", 4, 1, phones=[1, 3, 1, 2, 3, 3]))
    np.testing.assert_allclose(summed, np.stack([0 * mean[:, 0], mean[:, 0] + mean[:, 2], mean[:, 3], mean[:, [1, 4, 5]].sum(1)], 1))


def test_the_ensembles_dump_holds_the_mean_and_trains_a_student(world: Path, tmp_path: Path) -> None:
    found = dump(world, "one,two", "ens")
    features, members = FeatureSet.open(world / "dev/mfcc"), [load_acoustic(world / "exp" / name) for name in ("one", "two")]
    for utterance in found.ids[:2]:
        mean = np.mean([np.exp(m.raw_scores(features, utterance).astype(np.float64)) for m in members], axis=0)
        post = found.get(utterance)
        np.testing.assert_allclose(np.exp(post.dense(found.num_units)), mean, atol=3e-3)
        assert post.unit_ids.tolist() == mean.argmax(1).tolist()
    assert found.meta["teacher_kind"] == "ensemble" and found.meta["tree_digest"] == members[0].tree_digest
    sets = [str(world / name) for name in ("dev/mfcc", "exp/mono/ali_dev") * 2]
    options = {"essence": {"top_k": 4, "top_p": 0.9}, "weight": 0.5}
    train(["--epochs", "1", "--chunk", "30", "--batch", "6", "--encoder-options", json.dumps(ENCODER), "--main", "interpolate",
           "--main-options", json.dumps(options), "--posts", str(world / "ens"), *sets, str(tmp_path / "student")])  # fmt: skip
    assert read_json(tmp_path / "student/system.json")["teachers"][0]["teacher_kind"] == "ensemble"


def test_lattices_over_senones_and_phones_agree_and_hear_the_speech(world: Path) -> None:
    senones = lattices(world, "lat")
    phones = lattices(world, "lat_phone", "--unit", "phone", "--tree", str(world / "exp/mono"))
    owner, ali = Tree.load(world / "exp/mono").pdf_phone, AlignmentSet.open(world / "exp/mono/ali_dev")
    right = frames = 0
    for utterance in senones.ids:
        fine, coarse = senones.get(utterance), phones.get(utterance)
        summed = np.zeros((len(fine), phones.num_units))
        np.add.at(summed.T, owner, np.exp(fine.dense(senones.num_units)).T)
        np.testing.assert_allclose(np.exp(coarse.dense(phones.num_units)), summed, atol=5e-3)
        assert coarse.unit_ids.tolist() == owner[fine.unit_ids].tolist()
        right, frames = right + int((fine.unit_ids == ali.get(utterance).pdf).sum()), frames + len(fine)
    assert right > 0.95 * frames
    assert senones.meta["path_weights"] == [1 / 12, -0.75 / 12, 1.0, 0.0] and phones.unit == "phone"


def content(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir()) if f.name.startswith(("shard", "coder", "index", "meta", "dropped"))}


def test_jobs_and_an_interrupted_run_change_nothing(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    lattices(world, "a", "--nj", "1", "--shard-size", "3")
    from kdtool.posteriors import make as posteriors

    def fail(*_: Any, **__: Any) -> None:
        raise KdError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(posteriors, "account", fail)
        with pytest.raises(KdError, match="stopped"):
            lattices(world, "b", "--nj", "3", "--shard-size", "3")
    assert not (world / "b").exists()
    lattices(world, "b", "--nj", "3", "--shard-size", "3")
    assert content(world / "a") == content(world / "b")
    capsys.readouterr()
    lattices(world, "b", "--nj", "2", "--shard-size", "3")
    assert "up to date" in capsys.readouterr().out


def test_every_nth_frame(world: Path) -> None:
    one, three = dump(world, "one,two", "every1"), dump(world, "one,two", "every3", "--frames-per-row", "3")
    dense = [np.exp(d.get(d.ids[0]).dense(d.num_units)) for d in (one, three)]
    np.testing.assert_allclose(dense[0][::3], dense[1], atol=5e-3)


def test_an_utterance_without_a_path_is_dropped_with_its_reason(world: Path, tmp_path: Path) -> None:
    write_features(tmp_path / "mfcc", 4, too_short=1)  # of 4 frames: enough for silence, which is a sentence, so take 2
    index, cuts = read_json(tmp_path / "mfcc/index.json"), [*read_jsonl(tmp_path / "mfcc/cuts.jsonl.gz")]
    row, short = index["utterances"][-1], index["utterances"][-1]["id"]
    np.save(tmp_path / "mfcc" / row["file"], np.load(tmp_path / "mfcc" / row["file"])[:2])
    row["num_frames"], cuts[-1]["duration"], cuts[-1]["supervisions"][0]["duration"] = 2, 0.016, 0.016
    write_json(tmp_path / "mfcc/index.json", index)
    write_jsonl(tmp_path / "mfcc/cuts.jsonl.gz", cuts)
    make.main([*EXACT, "--kind", "lattice", "--graph", str(world / "exp/mono/graph_2gram"), *WIDE, "--max-dropped", "0.2",
               *(str(p) for p in (world / "exp/mono", tmp_path / "mfcc", world / "lang", tmp_path / "out"))])  # fmt: skip
    assert short not in PosteriorDump.open(tmp_path / "out")
    assert (tmp_path / "out/dropped.tsv").read_text() == f"{short}\tno path through the graph (2 frames)\n"


def test_members_label_only_speakers_that_they_have_not_heard(world: Path, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    heard.write_text("one s0\none s2\ntwo s1\ntwo s2\n")
    found = dump(world, "one,two", "cross", "--trained-on", str(heard), "--max-dropped", "0.5")
    features, models = FeatureSet.open(world / "dev/mfcc"), {"s0": "two", "s1": "one"}
    assert {u[:2] for u in found.ids} == {"s0", "s1"}
    for utterance in found.ids:
        expected = load_acoustic(world / "exp" / models[utterance[:2]]).raw_scores(features, utterance)
        np.testing.assert_allclose(np.exp(found.get(utterance).dense(found.num_units)), np.exp(expected), atol=3e-3)
    assert "all 2 members were trained on speaker s2" in (world / "cross/dropped.tsv").read_text()
    for text, complaint in (("one s0\n", "1 of them with speakers"), ("three s0\n", "line 1: 'three s0': a member")):
        heard.write_text(text)
        with pytest.raises(KdError, match=complaint):
            dump(world, "one,two", "bad", "--trained-on", str(heard))


def test_what_does_not_fit_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KdError, match=r"alien has 18 senones of tree ffffffffffff, .*one 18 of tree .*take students of one tree"):
        dump(world, "one,alien", "bad")
    with pytest.raises(KdError, match=r"mono: its scores are no posteriors \(gmm\)"):
        dump(world, "mono", "bad")
    with pytest.raises(KdError, match="takes students of kind hybrid"):
        check_members([SimpleNamespace(scores_are="mmi", folder="x")])  # type: ignore[list-item]
    with pytest.raises(KdError, match=r"has tree .* name the GMM that the model was trained with"):
        dump(world, "alien", "bad", "--unit", "phone", "--tree", str(world / "exp/mono"))
    for options, complaint in ((("--kind", "crowd"), "kinds are ensemble, lattice"), (("--unit", "phone"), "give --tree"),
                               (("--graph", "g"), "an ensemble has no graph"), (("--kind", "lattice"), r"2 models, .*lattices are of one"),
                               (("--acoustic-scale", "0"), "above 0 is expected")):  # fmt: skip
        with pytest.raises(UsageError, match=complaint):
            dump(world, "one,two", "bad", *options)
    with pytest.raises(UsageError, match="give --graph DIR"):
        dump(world, "one", "bad", "--kind", "lattice")
    shared = Tree.monophone({1: 3, 2: 3, 3: 3, 4: 3, 5: 3, 6: 3}, {1: 1, 2: 2, 3: 3, 4: 3, 5: 5, 6: 6})
    monkeypatch.setattr(Tree, "load", lambda folder: shared)
    with pytest.raises(KdError, match="phones share senones"):
        make.phones_of(Path("g"), shared.digest, world / "lang")
    assert not (world / "bad").exists()
