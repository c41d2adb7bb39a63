"""Step: train a teacher.  In: LM text, lang, GMM (its tree), alignments of train and dev.  Out: exp/<teacher>.

The folder: teacher.json and model.safetensors (see kdtool.teacher.base), ppl.json (perplexity on the dev alignments and
on held-out text). The teacher learns from the LM text and from the training alignments' units, silence dropped.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.device import DEVICE_HELP, check_device
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.step import run_step
from kdtool.core.tables import write_json
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.teacher.base import KEYS, NAMES, TrainingText, perplexity, read_meta
from kdtool.teacher.registry import KINDS, code_of, load_teacher
from kdtool.units.segments import unit_segments
from kdtool.units.table import UNITS, check_tree_fits, num_units, units_digest
from kdtool.units.text import Sequences, UnitText, pron_shares, sentences_of


@dataclass(frozen=True)
class Config:
    """Options of the teacher step."""

    unit: str = field(default="phone", metadata={"help": f"unit to predict: {', '.join(UNITS)}"})
    kind: str = field(default="ngram", metadata={"help": f"kind of teacher: {', '.join(KINDS)} (masked_*, blstm: given all other units; "
                                                                 "*tree: senones through a phone teacher)"})  # fmt: skip
    options: dict[str, Any] = field(default_factory=dict, metadata={"help": "options of the kind, e.g. '{order: 5}'"})
    phone_teacher: Path | None = field(default=None, metadata={"help": "kinds tree, masked_tree: the phone teacher to use"})
    teachers: str = field(default="", metadata={"help": "kinds mix, masked_ngram: trained teachers to use, comma-separated folders",
                                                "key": False})  # fmt: skip
    hf_lm: Path | None = field(default=None, metadata={"help": "kind hf: folder of a causal or masked Hugging Face LM"})
    max_sentences: int = field(default=0, metadata={"help": "limit the LM text to N sentences, evenly spread (0: all)"})
    held_out: int = field(default=200, metadata={"help": "hold out every N-th sentence, for choosing weights (0: none)"})
    variants: bool = field(default=True, metadata={"help": "draw pronunciations as often as aligned speakers used them; "
                                                           "false: each word's first"})  # fmt: skip
    own_text: bool = field(default=False, metadata={"help": "learn from the training utterances as aligned, in place of their sentences in "
                                                           "the LM text; false: from neither, so that none was seen before"})  # fmt: skip
    seed: int = field(default=0, metadata={"help": "random seed"})
    device: str = field(default="auto", metadata={"help": f"neural kinds: {DEVICE_HELP}", "key": False})


def check(cfg: Config) -> None:
    """UsageError for invalid values."""
    if cfg.unit not in UNITS or cfg.kind not in KINDS:
        raise UsageError(f"--unit {cfg.unit} --kind {cfg.kind}: units are {', '.join(UNITS)}; kinds are {', '.join(KINDS)}")
    check_device(cfg.device)
    if min(cfg.max_sentences, cfg.held_out) < 0:
        raise UsageError(f"--max-sentences {cfg.max_sentences} --held-out {cfg.held_out}: at least 0")
    through_tree, over_teachers = KINDS.traits["through_tree"], KINDS.traits["over_teachers"]
    if (cfg.kind in through_tree and cfg.unit != "senone") or (cfg.phone_teacher and cfg.kind not in through_tree):
        raise UsageError(f"kinds {', '.join(through_tree)} are for senones, and --phone-teacher is for them")
    if cfg.teachers and cfg.kind not in over_teachers:
        raise UsageError(f"--teachers is for kinds {', '.join(over_teachers)}, not for {cfg.kind}")
    if bool(cfg.hf_lm) != (cfg.kind == "hf") or (cfg.hf_lm and cfg.unit != "subword"):
        raise UsageError("kind hf is for subwords and needs --hf-lm, which no other kind takes")


def given_teachers(cfg: Config) -> dict[str, Path]:
    """Folders of the trained teachers from which this one is made, by the name of the step's input."""
    folders = {f"teacher {n}": Path(p) for n, p in enumerate(cfg.teachers.split(",")) if p}
    return {"phone_teacher": cfg.phone_teacher} | folders if cfg.phone_teacher else folders


def check_given(folders: dict[str, Path], cfg: Config, lang: Lang, tree: Tree) -> None:
    """KdError when a given teacher has other units, or was trained on the sentences that choose the weights."""
    for name, folder in folders.items():
        meta, unit = read_meta(folder), "phone" if name == "phone_teacher" else cfg.unit
        digest = units_digest(unit, lang, tree)
        if (meta["unit"], meta.get("units_digest")) != (unit, digest):
            raise KdError(f"teacher {folder} is of {meta['unit']}s {str(meta.get('units_digest'))[:16]}, expected is one of {unit}s "
                          f"{digest[:16]}; train it again with this lang and GMM")  # fmt: skip
        if cfg.kind == "mix" and meta.get("held_out", cfg.held_out) != cfg.held_out:
            raise KdError(f"teacher {folder} was trained with --held-out {meta['held_out']}, this mix has {cfg.held_out}: it would "
                          "have read what the weights are chosen on; give both the same")  # fmt: skip


class Texts:
    """LM text and alignments as unit sequences."""

    def __init__(self, lm_text: Path, lang: Lang, tree: Tree, ali_train: AlignmentSet, cfg: Config) -> None:
        self.lm_text, self.lang, self.tree, self.ali, self.cfg = lm_text, lang, tree, ali_train, cfg
        self._total = sum(1 for _ in sentences_of(lm_text)) if cfg.max_sentences else 0
        # With own_text these sentences come from the alignments, and not again from the LM text.
        self._left_out = {" ".join(word for word, _, _ in ali_train.get(u).words) for u in ali_train.ids}

    def _sentences(self, held_out: bool) -> Iterator[str]:
        most, every = self.cfg.max_sentences, self.cfg.held_out
        for number, sentence in enumerate(sentences_of(self.lm_text)):
            # Sentence `number` is one of `most` evenly spread ones if the running count increases at it.
            left_out = self._total > most > 0 and (number + 1) * most // self._total == number * most // self._total
            if not left_out and sentence not in self._left_out and (every > 0 and number % every == every - 1) == held_out:
                yield sentence

    def _source(self, unit: str) -> UnitText:
        shares = pron_shares(self.ali, self.lang) if self.cfg.variants and unit != "subword" else None
        return UnitText(unit, self.lang, self.tree, shares=shares, seed=self.cfg.seed)

    def blocks(self, unit: str) -> Iterator[Sequences]:
        """Training sequences: the LM text, then the training alignments (with own_text)."""
        source = self._source(unit)
        yield from source.blocks(self._sentences(False))
        print(f"LM text as {unit}s: {source.sentences} sentences, {source.words} words, {source.units} units ({source.skipped} sentences "
              "skipped)", file=sys.stderr)  # fmt: skip
        if self.cfg.own_text:
            yield aligned_units(self.ali, unit, self.lang, self.tree)

    def training_text(self, unit: str) -> TrainingText:
        """Training data of a teacher of this unit."""
        extras: dict[str, Any] = {}
        if self.cfg.kind in KINDS.traits["through_tree"] and unit == "senone":
            extras = {"tree": self.tree, "pause": pause_shares(self.ali, self.lang, self.tree)}
            extras["phone_text"] = lambda: self.training_text("phone")
        if self.cfg.hf_lm:
            names = {number: piece for piece, number in self.lang.subwords.items()}
            extras |= {"hf_lm": self.cfg.hf_lm, "pieces": [names.get(number, "") for number in range(max(names) + 1)]}
        teachers = {name: load_teacher(folder, self.cfg.device) for name, folder in given_teachers(self.cfg).items()}
        if "phone_teacher" in teachers:
            extras["phone_teacher"] = teachers.pop("phone_teacher")
        if teachers:
            extras["teachers"] = list(teachers.values())
        held = self._source(unit).blocks(self._sentences(True) if self.cfg.held_out else [])
        held_out = Sequences.of(chain.from_iterable(held))
        return TrainingText(unit, num_units(unit, self.lang, self.tree), lambda: self.blocks(unit), held_out, extras, self.cfg.device)


def aligned_units(ali: AlignmentSet, unit: str, lang: Lang, tree: Tree) -> Sequences:
    """The unit sequences of all alignments, without silence."""
    return Sequences.of(unit_segments(ali.get(u), unit, lang, tree).ids for u in ali.ids)


def pause_shares(ali: AlignmentSet, lang: Lang, tree: Tree) -> np.ndarray:
    """float64 (P,): how often silence (or the end) follows each phone in the alignments; rare phones are smoothed to the mean."""
    paused, spoken = np.zeros(tree.pdf_map.shape[0]), np.zeros(tree.pdf_map.shape[0])
    for utterance in ali.ids:
        ids = ali.get(utterance).phone_segments().ids
        silent = np.isin(ids, sorted(lang.silence_ids))
        spoken += np.bincount(ids[~silent], minlength=len(spoken))
        paused += np.bincount(ids[~silent & np.append(silent[1:], True)], minlength=len(spoken))
    mean = (paused.sum() + 1.0) / (spoken.sum() + 2.0)
    return (paused + 20.0 * mean) / (spoken + 20.0)


def chosen_code(cfg: Config) -> list[str]:
    """The code of the kind, of the kinds that a mix will train, and of the given teachers."""
    given = given_teachers(cfg).values()
    # Other kinds are not asked, so that a check for changes does not load torch.
    inside = KINDS[cfg.kind].trains(cfg.options, len(given)) if cfg.kind in KINDS.traits["over_kinds"] else []
    return [*KINDS.code(cfg.kind, *inside), *(entry for folder in given for entry in code_of(folder))]


def train(paths: dict[str, Path], cfg: Config, work: Path) -> None:
    """Train one teacher into `work` and measure it."""
    lang, tree = Lang.load(paths["lang"]), Tree.load(paths["gmm"])
    check_tree_fits(lang, tree)
    check_given(given_teachers(cfg), cfg, lang, tree)
    ali_train, ali_dev = AlignmentSet.open(paths["ali_train"]), AlignmentSet.open(paths["ali_dev"])
    text = Texts(paths["lm_text"], lang, tree, ali_train, cfg).training_text(cfg.unit)
    scratch = work / "scratch"
    scratch.mkdir()
    teacher = KINDS[cfg.kind].train(text, cfg.options, seed=cfg.seed, work=scratch)
    shutil.rmtree(scratch)
    dev = aligned_units(ali_dev, cfg.unit, lang, tree)
    held: Iterable[np.ndarray] = (ids for ids, _ in zip(text.held_out, range(200), strict=False))
    scores = {"dev": perplexity(teacher, dev), "held_out_text": perplexity(teacher, held)}
    write_json(work / "ppl.json", {"unit": cfg.unit, "kind": cfg.kind, "context": teacher.context, **scores})
    facts = {"units_digest": units_digest(cfg.unit, lang, tree), "tree_digest": tree.digest, "lang_digest": lang.digest}
    teacher.save(work, {**facts, "seed": cfg.seed, "held_out": cfg.held_out})
    for name, score in scores.items():
        if not score["sentences"]:
            continue
        print(f"{cfg.unit} {cfg.kind}: {NAMES[teacher.context]} {score[KEYS[teacher.context]]:.3f} on {name} "
              f"({score['tokens']} {cfg.unit}s, {score['unseen']} never seen in training)")  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    positionals = [
        ("lm_text", "folder with text.gz (prepare_lm_text)"), ("lang", "lang folder"), ("gmm", "GMM folder with the tree"),
        ("ali_train", "alignments of the training set"), ("ali_dev", "alignments of the dev set"), ("out", "teacher folder to make"),
    ]  # fmt: skip
    paths, cfg, common = parse_args(Config, positionals, argv, prog="steps/train_teacher.sh", description=__doc__ or "")
    check(cfg)
    inputs = {n: paths[n] for n in ("lm_text", "lang", "ali_train", "ali_dev")} | {"tree": paths["gmm"] / "tree.safetensors"}
    inputs |= given_teachers(cfg)
    if cfg.hf_lm:
        inputs["hf_lm"] = cfg.hf_lm
    run_step(
        f"{cfg.unit} teacher {paths['out'].name}", out=paths["out"], inputs=inputs, options=cfg,
        code=("kdtool.teacher.train", *chosen_code(cfg)), body=lambda work: train(paths, cfg, work), common=common,
        doors=[door("lang", paths["lang"]), *(door("ali", paths[n]) for n in ("ali_train", "ali_dev"))],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
