"""Masked teachers against enumeration of all sentences, without their recursions; mixing; the steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kenlm
import numpy as np
import pytest
import torch
from teacher_data import PHONES, make_tree, sentences, write_lang

from kdtool.core.errors import KdError, UsageError
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.lm.arpa import read_arpa
from kdtool.teacher import masked_ngram, trie
from kdtool.teacher import senones as through_phones
from kdtool.teacher.base import Teacher, TrainingText, perplexity
from kdtool.teacher.blstm import BlstmTeacher
from kdtool.teacher.masked_ngram import MaskedNgramTeacher
from kdtool.teacher.masked_tree import MaskedTreeOptions, MaskedTreeTeacher
from kdtool.teacher.mix import MixTeacher
from kdtool.teacher.ngram import NgramTeacher, run_lmplz
from kdtool.teacher.registry import load_teacher
from kdtool.teacher.trie import Lookup, NgramTrie
from kdtool.units.table import num_units
from kdtool.units.text import Sequences, UnitText

BLSTM = {"embedding": 8, "hidden": 24, "updates": 150, "streams": 8, "steps": 20, "rate": 0.02}


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Lang:
    return write_lang(tmp_path_factory.mktemp("masked") / "lang")


@pytest.fixture(scope="module")
def tree() -> Tree:
    return make_tree()


def material(unit: str, lang: Lang, tree: Tree, **extras: Any) -> TrainingText:
    def blocks(lines: list[str]) -> Iterator[Sequences]:
        return UnitText(unit, lang, tree).blocks(lines)

    lines = sentences(300)
    extras |= {"tree": tree, "pause": np.linspace(0.1, 0.4, len(PHONES) + 1), "phone_text": lambda: material("phone", lang, tree)}
    held = next(blocks(sentences(30, seed=1)))
    return TrainingText(unit, num_units(unit, lang, tree), lambda: blocks(lines), held, extras)


def normalised(scores: np.ndarray) -> np.ndarray:
    top = scores.max(axis=1, keepdims=True)
    return scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def replaced(ids: np.ndarray, place: int, unit: int) -> np.ndarray:
    other = ids.copy()
    other[place] = unit
    return other


# Id 1 is silence or a rare piece, which the text never has.
SENTENCES = [np.array(s) for s in ([3, 1, 4, 5, 3], [4], [1], [3, 4])]


@pytest.mark.parametrize(("order", "prune"), [(2, [0]), (4, [0]), (5, [0, 0, 1])])
@pytest.mark.parametrize("unit", ["phone", "subword"])
def test_masked_ngram_equals_all_sentences_spelled_out(unit: str, order: int, prune: list[int], lang: Lang, tree: Tree,
                                                       tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    text, arpa = material(unit, lang, tree), tmp_path / "lm.arpa"
    options = ["-o", str(order), "--discount_fallback", "-S", "50M", "-T", str(tmp_path), "--prune", *map(str, prune)]
    run_lmplz(options, text, arpa, tmp_path / "log")
    trie, reference = NgramTrie.from_arpa(read_arpa(arpa), text.num_units), kenlm.Model(str(arpa))
    monkeypatch.setattr(masked_ngram, "PAIRS", 5 * text.num_units)  # several blocks per sentence
    for ids, end in itertools.product([*itertools.islice(text.held_out, 2), *SENTENCES], (True, False)):
        wanted = np.full((len(ids), text.num_units), -np.inf)
        for i, v in itertools.product(range(len(ids)), np.flatnonzero(trie.seen)):
            line = " ".join(map(str, replaced(ids, i, v)))
            wanted[i, v] = reference.score(line, bos=True, eos=end) * np.log(10)
        got = MaskedNgramTeacher(unit, trie, end).log_probs(ids)
        assert got.dtype == np.float32 and not np.isnan(got).any()
        np.testing.assert_allclose(got, normalised(wanted), atol=2e-5)


def test_masked_bigram_by_hand(lang: Lang, tree: Tree, tmp_path: Path) -> None:
    """P(v | left) P(right | v), and at the last place P(v | left) P(</s> | v)."""
    text = material("phone", lang, tree)
    ids = next(iter(text.held_out))[:9]
    two = NgramTeacher.train(text, {"order": 2, "prune": [0]}, seed=0, work=tmp_path).trie
    rows = two.raw(np.arange(two.size)[None])
    units = np.flatnonzero(two.seen)
    wanted = rows[two.symbol[ids[3]], units] + rows[two.symbol[units], ids[5]]
    last = rows[two.symbol[ids[7]], units] + rows[two.symbol[units], two.num_units]
    got = MaskedNgramTeacher("phone", two, True).log_probs(ids)
    np.testing.assert_allclose(got[[4, 8]][:, units], normalised(np.stack([wanted, last])), atol=2e-5)


def test_unigrams_and_an_unknown_without_probability(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text("\\data\\\nngram 1=5\n\n\\1-grams:\n-99\t<unk>\n-99\t<s>\n-1\t</s>\n-0.5\t2\n-0.25\t3\n\n\\end\\\n")
    trie = NgramTrie.from_arpa(read_arpa(path), 4)
    trie.tensors["logp.1"][trie.unknown] = -np.inf
    for end in (True, False):
        probs = np.exp(MaskedNgramTeacher("phone", trie, end).log_probs(np.array([2, 0, 3])))
        np.testing.assert_allclose(probs, [[0, 0, 10**-0.25 / (1 + 10**-0.25), 1 / (1 + 10**-0.25)]] * 3, atol=1e-6)


@pytest.mark.parametrize("largest", [1 << 29, 0])
def test_lookup(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trie, "LARGEST_BITMAP", largest)
    rng = np.random.default_rng(0)
    for keys in (np.flatnonzero(rng.random(400) < 0.3), np.arange(400), np.array([0, 399]), np.zeros(0, np.int64)):
        wanted = np.full(400, -1)
        wanted[keys] = np.arange(len(keys))
        np.testing.assert_array_equal(Lookup(keys.astype(np.int64), 400)(np.arange(400)), wanted)


@pytest.fixture(scope="module")
def teachers(lang: Lang, tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Teacher]:
    work = tmp_path_factory.mktemp("work")
    text = material("phone", lang, tree)
    causal = NgramTeacher.train(text, {"order": 4, "prune": [0]}, seed=0, work=work)
    masked = MaskedNgramTeacher.train(material("phone", lang, tree, teachers=[causal]), {}, seed=0, work=work)
    short = MaskedNgramTeacher.train(text, {"ngram": {"order": 2}, "end": False}, seed=0, work=work)
    mix = MixTeacher.train(material("phone", lang, tree, teachers=[masked, short]), {}, seed=0, work=work)
    senone = MaskedTreeTeacher.train(material("senone", lang, tree, phone_teacher=masked), {}, seed=0, work=work)
    mixed = MaskedTreeTeacher.train(material("senone", lang, tree, phone_teacher=mix), {"neighbours": False}, seed=0, work=work)
    blstm = BlstmTeacher.train(text, BLSTM, seed=0, work=work)
    return {"causal": causal, "masked": masked, "short": short, "mix": mix, "senone": senone, "mixed": mixed, "blstm": blstm}


@pytest.mark.parametrize("name", ["masked", "short", "mix", "senone", "mixed", "blstm"])
def test_rows_sum_to_one_and_do_not_know_their_own_unit(name: str, teachers: dict[str, Teacher], lang: Lang, tree: Tree) -> None:
    teacher = teachers[name]
    assert teacher.context == "masked"
    ids = max(material(teacher.unit, lang, tree).held_out, key=len)
    full = teacher.log_probs(ids)
    assert full.shape == (len(ids), teacher.num_units) and full.dtype == np.float32
    np.testing.assert_allclose(np.exp(full.astype(np.float64)).sum(axis=1), 1.0, atol=1e-5)
    step = 3 if teacher.unit == "senone" else 1
    for place in range(0, len(ids), 2 * step):
        other = ids.copy()
        if step == 3:  # another phone as a whole, in the same contexts
            phone = tree.pdf_phone[ids[place]]
            other[place : place + 3] = tree.pdf_map[0, 4 if phone == 3 else 3, 0]
        else:
            other[place] = 4 if ids[place] == 3 else 3
        rows = slice(place, place + step)
        changed = teacher.log_probs(other)
        np.testing.assert_array_equal(changed[rows], full[rows])
        assert len(ids) == step or not np.array_equal(changed, full)
    assert teacher.log_probs(ids[:0]).shape == (0, teacher.num_units)


@pytest.mark.parametrize("name", ["masked", "short", "mix", "senone", "mixed", "blstm"])
def test_the_same_from_disk(name: str, teachers: dict[str, Teacher], lang: Lang, tree: Tree, tmp_path: Path) -> None:
    teacher = teachers[name]
    teacher.save(tmp_path, {"units_digest": "u"})
    again = load_teacher(tmp_path)
    ids = next(iter(material(teacher.unit, lang, tree).held_out))
    np.testing.assert_array_equal(again.log_probs(ids), teacher.log_probs(ids))
    assert (again.digest, again.context) == (teacher.digest, "masked")


def test_both_sides_say_more_than_one(teachers: dict[str, Teacher], lang: Lang, tree: Tree) -> None:
    held = list(material("phone", lang, tree).held_out)
    one, both = perplexity(teachers["causal"], held), perplexity(teachers["masked"], held)
    assert "pseudo_ppl" not in one and "ppl" not in both
    assert both["pseudo_ppl"] < 0.8 * one["ppl"] and both["tokens"] == one["tokens"]
    mixed = perplexity(teachers["mix"], held)["pseudo_ppl"]
    assert mixed <= min(both["pseudo_ppl"], perplexity(teachers["short"], held)["pseudo_ppl"]) + 1e-6


@pytest.mark.parametrize("neighbours", [True, False])
def test_masked_senones_equal_all_phones_and_pauses_spelled_out(neighbours: bool, teachers: dict[str, Teacher], lang: Lang, tree: Tree,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(through_phones, "MISMATCH", 0.0)
    trained = teachers["senone"]
    assert isinstance(trained, MaskedTreeTeacher)
    teacher = MaskedTreeTeacher(trained.phone, tree, trained.pause, MaskedTreeOptions({}, 1e-9, neighbours))
    said = [lang.phones[p] for p in ("T", "IY", "S", "AA", "B")]
    context = [0, said[0], said[1], 0, *said[2:], 0]  # a pause after the second phone
    ids = [int(tree.pdf_map[context[i - 1], context[i], context[i + 1], k]) for i in (1, 2, 4, 5, 6) for k in range(3)]
    got = np.exp(teacher.log_probs(np.array(ids)).astype(np.float64))
    prior = np.exp(trained.phone.log_probs(np.array(said)).astype(np.float64))
    for j in range(5):
        wanted = np.zeros((3, tree.num_pdfs))
        for v, pauses in itertools.product(range(3, len(PHONES) + 1), itertools.product([0, 1], repeat=4)):
            phones = [*said[:j], v, *said[j + 1 :]]
            weight = prior[j, v] * np.prod([trained.pause[p] if b else 1 - trained.pause[p] for p, b in zip(phones, pauses, strict=False)])
            left = [0, *(0 if b else p for p, b in zip(phones, pauses, strict=False))]
            right = [*(0 if b else p for p, b in zip(phones[1:], pauses, strict=True)), 0]
            senones = [[int(tree.pdf_map[a, p, c, k]) for k in range(3)] for a, p, c in zip(left, phones, right, strict=True)]
            if not neighbours or all(senones[i] == ids[3 * i : 3 * i + 3] for i in range(5) if i != j):
                wanted[np.arange(3), senones[j]] += weight
        np.testing.assert_allclose(got[3 * j : 3 * j + 3], wanted / wanted.sum(axis=1, keepdims=True), atol=2e-6, err_msg=f"phone {j}")


def test_masked_senones_of_phones_with_other_numbers_of_states(teachers: dict[str, Teacher], lang: Lang) -> None:
    tree = Tree.monophone({p: 5 if p == 1 else 2 if p in (3, 4) else 3 for p in range(1, len(PHONES) + 1)})
    trained = teachers["senone"]
    assert isinstance(trained, MaskedTreeTeacher)
    teacher = MaskedTreeTeacher(trained.phone, tree, trained.pause, MaskedTreeOptions())
    ids = np.concatenate([tree.pdf_map[0, p, 0][tree.pdf_map[0, p, 0] >= 0] for p in (5, 3, 6)])
    probs = np.exp(teacher.log_probs(ids).astype(np.float64))
    prior = np.exp(trained.phone.log_probs(np.array([5, 3, 6]))[1].astype(np.float64))
    both = tree.pdf_map[0, [3, 4], 0, 1]
    wanted = 0.999 * prior[[3, 4]] / prior[[3, 4]].sum() + 0.0005
    np.testing.assert_allclose(probs[4, both], wanted, atol=1e-6)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-6)
    with pytest.raises(KdError, match="the last phone has 2 senones, its HMM 3 states"):
        teacher.log_probs(ids[:-1])


def test_masked_senones_survive_one_that_the_tree_would_not_give(teachers: dict[str, Teacher], lang: Lang, tree: Tree) -> None:
    ids = next(iter(material("senone", lang, tree).held_out)).copy()
    for senone in np.flatnonzero((tree.pdf_phone == tree.pdf_phone[ids[4]]) & (tree.pdf_state == 1)):
        ids[4] = senone
        rows = teachers["senone"].log_probs(ids)
        assert np.isfinite(rows[np.arange(len(ids)), ids]).all()


def test_what_cannot_be_combined(teachers: dict[str, Teacher], lang: Lang, tree: Tree, tmp_path: Path) -> None:
    causal, masked = teachers["causal"], teachers["masked"]

    def phone(*given: Teacher) -> TrainingText:
        return material("phone", lang, tree, teachers=list(given))

    for cls, text, options, message in (
        (MixTeacher, phone(causal, masked), {}, "of causal teachers or of masked ones"),
        (MixTeacher, phone(causal), {"masked_ngram": {}}, "of causal teachers or of masked ones"),
        (MixTeacher, phone(causal), {}, "two teachers or more"),
        (MaskedNgramTeacher, phone(causal, causal), {}, "made from one teacher of kind ngram, not from: ngram, ngram"),
        (MaskedNgramTeacher, phone(masked), {}, "not from: masked_ngram"),
        (MaskedTreeTeacher, material("senone", lang, tree, phone_teacher=causal), {}, "from a masked phone teacher, not from a causal"),
        (MaskedTreeTeacher, material("senone", lang, tree), {"smooth": 0}, "a share between 0 and 1"),
        (MaskedTreeTeacher, phone(), {}, "is for senones, not phones"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            cls.train(text, options, seed=0, work=tmp_path)


def test_mix_of_trained_teachers_and_of_new_ones(teachers: dict[str, Teacher], lang: Lang, tree: Tree, tmp_path: Path) -> None:
    text = material("phone", lang, tree, teachers=[teachers["causal"]])
    mix = MixTeacher.train(text, {"ngram": {"order": 2, "prune": [0]}}, seed=0, work=tmp_path)
    assert list(mix.parts) == ["ngram", "ngram.2"] and mix.parts["ngram"] is teachers["causal"] and mix.context == "causal"
    best = perplexity(mix, text.held_out)["ppl"]
    for share in (0.0, 0.5, 1.0):
        assert perplexity(MixTeacher(mix.parts, np.array([share, 1 - share])), text.held_out)["ppl"] > best - 1e-6


def test_blstm_equals_loops_over_cells(teachers: dict[str, Teacher], lang: Lang, tree: Tree) -> None:
    teacher = teachers["blstm"]
    weights = {n: torch.from_numpy(v) for n, v in teacher.tensors().items()}
    ids = next(iter(material("phone", lang, tree).held_out))

    def states(side: str, units: list[int]) -> list[torch.Tensor]:
        cell = torch.nn.LSTMCell(8, 24)
        cell.load_state_dict({n: weights[f"{side}.{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")})
        state, said = (torch.zeros(1, 24), torch.zeros(1, 24)), []
        for unit in units:
            state = cell(weights["embed.weight"][[int(unit)]], state)
            said.append(state[0][0])
        return said

    edge = teacher.num_units
    before, after = states("right", [edge, *ids[:-1]]), states("left", [edge, *ids[:0:-1]])[::-1]
    rows = torch.stack([torch.cat(pair) for pair in zip(before, after, strict=True)])
    hidden = torch.nn.functional.gelu(rows @ weights["join.weight"].T + weights["join.bias"])
    logits = hidden @ weights["out.weight"].T + weights["out.bias"]
    logits[:, weights["seen"] == 0] = -torch.inf
    np.testing.assert_allclose(teacher.log_probs(ids), torch.log_softmax(logits, 1).detach().numpy(), atol=1e-5)


def test_blstm_learns_from_both_sides_and_again_the_same(teachers: dict[str, Teacher], lang: Lang, tree: Tree, tmp_path: Path) -> None:
    text = material("phone", lang, tree)
    own, again, other = (BlstmTeacher.train(text, {**BLSTM, "updates": 5}, seed=seed, work=tmp_path).tensors() for seed in (0, 0, 1))
    assert all(np.array_equal(again[n], v) for n, v in own.items()) and any((other[n] != v).any() for n, v in own.items())
    held = list(text.held_out)
    assert perplexity(teachers["blstm"], held)["pseudo_ppl"] < 0.9 * perplexity(teachers["causal"], held)["ppl"]
    unseen = np.isneginf(teachers["blstm"].log_probs(held[0])).all(axis=0)
    np.testing.assert_array_equal(unseen, np.isneginf(teachers["causal"].log_probs(held[0])).all(axis=0))
    with pytest.raises(UsageError, match="must be above 0"):
        BlstmTeacher.train(text, {"steps": 0}, seed=0, work=tmp_path)
    with pytest.raises(KdError, match="its weights do not fit its options"):
        BlstmTeacher.from_tensors("phone", 9, own, {"options": BLSTM})
