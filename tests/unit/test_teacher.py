"""Teachers: against KenLM, torch and explicit sums; causal; identical when read from disk."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kenlm
import numpy as np
import pytest
from teacher_data import PHONES, make_tree, sentences, write_lang

from kdtool.core.errors import KdError, UsageError
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.lm.arpa import read_arpa
from kdtool.teacher.base import Teacher, TrainingText, perplexity
from kdtool.teacher.mix import MixTeacher
from kdtool.teacher.ngram import NgramTeacher, run_lmplz
from kdtool.teacher.registry import KINDS, load_teacher
from kdtool.teacher.senones import TreeOptions
from kdtool.teacher.tree_senone import TreeSenoneTeacher
from kdtool.teacher.trie import NgramTrie
from kdtool.units.table import num_units
from kdtool.units.text import Sequences, UnitText

LSTM = {"embedding": 8, "hidden": 24, "updates": 60, "streams": 8, "steps": 20}
OPTIONS: dict[str, dict[str, Any]] = {
    "ngram": {"order": 3, "prune": [0]}, "lstm": LSTM, "mix": {"ngram": {"order": 2, "prune": [0]}, "lstm": LSTM},
    "tree": {"phone": {"order": 4, "prune": [0]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Lang:
    return write_lang(tmp_path_factory.mktemp("teacher") / "lang")


@pytest.fixture(scope="module")
def tree() -> Tree:
    return make_tree()


def material(unit: str, lang: Lang, tree: Tree) -> TrainingText:
    def blocks(lines: list[str], unit: str = unit) -> Iterator[Sequences]:
        return UnitText(unit, lang, tree).blocks(lines)

    lines = sentences(400)
    extras: dict[str, Any] = {"tree": tree, "pause": np.full(len(PHONES) + 1, 0.02)}
    if unit == "senone":
        extras["phone_text"] = lambda: material("phone", lang, tree)
    held = next(blocks(sentences(30, seed=1)))
    return TrainingText(unit, num_units(unit, lang, tree), lambda: blocks(lines), held, extras)


def make(kind: str, unit: str, lang: Lang, tree: Tree, work: Path, seed: int = 0) -> Teacher:
    return KINDS[kind].train(material(unit, lang, tree), OPTIONS[kind], seed=seed, work=work)


TEACHERS = [("ngram", "phone"), ("ngram", "subword"), ("ngram", "senone"), ("lstm", "phone"), ("mix", "subword"), ("tree", "senone")]


@pytest.fixture(scope="module")
def teachers(lang: Lang, tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Teacher]:
    return {(k, u): make(k, u, lang, tree, tmp_path_factory.mktemp("work")) for k, u in TEACHERS}


def test_every_kind_is_tried_here_or_has_a_file_of_its_own() -> None:
    assert {kind for kind, _ in TEACHERS} | {"masked_ngram", "masked_tree", "blstm", "hf"} == set(KINDS)


@pytest.mark.parametrize("prune", [[0], [0, 0, 2]])
@pytest.mark.parametrize("unit", ["phone", "subword"])
def test_ngram_equals_kenlm(unit: str, prune: list[int], lang: Lang, tree: Tree, tmp_path: Path) -> None:
    text = material(unit, lang, tree)
    arpa = tmp_path / "lm.arpa"
    options = ["-o", "4", "--discount_fallback", "-S", "50M", "-T", str(tmp_path), "--prune", *map(str, prune)]
    run_lmplz(options, text, arpa, tmp_path / "log")
    trie, reference = NgramTrie.from_arpa(read_arpa(arpa), text.num_units), kenlm.Model(str(arpa))
    units = [*range(text.num_units), "</s>", "<unk>"]
    rng = np.random.default_rng(0)
    # Sentences of the kind it knows, one of noise, and one with a unit that it never saw (id 1: silence, or a rare piece).
    for ids in [*itertools.islice(text.held_out, 3), rng.integers(3, text.num_units, 12), np.array([3, 1, 4, 5, 3])]:
        raw = trie.raw(trie.states(ids))
        before, after = kenlm.State(), kenlm.State()
        reference.BeginSentenceWrite(before)
        for row in range(len(ids) + 1):
            wanted = [reference.BaseScore(before, str(u), kenlm.State()) for u in units]
            np.testing.assert_allclose(raw[row] / np.log(10), wanted, atol=1e-5)
            if row < len(ids):
                reference.BaseScore(before, str(ids[row]), after)
                before, after = after, before


@pytest.mark.parametrize("key", TEACHERS)
def test_distributions_are_causal_and_sum_to_one(key: tuple[str, str], teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    teacher = teachers[key]
    ids = max(material(teacher.unit, lang, tree).held_out, key=len).copy()
    full = teacher.log_probs(ids)
    assert full.shape == (len(ids), teacher.num_units) and full.dtype == np.float32
    np.testing.assert_allclose(np.exp(full.astype(np.float64)).sum(axis=1), 1.0, atol=1e-5)
    other = max(material(teacher.unit, lang, tree).held_out, key=lambda s: len(s) * (not np.array_equal(s, ids)))
    step = 3 if teacher.unit == "senone" else 1  # the tree's teacher takes whole phones only
    for cut in range(0, len(ids), 4 * step):
        # Row `cut` must not know unit `cut`: everything from there on is replaced.
        changed = np.concatenate([ids[:cut], other[: len(ids) - cut]])
        rows = min(cut + 1, len(changed))
        np.testing.assert_allclose(teacher.log_probs(changed)[:rows], full[:rows], atol=2e-5)
        np.testing.assert_allclose(teacher.log_probs(ids[: cut + 1]), full[: cut + 1], atol=2e-5)
    assert teacher.log_probs(ids[:0]).shape == (0, teacher.num_units)


@pytest.mark.parametrize("key", TEACHERS)
def test_sentences_together_get_what_each_gets_alone(key: tuple[str, str], teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    teacher = teachers[key]
    text = [np.array(ids) for ids in itertools.islice(material(teacher.unit, lang, tree).held_out, 5)]
    sentences = [text[0][:0], text[1], text[0][:1], text[2][:0], *text[2:], text[0][:0]]
    alone = [teacher.log_probs(ids) for ids in sentences]
    together = teacher.log_probs_many(sentences)
    assert len(together) == len(sentences)
    for one, other in zip(together, alone, strict=True):
        assert one.shape == other.shape and one.dtype == np.float32
        np.testing.assert_allclose(np.exp(one), np.exp(other), atol=1e-6)
    assert [len(rows) for rows in teacher.log_probs_many([text[0][:0]])] == [0]


@pytest.mark.parametrize("key", [k for k in TEACHERS if k[0] != "tree"])
def test_units_never_seen_have_no_probability(key: tuple[str, str], teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    teacher = teachers[key]
    seen = np.unique(np.concatenate([b.ids for b in material(teacher.unit, lang, tree).blocks()]))
    unseen = np.setdiff1d(np.arange(teacher.num_units), seen)
    probs = teacher.log_probs(next(iter(material(teacher.unit, lang, tree).held_out)))
    assert len(unseen) and np.all(probs[:, unseen] == -np.inf) and np.all(probs[:, seen] > -np.inf)


@pytest.mark.parametrize("key", TEACHERS)
def test_the_same_from_disk(key: tuple[str, str], teachers: dict[Any, Teacher], lang: Lang, tree: Tree, tmp_path: Path) -> None:
    teacher = teachers[key]
    teacher.save(tmp_path, {"units_digest": "u"})
    again = load_teacher(tmp_path)
    ids = next(iter(material(teacher.unit, lang, tree).held_out))
    np.testing.assert_array_equal(again.log_probs(ids), teacher.log_probs(ids))
    assert again.digest == teacher.digest and len(again.digest) == 64
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3] + b"abc")
    with pytest.raises(KdError, match=r"model.safetensors: digest is [0-9a-f]{32}, teacher.json says [0-9a-f]{32}"):
        load_teacher(tmp_path)


@pytest.mark.parametrize("kind", ["lstm", "ngram"])
def test_same_seed_same_weights(kind: str, teachers: dict[Any, Teacher], lang: Lang, tree: Tree, tmp_path: Path) -> None:
    again = make(kind, "phone", lang, tree, tmp_path)
    for name, value in teachers[kind, "phone"].tensors().items():
        np.testing.assert_array_equal(again.tensors()[name], value)
    if kind == "lstm":
        other = make(kind, "phone", lang, tree, tmp_path, seed=1).tensors()
        assert any((other[n] != v).any() for n, v in again.tensors().items())


def test_perplexities_are_in_order(teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    held = material("phone", lang, tree).held_out
    for key in (("ngram", "phone"), ("lstm", "phone")):
        score = perplexity(teachers[key], held)
        assert score["tokens"] == len(held.ids) and score["unseen"] == 0 and score["sentences"] == 30
        assert score["ppl"] < 0.6 * len(PHONES), key
    senones = material("senone", lang, tree).held_out
    assert perplexity(teachers["tree", "senone"], senones)["ppl"] < perplexity(teachers["ngram", "senone"], senones)["ppl"]


def test_perplexity_counts_unseen_units_apart(teachers: dict[Any, Teacher]) -> None:
    ids = np.array([3, 4, len(PHONES), 3])  # ZH is in no word
    score = perplexity(teachers["ngram", "phone"], [ids, ids[:0]])
    own = teachers["ngram", "phone"].log_probs(ids)[[0, 1, 3], ids[[0, 1, 3]]]
    assert score["unseen"] == 1 and score["tokens"] == 3 and score["sentences"] == 1
    assert score["ppl"] == pytest.approx(np.exp(-own.mean()), rel=1e-5)


def test_lstm_equals_a_loop_over_cells(teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    import torch

    teacher = teachers["lstm", "phone"]
    weights = {n: torch.from_numpy(v) for n, v in teacher.tensors().items()}
    cell = torch.nn.LSTMCell(8, 24)
    cell.load_state_dict({n: weights[f"lstm.{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")})
    ids = next(iter(material("phone", lang, tree).held_out))
    state, wanted = (torch.zeros(1, 24), torch.zeros(1, 24)), []
    for unit in [teacher.num_units, *ids[:-1]]:
        state = cell(weights["embed.weight"][[int(unit)]], state)
        logits = state[0] @ weights["out.weight"].T + weights["out.bias"]
        logits[:, weights["seen"] == 0] = -torch.inf
        wanted.append(torch.log_softmax(logits, dim=1)[0].detach().numpy())
    np.testing.assert_allclose(teacher.log_probs(ids), np.stack(wanted), atol=1e-5)


def test_mixture_is_the_weighted_sum(teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    mix = teachers["mix", "subword"]
    assert isinstance(mix, MixTeacher)
    text = material("subword", lang, tree)
    ids = next(iter(text.held_out))
    wanted = sum(w * np.exp(p.log_probs(ids)) for w, p in zip(mix.weights, mix.parts.values(), strict=True))
    np.testing.assert_allclose(np.exp(mix.log_probs(ids)), wanted, atol=1e-6)
    # The weights are the best ones on the held-out text: no other mixture does better there.
    best = perplexity(mix, text.held_out)["ppl"]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        assert perplexity(MixTeacher(mix.parts, np.array([share, 1 - share])), text.held_out)["ppl"] > best - 1e-6


def spelled_out(teacher: TreeSenoneTeacher, history: list[int], lang_phones: range) -> np.ndarray:
    """P(next senone | history) by enumerating every phone sequence and every pattern of pauses that could go on from it.

    History is whole phones plus some senones of one more. Written without any of the teacher's recursions.
    """
    tree, trie = teacher.tree, teacher.trie
    states = tree.pdf_state[history]
    known = [int(p) for p, s in zip(tree.pdf_phone[history], states, strict=True) if s == 0]
    inside = int(states[-1]) + 1 if history and states[-1] < 2 else 0
    unsure = 2 if not inside else 1
    out = np.zeros(tree.num_pdfs)
    for more in itertools.product(lang_phones, repeat=unsure):
        phones = [*known, *more]
        probs = np.exp(trie.distributions(trie.states(np.array(phones)))[:-1].astype(np.float64))
        prior = np.prod([probs[i, p] for i, p in enumerate(phones)])
        for pauses in itertools.product([0, 1], repeat=len(phones) - 1):
            weight = prior
            senones: list[int] = []
            for i, phone in enumerate(phones[:-1]):
                weight *= teacher.pause[phone] if pauses[i] else 1 - teacher.pause[phone]
                left = 0 if i == 0 or pauses[i - 1] else phones[i - 1]
                right = 0 if pauses[i] else phones[i + 1]
                senones += [int(tree.pdf_map[left, phone, right, s]) for s in range(3)]
            if senones[: len(history)] == history:
                out[senones[len(history)]] += weight
    return out / out.sum()


def test_tree_teacher_sums_over_all_that_the_history_leaves_open(teachers: dict[Any, Teacher], lang: Lang, tree: Tree,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from kdtool.teacher import senones, tree_senone

    monkeypatch.setattr(senones, "MISMATCH", 0.0)
    monkeypatch.setattr(tree_senone, "NEGLIGIBLE", 0.0)
    trained = teachers["tree", "senone"]
    assert isinstance(trained, TreeSenoneTeacher)
    teacher = TreeSenoneTeacher(trained.phone, tree, np.linspace(0.1, 0.4, len(PHONES) + 1), TreeOptions(smooth=1e-9))
    t, iy, s, aa, b = (lang.phones[p] for p in ("T", "IY", "S", "AA", "B"))
    context = [0, t, iy, 0, s, iy, b, aa]  # a pause after the second phone
    ids = [int(tree.pdf_map[context[i - 1], context[i], context[i + 1], k]) for i in (1, 2, 4, 5, 6) for k in range(3)]
    full = np.exp(teacher.log_probs(np.array(ids)).astype(np.float64))
    for row in range(len(ids) - 2):
        wanted = spelled_out(teacher, ids[:row], range(3, len(PHONES) + 1))
        np.testing.assert_allclose(full[row], wanted, atol=2e-6, err_msg=f"row {row}")


def test_tree_teacher_names_senones_out_of_turn(teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    teacher = teachers["tree", "senone"]
    ids = next(iter(material("senone", lang, tree).held_out))
    for broken, at in ((ids[1:], 0), (np.delete(ids, 4), 4), (np.delete(ids, 2), 1), (ids[[0, 1, 5]], 2)):
        with pytest.raises(KdError, match=rf"senone \d+ at place {at} is state"):
            teacher.log_probs(broken)
    with pytest.raises(KdError, match="given to a teacher of"):
        teacher.log_probs(np.array([tree.num_pdfs]))


def test_tree_teacher_survives_a_senone_that_the_tree_would_not_give(teachers: dict[Any, Teacher], lang: Lang, tree: Tree) -> None:
    ids = next(iter(material("senone", lang, tree).held_out)).copy()
    peers = np.flatnonzero((tree.pdf_phone == tree.pdf_phone[ids[4]]) & (tree.pdf_state == 1))
    for ids[4] in peers:
        probs = teachers["tree", "senone"].log_probs(ids)
        assert np.isfinite(probs[np.arange(len(ids)), ids]).all()


def test_wrong_options_and_no_text(lang: Lang, tree: Tree, tmp_path: Path) -> None:
    text = material("phone", lang, tree)
    for kind, options, message in (
        ("ngram", {"ordre": 3}, "unknown option ordre; known are order, prune, memory"),
        ("ngram", {"order": 2, "prune": [0, 0, 0]}, "one count an order at most"),
        ("lstm", {"updates": 0}, "must be above 0"),
        ("mix", {"ngram": {}}, "two teachers or more"),
        ("tree", {}, "kind tree is for senones, not phones"),
        ("crystal-ball", {}, "there are: blstm, hf, lstm, masked_ngram, masked_tree, mix, ngram, tree"),
    ):
        with pytest.raises(UsageError, match=message):
            KINDS[kind].train(text, options, seed=0, work=tmp_path)
    empty = TrainingText("phone", text.num_units, lambda: iter([]), Sequences.of([]))
    for kind in ("ngram", "lstm"):
        with pytest.raises(KdError, match="gave no sentence"):
            KINDS[kind].train(empty, OPTIONS[kind], seed=0, work=tmp_path)
    with pytest.raises(KdError, match="no held-out sentences"):
        KINDS["mix"].train(empty, {}, seed=0, work=tmp_path)


def test_no_lmplz(lang: Lang, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KdError, match=r"lmplz .* is not on the PATH"):
        make("ngram", "phone", lang, tree, tmp_path)
    (tmp_path / "lmplz").write_text("#!/bin/sh\necho out of memory >&2\nexit 7\n")
    (tmp_path / "lmplz").chmod(0o755)
    with pytest.raises(KdError, match=r"lmplz failed \(status 7\) on \d+ sentences of phones:\n  out of memory"):
        make("ngram", "phone", lang, tree, tmp_path)


@pytest.mark.parametrize("unit", ["phone", "senone", "subword"])
def test_two_words_of_text_are_enough(unit: str, lang: Lang, tree: Tree, tmp_path: Path) -> None:
    blocks = [next(UnitText(unit, lang, tree).blocks(["A BAT"]))]
    text = TrainingText(unit, num_units(unit, lang, tree), lambda: iter(blocks), Sequences.of([]))
    teacher = NgramTeacher.train(text, {}, seed=0, work=tmp_path)
    teacher.save(tmp_path, {})
    probs = load_teacher(tmp_path).log_probs(blocks[0].ids)
    np.testing.assert_allclose(np.exp(probs).sum(axis=1), 1.0, atol=1e-5)
    assert perplexity(teacher, blocks[0])["ppl"] < teacher.num_units


def test_not_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(KdError, match=r"teacher.json: no such file"):
        load_teacher(tmp_path)
    (tmp_path / "teacher.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(KdError, match="is no teacher of this version"):
        load_teacher(tmp_path)


def test_lm_over_other_words_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text("\\data\\\nngram 1=4\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\n-1\t</s>\n-1\tHELLO\n\n\\end\\\n")
    with pytest.raises(KdError, match="not one over 3 units"):
        NgramTrie.from_arpa(read_arpa(path), 3)
    path.write_text(path.read_text().replace("HELLO", "2"))
    teacher = NgramTeacher("phone", NgramTrie.from_arpa(read_arpa(path), 3))
    assert np.exp(teacher.log_probs(np.array([2, 2]))).tolist() == [[0, 0, 1]] * 2
