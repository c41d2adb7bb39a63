"""The two steps on disk: train_teacher and dump_posteriors."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from teacher_data import make_tree, sentences, write_alignments, write_lang, write_text

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.posteriors import make as dump_step
from kdtool.posteriors.dump import PosteriorDump
from kdtool.posteriors.job import Tally, posteriors
from kdtool.posteriors.make import Config, learn_coder
from kdtool.posteriors.source import UnitRows
from kdtool.teacher import train as train_step
from kdtool.teacher.base import perplexity
from kdtool.teacher.registry import load_teacher
from kdtool.teacher.train import aligned_units
from kdtool.units.segments import unit_segments

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class World:
    root: Path
    lang: Lang
    tree: Tree

    def args(self) -> list[str]:
        return [str(self.root / n) for n in ("text", "lang", "gmm", "ali_train", "ali_dev")]

    def train(self, name: str, *options: str) -> Path:
        train_step.main([*options, *self.args(), str(self.root / name)])
        return self.root / name

    def dump(self, teacher: str, name: str, *options: str, ali: str = "ali_train", lang: str = "lang") -> Path:
        dump_step.main([*options, *(str(self.root / n) for n in (lang, teacher, ali, name))])
        return self.root / name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("steps")
    lang, tree = write_lang(root / "lang"), make_tree()
    (root / "gmm").mkdir()
    tree.save(root / "gmm")
    train = [*sentences(11, seed=5), "BAT STRANGE SEA"]
    write_text(root / "text", [*sentences(500), *train[:6]])
    write_alignments(root / "ali_train", train, lang, tree)
    write_alignments(root / "ali_dev", sentences(5, seed=6), lang, tree, seed=1)
    made = World(root, lang, tree)
    made.train("phone", "--options", "{order: 3, prune: [0]}", "--held-out", "20")
    made.train("subword", "--unit", "subword", "--options", "{order: 2}", "--held-out", "20")
    made.train("senone", "--unit", "senone", "--kind", "tree", "--phone-teacher", str(root / "phone"))
    made.train("masked_phone", "--kind", "masked_ngram", "--teachers", str(root / "phone"), "--held-out", "20")
    made.train("masked_senone", "--unit", "senone", "--kind", "masked_tree", "--phone-teacher", str(root / "masked_phone"))
    return made


def content(folder: Path) -> dict[str, str]:
    """Digests of a folder's files, logs and records of the run left out."""
    skip = {"env.json", "config.yaml", ".done.json"}
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in skip and p.parent.name != "log"]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("name", ["phone", "subword", "senone", "masked_phone", "masked_senone"])
def test_teacher_and_dump_hang_together(name: str, world: World) -> None:
    ppl, unit = read_json(world.root / name / "ppl.json"), name.removeprefix("masked_")
    context, score = ("masked", "pseudo_ppl") if unit != name else ("causal", "ppl")
    dev = AlignmentSet.open(world.root / "ali_dev")
    assert ppl["unit"] == unit and ppl["context"] == context and ppl["dev"]["unseen"] == 0
    assert ppl["dev"]["tokens"] == sum(len(unit_segments(dev.get(u), unit, world.lang)) for u in dev.ids)
    out = world.dump(name, f"post_{name}", "--mass", "1.0", "--step", "0.002", "--shard-size", "5")
    ali = AlignmentSet.open(world.root / "ali_train")
    dump = PosteriorDump.open(out, alignment_digest=ali.digest)
    assert dump.ids == ali.ids and dump.meta["mean_mass_kept"] == pytest.approx(1.0) and len(dump.meta["shards"]) == 3
    assert (out / "dropped.tsv").read_text() == ""
    teacher = load_teacher(world.root / name)
    assert dump.meta["teacher_digest"] == teacher.digest
    assert dump.meta["teacher_context"] == read_json(world.root / name / "teacher.json")["context"] == context
    known = perplexity(teacher, aligned_units(ali, unit, world.lang, world.tree))
    assert dump.meta["teacher_nats_per_unit"] == pytest.approx(known["nats_per_unit"])
    assert np.log(ppl["dev"][score]) == pytest.approx(ppl["dev"]["nats_per_unit"])
    for utterance in ali.ids:
        segments = unit_segments(ali.get(utterance), unit, world.lang)
        got = dump.get(utterance)
        np.testing.assert_array_equal(got.unit_ids, segments.ids)
        np.testing.assert_array_equal(got.start, segments.start)
        rows = np.repeat(np.arange(len(got)), np.diff(got.offsets))
        # A level is 0.002 wide in 2 sqrt(p): half of it is what an entry may be off by, and a little more after scaling.
        expected = teacher.log_probs(segments.ids)[rows, got.ids]
        assert np.abs(np.exp(got.logp / 2) - np.exp(expected / 2)).max() < 0.001
    assert dump.meta["nats_lost_per_unit"] < 1e-4


def test_truncation_and_temperature_reach_the_dump(world: World) -> None:
    flat = PosteriorDump.open(world.dump("phone", "post_flat", "--temperature", "4", "--top-k", "3", "--mass", "1.0", "--step", "0.002"))
    sharp = PosteriorDump.open(world.root / "post_phone")
    assert flat.meta["temperature"] == 4.0 and flat.meta["top_k"] == 3 and flat.meta["mean_mass_kept"] < 0.9
    one, other = flat.get(flat.ids[0]), sharp.get(flat.ids[0])
    assert np.diff(one.offsets).max() == 3
    tempered = other.dense(sharp.num_units).astype(np.float64) / 4.0
    tempered -= np.log(np.exp(tempered).sum(axis=1, keepdims=True))
    rows = np.repeat(np.arange(len(one)), np.diff(one.offsets))
    np.testing.assert_allclose(np.exp(one.logp), np.exp(tempered[rows, one.ids]), atol=0.03)
    np.testing.assert_allclose(np.exp(one.rest_logp), 1 - np.bincount(rows, np.exp(one.logp)), atol=1e-5)


def test_any_number_of_jobs_gives_the_same_bytes(world: World) -> None:
    one = content(world.dump("phone", "post_1", "--nj", "1", "--shard-size", "2"))
    assert one == content(world.dump("phone", "post_3", "--nj", "3", "--shard-size", "2"))
    assert len([n for n in one if n.startswith("shard")]) == 6


def test_up_to_date_and_why_not(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.train("again", "--options", "{order: 2}")
    first = content(world.root / "again")
    world.train("again", "--options", "{order: 2}")
    assert "up to date" in capfd.readouterr().out.splitlines()[-1]
    world.train("again", "--options", "{order: 3}")
    assert "changed: option options" in capfd.readouterr().out and content(world.root / "again") != first
    world.train("again", "--options", "{order: 2}")
    assert content(world.root / "again") == first


def test_killed_and_run_again_gives_the_same_bytes(world: World) -> None:
    for step, started, whole, options, positionals in (
        ("kdtool.teacher.train", "scratch", "phone", ["--options", "{order: 3, prune: [0]}", "--held-out", "20"], world.args()),
        ("kdtool.posteriors.make", "parts", "post_phone", ["--mass", "1.0", "--step", "0.002", "--shard-size", "5"],
         [str(world.root / n) for n in ("lang", "phone", "ali_train")]),
    ):  # fmt: skip
        out = world.root / f"killed_{whole}"
        command = [sys.executable, "-m", step, *options, *positionals, str(out)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for _ in range(50):  # on a busy machine it may be done before it is killed
            shutil.rmtree(out, ignore_errors=True)
            child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not (out.with_name(f".{out.name}.work") / started).exists() and child.poll() is None:
                time.sleep(0.005)
            child.send_signal(signal.SIGKILL)
            if child.wait() == -signal.SIGKILL and not out.exists():
                break
        assert child.returncode == -signal.SIGKILL and not out.exists()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        assert content(out) == content(world.root / whole)


def test_utterances_that_a_teacher_cannot_read_are_accounted_for(world: World) -> None:
    ali = AlignmentSet.open(world.root / "ali_train")
    broken = ali.get(ali.ids[2])
    broken.pdf, broken.state = broken.pdf.copy(), broken.state.copy()
    start = int(unit_segments(broken, "senone", world.lang).start[1])
    broken.pdf[start], broken.state[start] = broken.pdf[start - 1], 0  # the phone's second state comes late
    where = broken.phone_start.searchsorted(start)
    broken.phone_start = np.insert(broken.phone_start, where, start).astype(np.int32)
    from kdtool.formats.alignment import save_alignments

    save_alignments(world.root / "ali_broken", [broken if u == broken.id else ali.get(u) for u in ali.ids], ali.meta)
    out = world.dump("senone", "post_broken", "--max-dropped", "0.2", ali="ali_broken")
    dump = PosteriorDump.open(out)
    assert len(dump) == len(ali) - 1 and broken.id not in dump
    assert (out / "dropped.tsv").read_text().startswith(f"{broken.id}\tsenone ")
    with pytest.raises(KdError, match=r"1 of 12 utterances had to be dropped, more than the allowed 5.0%"):
        world.dump("senone", "post_broken2", ali="ali_broken")
    assert not (world.root / "post_broken2").exists()


def test_units_without_probability_are_counted_apart(world: World) -> None:
    teacher, ali = load_teacher(world.root / "phone"), AlignmentSet.open(world.root / "ali_train")
    ids = unit_segments(ali.get(ali.ids[0]), "phone", world.lang).ids
    known, log_probs = Tally(), load_teacher(world.root / "phone").log_probs
    source = UnitRows(teacher, ali, world.lang)
    coder = learn_coder(source, Config())
    list(posteriors(source, coder, ali.ids[:1], 1.0, known))

    def first_unseen(units: np.ndarray) -> np.ndarray:
        rows = log_probs(units)
        lost = np.zeros(rows.shape[1], bool)
        lost[units[0]] = True
        rows[:1] = np.where(lost, -np.inf, rows[:1] - np.log1p(-np.exp(rows[0, units[0]])))
        return rows

    teacher.log_probs_many = lambda sentences: [first_unseen(units) for units in sentences]  # type: ignore[method-assign]
    tally = Tally()
    list(posteriors(source, coder, ali.ids[:1], 1.0, tally))
    assert (known.unseen, tally.unseen, tally.units) == (0, 1, len(ids)) == (0, 1, known.units)
    assert known.nats - tally.nats == pytest.approx(-float(log_probs(ids)[0, ids[0]]), abs=1e-4)
    assert read_json(world.dump("phone", "post_seen") / "meta.json")["unseen"] == 0


def test_teacher_of_other_units_is_refused(world: World) -> None:
    other = make_tree(1)
    write_alignments(world.root / "ali_other", sentences(2), world.lang, other)
    with pytest.raises(KdError, match=r"trained on senones .* has .*; train the teacher again"):
        world.dump("senone", "post_other", ali="ali_other")
    text = (world.root / "lang" / "phones.txt").read_text()
    lang = write_lang(world.root / "lang_other")
    (lang.folder / "phones.txt").write_text(text.replace("AA", "A0"))
    for name in ("lexicon.txt", "topo.txt", "text_lexicon.txt"):
        path = lang.folder / name
        path.write_text(path.read_text().replace("AA", "A0"))
    with pytest.raises(KdError, match="trained on phones"):
        world.dump("phone", "post_other", lang="lang_other")
    assert not (world.root / "post_other").exists()


def test_own_text_is_left_out_and_can_be_used(world: World) -> None:
    """Sentences of the training utterances are unseen by default: the teacher knows them better once it may read them."""
    own = world.train("own", "--options", "{order: 3, prune: [0]}", "--held-out", "20", "--own-text", "true")
    means = []
    for name in ("phone", "own"):
        means.append(PosteriorDump.open(world.dump(name, f"post_own_{name}")).meta["teacher_nats_per_unit"])
    assert means[1] < means[0] and own.exists()


def test_part_of_the_text(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.train("part", "--max-sentences", "100", "--held-out", "0", "--own-text", "true", "--options", "{order: 2}")
    # Two of the 100 are training utterances, which come as they were aligned.
    told = capfd.readouterr()
    assert "LM text as phones: 98 sentences" in told.err and "on dev" in told.out and "held_out_text" not in told.out
    assert read_json(world.root / "part" / "ppl.json")["held_out_text"] == {
        "ppl": None, "nats_per_unit": None, "tokens": 0, "unseen": 0, "sentences": 0,
    }  # fmt: skip


def test_made_of_trained_teachers(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    phone, masked, subword = (str(world.root / name) for name in ("phone", "masked_phone", "subword"))
    world.train("half", "--kind", "masked_ngram", "--options", "{ngram: {order: 2}, end: false}", "--held-out", "20")
    out = world.train("mix", "--kind", "mix", "--teachers", f"{masked},{world.root / 'half'}", "--held-out", "20")
    assert "phone mix: pseudo-perplexity" in capfd.readouterr().out
    dev = [read_json(world.root / name / "ppl.json")["held_out_text"]["pseudo_ppl"] for name in ("masked_phone", "half", "mix")]
    assert dev[2] < min(dev[:2]) + 1e-3
    world.train("mix", "--kind", "mix", "--teachers", f"{masked},{world.root / 'half'}", "--held-out", "20")
    assert "up to date" in capfd.readouterr().out
    world.train("half", "--kind", "masked_ngram", "--options", "{ngram: {order: 3}, end: false}", "--held-out", "20")
    world.train("mix", "--kind", "mix", "--teachers", f"{masked},{world.root / 'half'}", "--held-out", "20")
    assert "changed: input teacher 1" in capfd.readouterr().out and out.exists()
    for options, error, message in (
        (["--kind", "mix", "--teachers", f"{phone},{masked}"], UsageError, "of causal teachers or of masked ones"),
        (["--kind", "mix", "--teachers", f"{phone},{subword}"], KdError, "is of subwords .*, expected is one of phones"),
        (["--kind", "mix", "--teachers", f"{phone},{phone}", "--held-out", "30"], KdError, "with --held-out 20, this mix has 30"),
        (["--kind", "ngram", "--teachers", phone], UsageError, "--teachers is for kinds masked_ngram, mix"),
    ):
        with pytest.raises(error, match=message):
            world.train("never", "--held-out", "20", *options)
    assert not (world.root / "never").exists()


def test_usage(world: World) -> None:
    for wrong in (["--unit", "word"], ["--kind", "crystal"], ["--kind", "tree"], ["--held-out", "-1"], ["--max-sentences", "-3"],
                  ["--phone-teacher", str(world.root / "phone")], ["--options", "{depth: 3}"]):  # fmt: skip
        with pytest.raises(UsageError):
            world.train("never", *wrong)
    for wrong in (["--mass", "0"], ["--mass", "1.1"], ["--top-k", "-1"], ["--temperature", "0"], ["--shard-size", "0"], ["--step", "-1"],
                  ["--sample", "0"]):  # fmt: skip
        with pytest.raises(UsageError):
            world.dump("phone", "never", *wrong)
    with pytest.raises(KdError, match=r"none of gmm.safetensors, model.safetensors, teacher.json"):
        world.dump("lang", "never")
    assert not (world.root / "never").exists()


def test_empty_lm_text(world: World, tmp_path: Path) -> None:
    write_text(tmp_path / "text", [])
    with pytest.raises(KdError, match="the LM text gave no sentence"):
        train_step.main([str(tmp_path / "text"), *world.args()[1:], str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["phone", "subword", "senone", "masked_phone", "masked_senone"])
def test_utterances_without_a_unit_are_dumped_as_such(name: str, world: World, tmp_path: Path) -> None:
    """Only noise, only silence, one word: a sequence of no unit is one, not an error."""
    lines = ["[NOISE]", "", "KEY", "<UNK> 42", *sentences(2, seed=9)]
    write_alignments(tmp_path / "ali", lines, world.lang, world.tree)
    places = [str(world.root / n) for n in ("lang", name)]
    dump_step.main(["--nj", "1", "--shard-size", "1", *places, str(tmp_path / "ali"), str(tmp_path / "post")])
    dump = PosteriorDump.open(tmp_path / "post")
    assert [len(dump.get(u)) == 0 for u in dump.ids] == [True, True, False, True, False, False]
    assert (tmp_path / "post" / "dropped.tsv").read_text() == ""
    for utterance in dump.ids[:2]:
        assert (dump.get(utterance).frame_rows(50, utterance) == -1).all() and dump.get(utterance).dense(dump.num_units).shape[0] == 0


def test_an_alignment_of_noise_alone_is_refused(world: World, tmp_path: Path) -> None:
    write_alignments(tmp_path / "ali", ["[NOISE]", ""], world.lang, world.tree)
    places = [str(world.root / n) for n in ("lang", "phone")]
    with pytest.raises(KdError, match=r"none of the 2 utterances of .*ali gave posteriors"):
        dump_step.main([*places, str(tmp_path / "ali"), str(tmp_path / "post")])
