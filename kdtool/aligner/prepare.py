"""Prepares features and pronunciations for alignment.  In: a folder of audio and text, a lang folder.  Out: the jobs' input files.

Writes TEMPORARY/audio, recordings and supervisions, feats, prons.txt, and WORK/words.tsv, WORK/renamed.tsv.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.aligner.audio import Staged, parse_channel, stage
from kdtool.aligner.inputs import find_items
from kdtool.aligner.items import Fault, Item
from kdtool.aligner.job import AUDIO_TABLE
from kdtool.aligner.names import with_output_names
from kdtool.aligner.words import Word, guess, read_own, split_words, tell_unknown, write_words
from kdtool.audio.faults import tell_audio
from kdtool.core.dropped import rows_of, write_dropped
from kdtool.core.errors import KdError
from kdtool.core.names import escaped
from kdtool.core.tables import open_text
from kdtool.core.walk import file_fault
from kdtool.features.store import FeatureKind, parse_label
from kdtool.lang.lexicon import Lexicon, write_lexicon
from kdtool.lang.positions import mark_lexicon
from kdtool.text.clean import Counts, clean, tell

if TYPE_CHECKING:
    from kdtool.aligner.config import Config
    from kdtool.lang.lang import Lang

RENAMED = "renamed.tsv"


@dataclass(frozen=True)
class Utterance:
    """An item with its words, and its audio at the model's rate."""

    item: Item
    words: list[Word]
    staged: Staged


@dataclass
class Ready:
    """Utterances by temporary id (a name may hold characters that no file name can); dropped ones with reasons."""

    utterances: dict[str, Utterance]
    faults: list[Fault]


def prepare(audio: Path, lang: Lang, work: Path, temporary: Path, cfg: Config, feats: str, nj: int) -> Ready:
    """Read, check and convert everything; features in TEMPORARY/feats, of the model's kind, rate and band (`feats`: "16 kHz mfcc").

    Raises:
        KdError: no utterance is left.
    """
    features = parse_label(feats)
    items, faults = find_items(audio, cfg.layout, cfg.speaker)
    items = with_output_names(items, work)
    write_renamed(work / RENAMED, items)
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
        told = "".join(f"\n  {n}: {r}" for n, r in rows_of(faults)[:10])
        raise KdError(f"{audio}: nothing can be aligned; all {len(faults)} reasons are in {work / 'dropped.tsv'}:{told}")
    ready = Ready({f"{n:07d}": Utterance(i, words[i.name], staged[i.name]) for n, i in enumerate(usable)}, faults)
    counts = Counter(w.key for u in ready.utterances.values() for w in u.words)
    guessed = guess([w for w in counts if w not in lexicon], lexicon, temporary, g2p=cfg.g2p, max_words=cfg.g2p_max_words, nj=nj)
    known = {w: lexicon[w] for w in counts if w in lexicon}
    prons: Lexicon = {lang.oov: lexicon[lang.oov], **known, **{w: [p] for w, p in guessed.prons.items()}}
    write_lexicon(temporary / "prons.txt", mark_lexicon(prons) if lang.positions else prons)
    write_words(work / "words.tsv", counts, guessed)
    tell_unknown(counts, guessed, f"{cfg.out}/words.tsv")
    extract_features(ready, temporary, features, nj)
    return ready


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

    with ThreadPoolExecutor(nj) as pool:
        try:
            results = dict(zip((i.name for i in items), pool.map(one, enumerate(items)), strict=True))
        except OSError:  # e.g. a full disk: the rest would fail as well
            pool.shutdown(cancel_futures=True)
            raise
    staged = {name: r for name, r in results.items() if not isinstance(r, str)}
    tell_audio((str(i.audio), note) for i in items if i.name in staged for note in staged[i.name].notes)
    return staged, [(i.called, r) for i in items if isinstance(r := results[i.name], str)]


def write_renamed(path: Path, items: Sequence[Item]) -> None:
    """'output name<TAB>name in the folder' per renamed item; no file if there is none."""
    changed = [i for i in items if i.given]
    if not changed:
        return
    with open_text(path, "w") as f:
        f.writelines(f"{i.name}\t{escaped(i.given)}\n" for i in changed)
    print(f"note: {len(changed)} files have other names in the output, because theirs are too long, hold control characters, or differ "
          f"in capitals or accents only; the first is {changed[0].name}, {RENAMED} names all", file=sys.stderr)  # fmt: skip


def extract_features(ready: Ready, temporary: Path, features: FeatureKind, nj: int) -> None:
    """Features of all utterances; an utterance without features becomes a fault."""
    from kdtool.audio.reader import Sound
    from kdtool.core.tables import read_lines, write_jsonl
    from kdtool.corpus.manifests import whole_files, write_manifests
    from kdtool.corpus.utterance import Utterance as Plain
    from kdtool.features.extract import extract

    rows = [
        (Plain(short, u.item.speaker, u.staged.path, " ".join(w.key for w in u.words)),
         Sound("WAV", u.staged.samples, features.sample_rate, 1))
        for short, u in ready.utterances.items()
    ]  # fmt: skip
    write_manifests(temporary, *whole_files(rows))
    feats = temporary / "feats"
    feats.mkdir()
    extract(temporary, feats, features, [1.0], nj=nj, max_dropped=1.0)
    staged = ({"id": short, "path": str(u.staged.path), "seconds": u.staged.seconds} for short, u in ready.utterances.items())
    write_jsonl(temporary / AUDIO_TABLE, staged)
    for short, reason in (line.split("\t", 1) for line in read_lines(feats / "dropped.tsv")):
        ready.faults.append((ready.utterances.pop(short).item.called, reason))
