"""Hugging Face LMs as teachers of subwords: small models that the tests make and save, against the same models asked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from teacher_data import make_tree, sentences, write_alignments, write_lang, write_text
from tokenizers import Tokenizer, models
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json
from kdtool.lang.lang import Lang
from kdtool.posteriors import make as dump_step
from kdtool.teacher import train as train_step
from kdtool.teacher.base import TrainingText
from kdtool.teacher.hf import HfTeacher, _spelled
from kdtool.teacher.mix import MixTeacher
from kdtool.teacher.ngram import NgramTeacher
from kdtool.teacher.registry import load_teacher
from kdtool.units.text import UnitText

SPECIALS = {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "mask", "cls", "sep")}
CONVENTION = {"gpt2": "bytes", "llama": "sentencepiece", "bert": "wordpiece"}


@pytest.fixture(scope="module")
def lang(tmp_path_factory: pytest.TempPathFactory) -> Lang:
    return write_lang(tmp_path_factory.mktemp("hf") / "lang")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return sentences(80)


def pieces_of(lang: Lang) -> list[str]:
    names = {number: piece for piece, number in lang.subwords.items()}
    return [names[number] for number in range(len(names))]


def text_of(lang: Lang, lines: list[str], folder: Path | None, unit: str = "subword") -> TrainingText:
    blocks = list(UnitText("subword", lang, None).blocks(lines))
    held = next(UnitText("subword", lang, None).blocks(sentences(20, seed=1)))
    return TrainingText(unit, len(lang.subwords), lambda: iter(blocks), held, {"hf_lm": folder, "pieces": pieces_of(lang)})


def save(folder: Path, kind: str, pieces: list[str], case: str = "keep", seed: int = 0, **settings: Any) -> Path:
    """A small LM of random weights whose vocabulary has the pieces, in the order of their spelling, among other tokens."""
    names = [_spelled(piece, CONVENTION[kind], case) for piece in pieces]
    tokens = [*SPECIALS.values(), "zzz", "!", *sorted({n for n in names if n} - set(SPECIALS.values()))]
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab, unk_token="<unk>")), **SPECIALS)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    size = {"vocab_size": len(vocab), "initializer_range": 0.5}
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 66}
    model: Any
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**size, n_embd=16, n_layer=2, n_head=2, n_positions=66, **settings))
    elif kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**size, **small, **settings))
    else:
        model = BertForMaskedLM(BertConfig(**size, **small, **settings))
    model.save_pretrained(folder, safe_serialization=True)
    return folder



@pytest.fixture(scope="module")
def made(lang: Lang, lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[HfTeacher, Path]]:
    result = {}
    for kind in CONVENTION:
        folder = save(tmp_path_factory.mktemp("lm") / kind, kind, pieces_of(lang), "lower" if kind == "gpt2" else "keep")
        options = {"case": "lower"} if kind == "gpt2" else {"batch": 3, "max_lost": 0.2}
        result[kind] = (HfTeacher.train(text_of(lang, lines, folder), options, seed=0, work=folder), folder)
    return result


def longest(lang: Lang) -> np.ndarray:
    return max(text_of(lang, [], None).held_out, key=len)


@pytest.mark.parametrize("kind", [*CONVENTION])
def test_rows_are_the_model_asked_by_hand(kind: str, made: dict[str, Any], lang: Lang, lines: list[str]) -> None:
    teacher, folder = made[kind]
    assert teacher.info["convention"] == CONVENTION[kind] and teacher.context == ("masked" if kind == "bert" else "causal")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM, "bert": BertForMaskedLM}[kind].from_pretrained(folder).eval()
    pieces, ids = pieces_of(lang), longest(lang)
    counts = np.bincount(np.concatenate([b.ids for b in text_of(lang, lines, None).blocks()]), minlength=len(pieces))
    case = "lower" if kind == "gpt2" else "keep"
    names = [_spelled(p, CONVENTION[kind], case) if n else None for p, n in zip(pieces, counts, strict=True)]
    vocab = tokenizer.get_vocab()
    tokens = [vocab[n] if n else None for n in names]
    assert len(ids) > 8 and counts.min() == 0
    said = [tokens[i] if tokens[i] is not None else tokenizer.unk_token_id for i in ids]
    wanted = np.full((len(ids), len(pieces)), -np.inf)
    for i in range(len(ids)):
        if kind == "bert":
            line = [tokenizer.cls_token_id, *said[:i], tokenizer.mask_token_id, *said[i + 1 :], tokenizer.sep_token_id]
            logits = model(torch.tensor([line])).logits[0, i + 1]
        else:
            logits = model(torch.tensor([[tokenizer.bos_token_id, *said[:i]]])).logits[0, -1]
        for unit, token in enumerate(tokens):
            if token is not None:
                wanted[i, unit] = logits[token].item()
    wanted -= np.log(np.exp(wanted).sum(axis=1, keepdims=True))
    got = teacher.log_probs(ids)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=2e-4)
    np.testing.assert_allclose(np.exp(got.astype(np.float64)).sum(axis=1), 1.0, atol=1e-6)
    assert teacher.log_probs(ids[:0]).shape == (0, len(pieces)) and teacher.log_probs(ids[:1]).shape == (1, len(pieces))


@pytest.mark.parametrize("kind", [*CONVENTION])
def test_what_a_row_has_read(kind: str, made: dict[str, Any], lang: Lang) -> None:
    teacher, ids = made[kind][0], longest(lang)
    full = teacher.log_probs(ids)
    unit = next(u for u in teacher._known if u not in ids[3:8])
    for place in range(len(ids)):
        other = ids.copy()
        other[place] = unit
        changed = teacher.log_probs(other)
        if kind == "bert":
            np.testing.assert_array_equal(changed[place], full[place])
            rest = np.arange(len(ids)) != place
        else:
            np.testing.assert_allclose(changed[: place + 1], full[: place + 1], atol=1e-5)
            rest = np.arange(len(ids)) > place
        if ids[place] != unit and rest.any():
            assert (np.abs(np.exp(changed[rest]) - np.exp(full[rest])).max(axis=1) > 1e-7).all()


@pytest.mark.parametrize("kind", [*CONVENTION])
def test_the_same_from_disk_without_the_folder(kind: str, made: dict[str, Any], lang: Lang, tmp_path: Path) -> None:
    teacher, _ = made[kind]
    teacher.save(tmp_path, {"units_digest": "u"})
    again = load_teacher(tmp_path)
    np.testing.assert_array_equal(again.log_probs(longest(lang)), teacher.log_probs(longest(lang)))
    assert (again.digest, again.context) == (teacher.digest, teacher.context)
    assert "/" not in json.dumps(teacher.info["config"])
    if kind == "gpt2":
        assert "lm_head.weight" in teacher.info["tied"]


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_long_sentences_are_read_in_windows(kind: str, made: dict[str, Any], lang: Lang, lines: list[str]) -> None:
    teacher, folder = made[kind]
    assert teacher.info["window"] == 64
    ids = np.concatenate(list(text_of(lang, [], None).held_out))[:75]
    rows = teacher.log_probs(ids)
    np.testing.assert_allclose(np.exp(rows.astype(np.float64)).sum(axis=1), 1.0, atol=1e-6)
    options = {"window": 8, "case": "lower" if kind == "gpt2" else "keep", "max_lost": 0.2}
    narrow = HfTeacher.train(text_of(lang, lines, folder), options, seed=0, work=folder)
    got = narrow.log_probs(ids)
    if kind == "gpt2":
        # Windows start at 0, 4, 8 ..; each gives the rows that it is the first to reach.
        np.testing.assert_allclose(got[:8], teacher.log_probs(ids[:8]), atol=1e-5)
        own = torch.from_numpy(np.concatenate([[teacher.info["first"]], teacher.tokens[ids]]))
        with torch.no_grad():
            logits = teacher.model(own[None, 4:12]).logits[0, 4:, teacher.tokens[teacher._known]]
        np.testing.assert_allclose(got[8:12, teacher._known], torch.log_softmax(logits, 1).numpy(), atol=1e-5)
    else:
        np.testing.assert_allclose(got[40], teacher.log_probs(ids[37:43])[3], atol=1e-5)
        np.testing.assert_allclose(got[74], teacher.log_probs(ids[69:])[5], atol=1e-5)
        np.testing.assert_allclose(got[0], teacher.log_probs(ids[:6])[0], atol=1e-5)


def test_spelling() -> None:
    for piece, convention, case, wanted in (
        ("▁THE", "sentencepiece", "lower", "▁the"), ("ING", "sentencepiece", "keep", "ING"), ("▁", "sentencepiece", "keep", "▁"),
        ("▁THE", "bytes", "lower", "Ġthe"), ("ING", "bytes", "lower", "ing"), ("▁é", "bytes", "keep", "ĠÃ©"), ("▁", "bytes", "keep", "Ġ"),
        ("▁THE", "wordpiece", "lower", "the"), ("ING", "wordpiece", "lower", "##ing"), ("▁", "wordpiece", "keep", None),
    ):  # fmt: skip
        assert _spelled(piece, convention, case) == wanted


def test_units_without_a_token(lang: Lang, lines: list[str], tmp_path: Path) -> None:
    text = text_of(lang, lines, None)
    counts = np.bincount(np.concatenate([b.ids for b in text.blocks()]), minlength=text.num_units)
    pieces = pieces_of(lang)
    rare = int(min(np.flatnonzero(counts), key=lambda i: counts[i]))
    folder = save(tmp_path / "lm", "llama", [p for i, p in enumerate(pieces) if i != rare])
    share = counts[rare] / counts.sum()
    with pytest.raises(KdError, match=rf"{share:.1%} of the text's subwords have no token .* \(the most frequent: {pieces[rare]}\)"):
        HfTeacher.train(text_of(lang, lines, folder), {"max_lost": share / 2}, seed=0, work=tmp_path)
    teacher = HfTeacher.train(text_of(lang, lines, folder), {"max_lost": share * 1.01}, seed=0, work=tmp_path)
    rows = teacher.log_probs(np.array([5, rare, 6, 1]))
    missing = np.isneginf(rows).all(axis=0)
    np.testing.assert_array_equal(missing, (counts == 0) | (np.arange(len(pieces)) == rare))
    assert np.isfinite(rows[:, ~missing]).all() and teacher.info["without_token"] == 1


def test_folders_that_are_refused(lang: Lang, lines: list[str], tmp_path: Path) -> None:
    def fails(folder: Path, message: str, error: type[Exception] = KdError, **options: Any) -> None:
        with pytest.raises(error, match=message):
            HfTeacher.train(text_of(lang, lines, folder), options, seed=0, work=tmp_path)

    pieces = pieces_of(lang)
    fails(tmp_path / "nothing", "no Hugging Face LM")
    good = save(tmp_path / "good", "llama", pieces)
    fails(good, "convention is auto", UsageError, convention="mine")
    fails(good, "unknown option cas", UsageError, cas="lower")
    fails(good, "window 90 for a LM that reads 64", UsageError, window=90)
    fails(good, "no token in this LM", case="lower")
    double = text_of(lang, lines, good)
    double.extras["pieces"] = ["A"] * len(pieces)
    with pytest.raises(KdError, match="are the same token"):
        HfTeacher.train(double, {"max_lost": 1.0}, seed=0, work=tmp_path)
    pickled = save(tmp_path / "pickled", "llama", pieces)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    fails(pickled, "cannot be read: .*safetensors")
    remote = save(tmp_path / "remote", "llama", pieces)
    config = read_json(remote / "config.json")
    del config["model_type"]
    (remote / "config.json").write_text(json.dumps({**config, "model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}))
    (remote / "mine.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nclass Mine: pass\n")
    fails(remote, "cannot be read: .*trust_remote_code")
    assert not (tmp_path / "pwned").exists()
    fails(save(tmp_path / "ahead", "bert", pieces), "looks ahead", context="causal", max_lost=0.2)
    headless = save(tmp_path / "headless", "llama", pieces)
    LlamaForCausalLM.from_pretrained(headless).model.save_pretrained(headless)
    fails(headless, "is this LM .LlamaModel. causal or masked", UsageError)
    fails(headless, "no weights for lm_head.weight: it is no causal LM", context="causal")
    with pytest.raises(UsageError, match="a teacher of subwords made from a LM's folder"):
        HfTeacher.train(text_of(lang, lines, good, "phone"), {}, seed=0, work=tmp_path)


def test_mixed_with_an_ngram(made: dict[str, Any], lang: Lang, lines: list[str], tmp_path: Path) -> None:
    text = text_of(lang, lines, None)
    ngram = NgramTeacher.train(text, {"order": 2, "prune": [0]}, seed=0, work=tmp_path)
    text.extras["teachers"] = [made["gpt2"][0], ngram]
    MixTeacher.train(text, {}, seed=0, work=tmp_path).save(tmp_path, {})
    mix = load_teacher(tmp_path)
    assert isinstance(mix, MixTeacher) and list(mix.parts) == ["hf", "ngram"] and mix.weights[1] > 0.9
    text.extras["teachers"] = [made["bert"][0], ngram]
    with pytest.raises(UsageError, match="of causal teachers or of masked ones"):
        MixTeacher.train(text, {}, seed=0, work=tmp_path)


def test_through_the_steps(made: dict[str, Any], lang: Lang, lines: list[str], tmp_path: Path) -> None:
    tree = make_tree()
    (tmp_path / "gmm").mkdir()
    tree.save(tmp_path / "gmm")
    write_text(tmp_path / "text", lines)
    for name in ("train", "dev"):
        write_alignments(tmp_path / name, sentences(4, seed=5), lang, tree)
    data = [str(tmp_path / "text"), str(lang.folder), *(str(tmp_path / n) for n in ("gmm", "train", "dev"))]
    options = ["--unit", "subword", "--kind", "hf", "--hf-lm", str(made["bert"][1]), "--options", "{max_lost: 0.2}"]
    train_step.main([*options, *data, str(tmp_path / "teacher")])
    assert read_json(tmp_path / "teacher" / "ppl.json")["context"] == "masked"
    dump_step.main([str(lang.folder), str(tmp_path / "teacher"), str(tmp_path / "train"), str(tmp_path / "post")])
    meta = read_json(tmp_path / "post" / "meta.json")
    assert (meta["teacher_kind"], meta["teacher_context"], meta["utterances"]) == ("hf", "masked", 4)
    for wrong in (["--kind", "hf", "--unit", "subword"], ["--kind", "hf", "--hf-lm", "x"], ["--unit", "subword", "--hf-lm", "x"]):
        with pytest.raises(UsageError, match="kind hf is for subwords and needs --hf-lm"):
            train_step.main([*wrong, *data, str(tmp_path / "never")])
