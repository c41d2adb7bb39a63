"""Hugging Face teacher.  In: a causal or masked LM of `transformers` in a local folder.  Out: a teacher over our subwords.

Matching the two vocabularies: each of our sentencepiece units is the only token of the LM that spells the same text at the same
position in a word, found by exact string in the tokenizer's vocabulary: "▁the" itself (sentencepiece), "Ġthe" (GPT-2's bytes) or
"the" (WordPiece); "ing" as "ing" or "##ing"; letter case by option. The LM reads the sentence as our units, one token
each. A row is the LM's distribution over these tokens only, normalised: it sums to one. Row i of a causal LM depends on the
units before i only, that of a masked LM on all others, with the mask token at position i.
Limits: the row is P(token | it is one of ours), so the probability of longer tokens and punctuation is dropped; and an LM trained on its
own segmentation sees words cut in an unfamiliar way (not so one trained on text cut by our sentencepiece model). Units without a token have
no probability, and as context they are the unknown token; if they exceed `max_lost` of the text the teacher is refused.

The folder needs config.json, weights as safetensors and a tokenizer; no code and no pickle is read. The teacher keeps a copy.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.errors import KdError, UsageError
from kdtool.teacher.base import Teacher, TrainingText, check_ids, check_options

CONVENTIONS = ("sentencepiece", "bytes", "wordpiece")
CASES = ("keep", "lower", "upper")
WORD_START = "▁"
NO_TOKEN = -1


@dataclass(frozen=True)
class HfOptions:
    """context: causal, masked, or auto (from the LM's class). convention: how its tokens mark positions in a word (auto: the one that
    fits most units). case: of our units' text. window: tokens per pass (0: the LM's maximum). batch: masked sentences per
    pass. max_lost: largest share of the text's units without a token."""

    context: str = "auto"
    convention: str = "auto"
    case: str = "keep"
    window: int = 0
    batch: int = 32
    max_lost: float = 0.01


class HfTeacher(Teacher):
    """`tokens` int64 (V,): the LM's token per unit, NO_TOKEN if it has none; `info` has configuration, special tokens, window."""

    kind = "hf"

    def __init__(self, num_units: int, model: Any, tokens: np.ndarray, info: dict[str, Any]) -> None:
        super().__init__("subword", num_units)
        self.model, self.tokens, self.info = model.eval(), tokens.astype(np.int64), info
        self.context = info["context"]
        self._known = np.flatnonzero(self.tokens != NO_TOKEN)

    @classmethod
    def train(cls, text: TrainingText, options: dict[str, Any], *, seed: int, work: Path) -> "HfTeacher":
        cfg: HfOptions = check_options(HfOptions, options, cls.kind)
        folder = text.extras.get("hf_lm")
        if text.unit != "subword" or folder is None:
            raise UsageError(f"kind hf is a teacher of subwords made from a LM's folder (--hf-lm), not of {text.unit}s")
        if cfg.convention not in ("auto", *CONVENTIONS) or cfg.case not in CASES or min(cfg.window, cfg.batch - 1, cfg.max_lost) < 0:
            raise UsageError(f"hf teacher: convention is auto, {', '.join(CONVENTIONS)}; case {', '.join(CASES)}; window and max_lost at "
                             f"least 0, batch at least 1; not {vars(cfg)}")  # fmt: skip
        model, tokenizer, context = _open(Path(folder), cfg.context)
        counts = sum((np.bincount(b.ids, minlength=text.num_units) for b in text.blocks()), np.zeros(text.num_units, np.int64))
        if not counts.any():
            raise KdError("the LM text gave no sentence to find the units in use; check the text and the lexicon")
        convention, tokens = _tokens(tokenizer, text.extras["pieces"], counts, cfg)
        _check_lost(Path(folder), tokens, counts, text.extras["pieces"], cfg.max_lost)
        info = {"context": context, "convention": convention, "case": cfg.case, "batch": cfg.batch, "without_token":
                int((counts[tokens == NO_TOKEN] > 0).sum()), **_specials(Path(folder), model, tokenizer, context, cfg.window),
                **_description(model)}  # fmt: skip
        teacher = cls(text.num_units, model, tokens, info)
        teacher.to(text.device)
        teacher._probe()
        return teacher

    def log_probs(self, unit_ids: np.ndarray) -> np.ndarray:
        import torch

        check_ids(unit_ids, self.num_units, self.unit)
        out = np.full((len(unit_ids), self.num_units), -np.inf, dtype=np.float32)
        own = self.tokens[unit_ids.astype(np.int64)]
        own = np.where(own == NO_TOKEN, self.info["unknown"], own)
        for rows, inputs, places in self._masked(own) if self.context == "masked" else self._causal(own):
            with torch.no_grad():
                logits = self.model(input_ids=torch.from_numpy(inputs).to(self.model.device)).logits.cpu()
            picked = logits[torch.arange(len(inputs))[:, None], torch.from_numpy(places)].reshape(len(rows), -1)
            picked = picked[:, torch.from_numpy(self.tokens[self._known])].double()
            out[rows[:, None], self._known] = torch.log_softmax(picked, dim=1).float().numpy()
        return out

    def _causal(self, own: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(rows, token ids (1, L), places (1, rows)): windows that overlap by half; their later half is used."""
        tokens, window = np.concatenate([[self.info["first"]], own])[:-1] if len(own) else own, self.info["window"]
        done = 0
        while done < len(own):
            first = max(0, done - window // 2)
            rows = np.arange(done, min(first + window, len(own)))
            yield rows, tokens[None, first : first + window], rows[None] - first
            done = int(rows[-1]) + 1

    def _masked(self, own: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(rows, token ids (rows, L), places (rows, 1)): the sentence once per row, with the mask at the row's position."""
        size = min(len(own), self.info["window"] - 2)
        for done in range(0, len(own), self.info["batch"]):
            rows = np.arange(done, min(done + self.info["batch"], len(own)))
            first = np.clip(rows - size // 2, 0, len(own) - size)
            inside = own[first[:, None] + np.arange(size)]
            inside[np.arange(len(rows)), rows - first] = self.info["mask"]
            begin, end = (np.full((len(rows), 1), self.info[name]) for name in ("first", "last"))
            yield rows, np.concatenate([begin, inside, end], axis=1), (rows - first)[:, None] + 1

    def _probe(self) -> None:
        """KdError when the LM cannot be a teacher: non-finite numbers, or a causal LM that looks ahead."""
        units = np.resize(self._known, 12)
        rows = self.log_probs(units)
        if np.isnan(rows).any():
            raise KdError("the Hugging Face LM answers with NaN; check its weights")
        other = np.concatenate([units[:6], np.roll(self._known, 1 + len(self._known) // 2)[:1].repeat(6)])
        if self.context == "causal" and np.abs(np.exp(self.log_probs(other)) - np.exp(rows))[:7].max() > 1e-4:
            raise KdError("the Hugging Face LM looks ahead, so it is no causal one (is_decoder in its config.json?); "
                          "give a causal LM, or a masked one with --options '{context: masked}'")  # fmt: skip

    def tensors(self) -> dict[str, np.ndarray]:
        tied = set(self.info["tied"])
        weights = {f"model/{n}": p.cpu().numpy() for n, p in self.model.state_dict().items() if n not in tied}
        return {"tokens": self.tokens, **weights}

    @classmethod
    def from_tensors(cls, unit: str, num_units: int, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> "HfTeacher":
        import torch

        hf = _transformers()
        config = hf.AutoConfig.for_model(**info["config"])
        model = _class(hf, info["context"]).from_config(config, trust_remote_code=False).float()
        weights = {n.removeprefix("model/"): torch.from_numpy(t) for n, t in tensors.items() if n != "tokens"}
        try:
            missing, strange = model.load_state_dict(weights, strict=False)
        except RuntimeError as e:
            raise KdError(f"Hugging Face teacher: its weights do not fit its configuration ({e}); make it again") from e
        if strange or set(missing) - set(info["tied"]):
            raise KdError(f"Hugging Face teacher: weights {[*strange, *missing][:3]} do not fit its configuration; make it again")
        model.tie_weights()
        return cls(num_units, model, tensors["tokens"], info)


def _transformers() -> Any:
    """The package, without network access."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError as e:
        raise KdError(f"teachers of kind hf need the package transformers, which does not import ({e}); "
                      "install it: pip install transformers (kdtool[hf])") from e  # fmt: skip
    transformers.logging.set_verbosity_error()
    return transformers


def _class(hf: Any, context: str) -> Any:
    return hf.AutoModelForMaskedLM if context == "masked" else hf.AutoModelForCausalLM


def _open(folder: Path, context: str) -> tuple[Any, Any, str]:
    """Model, tokenizer and context of an LM's folder; KdError when it cannot be read completely."""
    import torch

    hf = _transformers()
    local = {"local_files_only": True, "trust_remote_code": False}
    if not (folder / "config.json").is_file():
        raise KdError(f"{folder}: no Hugging Face LM (config.json is missing); give a folder that save_pretrained wrote")
    try:
        config = hf.AutoConfig.from_pretrained(folder, **local)
        if context == "auto":
            name = (config.architectures or [""])[0]
            context = "masked" if name.endswith("ForMaskedLM") else "causal" if name.endswith(("LMHeadModel", "ForCausalLM")) else name
        if context not in ("causal", "masked"):
            raise UsageError(f"{folder}: is this LM ({context or 'class unknown'}) causal or masked? say so: --options '{{context: ..}}'")
        model, loaded = _class(hf, context).from_pretrained(
            folder, config=config, use_safetensors=True, torch_dtype=torch.float32, output_loading_info=True, **local)  # fmt: skip
        tokenizer = hf.AutoTokenizer.from_pretrained(folder, **local)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as e:
        raise KdError(f"{folder}: this Hugging Face LM cannot be read: {str(e).splitlines()[0]}; expected are config.json, weights as "
                      "safetensors and a tokenizer, as save_pretrained writes them") from e  # fmt: skip
    if loaded["missing_keys"]:
        name = sorted(loaded["missing_keys"])[0]
        raise KdError(f"{folder}: no weights for {name}: it is no {context} LM as a whole; give one with its head")
    return model, tokenizer, context


def _spelled(piece: str, convention: str, case: str) -> str | None:
    """The LM's token string of one of our pieces; None if the convention has none."""
    text = {"keep": piece, "lower": piece.lower(), "upper": piece.upper()}[case]
    if convention == "sentencepiece":
        return text
    if convention == "wordpiece":
        name = text[1:] if text.startswith(WORD_START) else f"##{text}"
        return name or None
    from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

    table = bytes_to_unicode()
    return "".join(table[b] for b in text.replace(WORD_START, " ").encode())


def _tokens(tokenizer: Any, pieces: list[str], counts: np.ndarray, cfg: HfOptions) -> tuple[str, np.ndarray]:
    """The convention, and the token of each unit of the text; KdError when two units map to one token."""
    vocab = {token: number for token, number in tokenizer.get_vocab().items() if number not in set(tokenizer.all_special_ids)}
    best, found = "", np.full(len(counts), NO_TOKEN)
    for convention in CONVENTIONS if cfg.convention == "auto" else (cfg.convention,):
        names = [_spelled(piece, convention, cfg.case) if n else None for piece, n in zip(pieces, counts, strict=True)]
        tokens = np.array([vocab.get(name, NO_TOKEN) if name is not None else NO_TOKEN for name in names], dtype=np.int64)
        if not best or (tokens != NO_TOKEN).sum() > (found != NO_TOKEN).sum():
            best, found = convention, tokens
    first: dict[int, int] = {}
    for unit in np.flatnonzero(found != NO_TOKEN).tolist():
        other = first.setdefault(int(found[unit]), unit)
        if other != unit:
            raise KdError(f"subwords {pieces[other]} and {pieces[unit]} are the same token of the Hugging Face LM with case {cfg.case}; "
                          "prepare a lang of one letter case, or use case keep")  # fmt: skip
    return best, found


def _check_lost(folder: Path, tokens: np.ndarray, counts: np.ndarray, pieces: list[str], most: float) -> None:
    """KdError when more than the share `most` of the text, or all, has no token."""
    lost = np.where(tokens == NO_TOKEN, counts, 0)
    if lost.sum() > most * counts.sum() or (tokens == NO_TOKEN).all():
        names = ", ".join(pieces[i] for i in np.argsort(-lost, kind="stable")[:8] if lost[i])
        raise KdError(f"{folder}: {lost.sum() / counts.sum():.1%} of the text's subwords have no token in this LM (the most "
                      f"frequent: {names}), {most:.1%} may; try another case or convention, or train a LM on text cut by this lang's "
                      "bpe.model")  # fmt: skip


def _specials(folder: Path, model: Any, tokenizer: Any, context: str, window: int) -> dict[str, int]:
    """Tokens at a sentence's begin and end, for unknown units and for the mask; tokens per pass."""
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "cls", "eos", "sep", "unk", "mask")}

    def find(what: str, *names: str) -> int:
        found = next((ids[n] for n in names if ids[n] is not None), None)
        if found is None:
            raise KdError(f"{folder}: the tokenizer has no {what} ({' or '.join(names)} token); add it to special_tokens_map.json")
        return int(found)

    begin = ("cls", "bos") if context == "masked" else ("bos", "cls", "eos")
    found = {"first": find("begin of a sentence", *begin), "unknown": find("unknown token", "unk", *begin)}
    if context == "masked":
        found |= {"last": find("end of a sentence", "sep", "eos"), "mask": find("mask", "mask")}
    # Some models count positions from 2 on.
    longest = getattr(model.config, "max_position_embeddings", None) or 514
    longest = int(min(longest - 2, tokenizer.model_max_length))
    if window > longest or (window or longest) < 4:
        raise UsageError(f"hf teacher: window {window} for a LM that reads {longest} tokens; at least 4 and at most that many are expected")
    return {**found, "window": window or longest}


def _description(model: Any) -> dict[str, Any]:
    """Configuration as JSON, and the names of the weights that are shared with others."""
    config = json.loads(model.config.to_json_string())
    for name in ("auto_map", "_name_or_path", "torch_dtype", "transformers_version"):
        config.pop(name, None)
    seen: dict[int, str] = {}
    state = model.state_dict()
    tied = [name for name, value in state.items() if value.numel() and seen.setdefault(value.data_ptr(), name) != name]
    return {"config": config, "tied": tied, "parameters": int(math.fsum(p.numel() for p in model.parameters()))}
