"""Prepares features and pronunciations for alignment.  In: a folder of audio and text, a lang folder.  Out: the jobs' input files.

Writes TEMPORARY/audio, recordings and supervisions, feats, prons.txt, and WORK/words.tsv, WORK/renamed.tsv.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.aligner.audio import Staged, parse_channel, stage
from kdtool.aligner.inputs import find_items
from kdtool.aligner.items import Fault, Item
from kdtool.aligner.job import AUDIO_TABLE
from kdtool.aligner.names import with_output_names
from kdtool.aligner.words import Word, guess, read_own, split_words, write_words
from kdtool.audio.faults import tell_audio
from kdtool.core.dropped import rows_of, write_dropped
from kdtool.core.errors import KdError
from kdtool.core.names import escaped
from kdtool.core.progress import threaded
from kdtool.core.tables import write_lines
from kdtool.core.walk import file_fault
from kdtool.features.store import FeatureKind, parse_label
from kdtool.lang.lexicon import Lexicon, write_lexicon
from kdtool.lang.positions import mark_lexicon
from kdtool.text.clean import Counts, clean, tell

if TYPE_CHECKING:
    from kdtool.aligner.config import Config
    from kdtool.lang.lang import Lang

RENAMED = "renamed.tsv"  # 'output name<TAB>name in the folder' per renamed item


@dataclass(frozen=True)
class Utterance:
    """An item with its words, and its audio at the model's rate."""

    item: Item
    words: list[Word]
    staged: Staged


def prepare(
    audio: Path, lang: "Lang", work: Path, temporary: Path, cfg: "Config", feats: str, nj: int
) -> tuple[dict[str, Utterance], list[Fault]]:
    """Read, check and convert everything; features in TEMPORARY/feats, of the model's kind, rate and band (`feats`: "16 kHz mfcc").

    Returns utterances by temporary id (a name may hold characters that no file name can), and the others' names with reasons. Raises
    KdError: no utterance is left.
    """
    features = parse_label(feats)
    items, faults = find_items(audio, cfg.layout, cfg.speaker)
    items = with_output_names(items, work)
    if renamed := [i for i in items if i.given]:
        write_lines(work / RENAMED, (f"{i.name}\t{escaped(i.given)}" for i in renamed))
        print(f"note: {len(renamed)} files have other names in the output, because theirs are too long, hold control characters, or differ "
              f"in capitals or accents only; the first is {renamed[0].name}, {RENAMED} names all", file=sys.stderr)  # fmt: skip
    lexicon: Lexicon = {w: [tuple(lang.plain_names[p] for p in v) for v in vs] for w, vs in lang.text_prons.items()}
    if cfg.lexicon:
        lexicon.update(read_own(cfg.lexicon, lang.plain_names))
    changed = Counts()
    words = {i.name: split_words(clean(i.text, changed), lexicon) for i in items}
    tell("align", changed)
    faults += [(i.called, "its text holds no words; write down what is said, or remove the audio") for i in items if not words[i.name]]
    speaking = [i for i in items if words[i.name]]
    staged, unreadable = stage_all(speaking, temporary / "audio", features.sample_rate, parse_channel(cfg.channel), nj)
    faults += unreadable
    usable = [i for i in items if i.name in staged]
    if not usable:
        write_dropped(work / "dropped.tsv", faults)
        first = "".join(f"\n  {n}: {r}" for n, r in rows_of(faults)[:10])
        raise KdError(f"{audio}: nothing can be aligned; all {len(faults)} reasons are in {work / 'dropped.tsv'}:{first}")
    utterances = {f"{n:07d}": Utterance(i, words[i.name], staged[i.name]) for n, i in enumerate(usable)}
    counts = Counter(w.key for u in utterances.values() for w in u.words)
    missing = [w for w in counts if w not in lexicon]
    guessed, unknown = guess(missing, lexicon, temporary, g2p=cfg.g2p, max_words=cfg.g2p_max_words, nj=nj)
    known = {w: lexicon[w] for w in (lang.oov, *counts) if w in lexicon}
    prons: Lexicon = {**known, **{w: [p] for w, p in guessed.items()}}
    write_lexicon(temporary / "prons.txt", mark_lexicon(prons) if lang.positions else prons)
    write_words(work / "words.tsv", counts, guessed, unknown, f"{cfg.out}/words.tsv")
    for short, reason in extract_features(utterances, temporary, features, nj):
        faults.append((utterances.pop(short).item.called, reason))
    return utterances, faults


def stage_all(
    items: Sequence[Item], folder: Path, rate: int, channel: int | None, nj: int
) -> tuple[dict[str, Staged], list[Fault]]:
    """Every item's audio at the model's rate, by item name; and the faults."""
    folder.mkdir()

    def one(numbered: tuple[int, Item]) -> Staged | str:
        number, item = numbered
        if fault := file_fault(item.audio):
            return f"{item.audio}: {fault}"
        try:
            return stage(item.audio, folder / f"{number:07d}.wav", rate, channel if item.channel is None else item.channel, item.part)
        except (KdError, MemoryError) as e:
            return str(e) or f"{item.audio}: too little memory for it; cut it into parts, or use fewer jobs (--nj)"

    results = list(zip(items, threaded(one, list(enumerate(items)), nj, "align: reading audio"), strict=True))
    staged = {item.name: result for item, result in results if not isinstance(result, str)}
    tell_audio((str(i.audio), note) for i in items if i.name in staged for note in staged[i.name].notes)
    return staged, [(item.called, result) for item, result in results if isinstance(result, str)]


def extract_features(utterances: dict[str, Utterance], temporary: Path, features: FeatureKind, nj: int) -> list[list[str]]:
    """Features of all utterances; [id, reason] of those without."""
    from kdtool.audio.reader import Sound
    from kdtool.core.tables import read_lines, write_jsonl
    from kdtool.corpus.manifests import whole_files, write_manifests
    from kdtool.corpus.utterance import Utterance as Plain
    from kdtool.features.extract import extract

    rows = [
        (Plain(short, u.item.speaker, u.staged.path, " ".join(w.key for w in u.words)),
         Sound("WAV", u.staged.samples, features.sample_rate, 1))
        for short, u in utterances.items()
    ]  # fmt: skip
    write_manifests(temporary, *whole_files(rows))
    feats = temporary / "feats"
    feats.mkdir()
    extract(temporary, feats, features, [1.0], nj=nj, max_dropped=1.0)
    staged = ({"id": short, "path": str(u.staged.path), "seconds": u.staged.seconds} for short, u in utterances.items())
    write_jsonl(temporary / AUDIO_TABLE, staged)
    return [line.split("\t", 1) for line in read_lines(feats / "dropped.tsv")]
