"""Step: language folder + alignment -> the language folder with pronunciation and silence probabilities.

The alignment gives counts of each pronunciation of a word, and of silence before and after it, which are
smoothed (Chen et al., Interspeech 2015, as in Kaldi). Phones and topology stay, so models and alignments still fit.
"""

import itertools
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main
from kdtool.core.digest import output_files
from kdtool.core.errors import KdError, UsageError
from kdtool.core.main import LANG, Input, step_main
from kdtool.formats.alignment import Alignment
from kdtool.gmm.folder import open_alignments
from kdtool.lang.lang import Lang
from kdtool.lang.probs import LexiconProbs, Pron, PronProbs

START, END = ("<s>", ()), ("</s>", ())
Entry = tuple[str, Pron]
Spoken = tuple[Entry, bool]  # a pronounced word, and whether silence follows


@dataclass(frozen=True)
class Config:
    """Options of the estimate."""

    smooth_prons: float = field(default=1.0, metadata={"help": "count added to each pronunciation of a word"})
    smooth_silence: float = field(default=2.0, metadata={"help": "count of the average in a word's silence probability"})
    silence_before: bool = field(
        default=True, metadata={"help": "false: use only the silence after a word, not the one before it (smaller graphs)"}
    )

    def __post_init__(self) -> None:
        if self.smooth_prons <= 0 or self.smooth_silence <= 0:
            raise UsageError("--smooth-prons and --smooth-silence: above 0, or what was not seen would be impossible")


def spoken(ali: Alignment, lang: Lang) -> list[Spoken]:
    """The utterance's words as pronounced, between <s> and </s>, each with whether silence follows.

    Words outside the lexicon count as the unknown word.
    """
    phones = ali.phone_segments()
    found = [(START, True)]
    end = 0
    for word, first, length in ali.words:
        found[-1] = (found[-1][0], first > end)
        end = first + length
        pron = tuple(phones.ids[(phones.start >= first) & (phones.start < end)].tolist())
        known = word if word in lang.text_prons else lang.oov
        if pron not in lang.text_prons[known]:
            raise KdError(f"{ali.id}: {word} is aligned to phones that the lexicon does not give it; align again with {lang.folder}")
        found.append(((known, pron), True))
    found[-1] = (found[-1][0], end < ali.num_frames)
    return [*found, (END, False)]


def estimate(spoken_words: Iterable[Sequence[Spoken]], prons: Mapping[str, Sequence[Pron]], cfg: Config) -> LexiconProbs:
    """Probabilities of all pronunciations in `prons` from utterances as returned by `spoken`."""
    utterances = list(spoken_words)
    count, with_sil = Counter[Entry](), Counter[Entry]()
    for utterance in utterances:
        for entry, silent in utterance[:-1]:
            count[entry] += 1
            with_sil[entry] += silent
    words = sum(n for e, n in count.items() if e != START)
    if not words:
        raise KdError("the alignment holds no word to count; align the training data first (steps/align.sh)")
    overall = _inside(sum(n for e, n in with_sil.items() if e != START) / words)
    sil = {e: _inside((with_sil[e] + cfg.smooth_silence * overall) / (n + cfg.smooth_silence)) for e, n in count.items()}
    factors = _factors(utterances, sil, cfg) if cfg.silence_before else {}
    table = {}
    for word, variants in sorted(prons.items()):
        smoothed = [count[word, tuple(p)] + cfg.smooth_prons for p in variants]
        for pron, value in zip(variants, smoothed, strict=True):
            entry = word, tuple(pron)
            table[entry] = PronProbs(value / max(smoothed), sil.get(entry, overall), *factors.get(entry, (1.0, 1.0)))
    return LexiconProbs(table, sil[START], PronProbs(1.0, 0.5, *factors.get(END, (1.0, 1.0))), overall)


def _inside(prob: float) -> float:
    """The probability, kept away from 0 and 1: an alignment may not show everything."""
    return min(0.999, max(0.001, prob))


def _factors(utterances: Sequence[Sequence[Spoken]], sil: Mapping[Entry, float], cfg: Config) -> dict[Entry, tuple[float, float]]:
    """For each pronunciation, how much likelier it is after silence, and after speech, than the words before it predict."""
    seen, expected = Counter[tuple[Entry, bool]](), dict[tuple[Entry, bool], float]()
    for utterance in utterances:
        for (before, silent), (entry, _) in itertools.pairwise(utterance):
            seen[entry, silent] += 1
            for kind, prob in ((True, sil[before]), (False, 1 - sil[before])):
                expected[entry, kind] = expected.get((entry, kind), 0.0) + prob
    ratio = {key: (seen[key] + cfg.smooth_silence) / (total + cfg.smooth_silence) for key, total in expected.items()}
    return {entry: (ratio[entry, True], ratio[entry, False]) for entry, kind in expected if kind}


def make(paths: dict[str, Path], work: Path, cfg: Config, _nj: int) -> None:
    """Copy the language folder to `work` and add the probabilities. paths: lang, alignments."""
    lang_dir = paths["lang"]
    lang, alignments = open_alignments(lang_dir, paths["alignments"])
    utterances = [spoken(alignments.get(u), lang) for u in alignments.ids]
    probs = estimate(utterances, lang.prons, cfg)
    for path in output_files(lang_dir):
        target = work / path.relative_to(lang_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    probs.save(work, lang.phone_names)
    several = [w for w, variants in lang.prons.items() if len(variants) > 1]
    print(
        f"silence: after {100 * probs.overall:.1f}% of the words, at {100 * probs.start:.1f}% of the starts; {len(several)} of "
        f"{len(lang.prons)} words have more than one pronunciation; counted in {len(utterances)} utterances",
        file=sys.stderr,
    )


def main(argv: list[str] | None = None) -> None:
    inputs = {
        "lang": LANG.called("language folder"),
        "alignments": Input("alignments", "training alignments made with it", "ali", beside=("lang",)),
    }
    step_main(
        "lang_probs", Config, inputs, "language folder to make", make, argv, code="kdtool.ali.lang_probs",
        prog="steps/estimate_lang_probs.sh", description="Pronunciation and silence probabilities from an alignment.",
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
