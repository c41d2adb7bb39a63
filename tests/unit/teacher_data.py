"""A synthetic language for the teachers' tests: lexicon with variants, a context-dependent tree, text, alignments.

Out: a lang folder that ``Lang.load`` reads (with a real sentencepiece model), a tree, an LM text folder, alignment folders.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdtool.core.tables import open_text
from kdtool.formats.alignment import Alignment, save_alignments
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang

PHONES = ("SIL", "SPN", "AA", "B", "K", "S", "T", "IY", "ZH")  # no word has ZH
LEXICON = {
    "ABBA": ["AA B AA"], "BAT": ["B AA T"], "BEAST": ["B IY S T"], "CAB": ["K AA B"], "KEY": ["K IY"], "SEA": ["S IY"],
    "SKATE": ["S K IY T", "S K AA T"], "TASK": ["T AA S K"], "TEA": ["T IY", "T AA"], "A": ["AA", "IY"], "<UNK>": ["SPN"],
}  # fmt: skip
WORDS = sorted(set(LEXICON) - {"<UNK>"})


def write_lang(folder: Path) -> Lang:
    """A lang folder; its subwords are learned from the words."""
    import sentencepiece

    folder.mkdir(parents=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20), model_writer=model, vocab_size=26, model_type="bpe", bos_id=-1, eos_id=-1,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "bpe.model").write_bytes(model.getvalue())
    bpe = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    files = {
        "phones.txt": [f"{p} {i}" for i, p in enumerate(["<eps>", *PHONES])],
        "words.txt": [f"{w} {i}" for i, w in enumerate(["<eps>", *WORDS, "<UNK>", "#0", "<s>", "</s>"])],
        "lexicon.txt": [f"{w} {p}" for w, ps in sorted(LEXICON.items()) for p in ps],
        "text_lexicon.txt": ["KATE K IY T"],
        "topo.txt": [f"{p} 3" for p in PHONES],
        "silence_phones.txt": ["SIL", "SPN"],
        "oov.txt": ["<UNK>"],
        "subwords.txt": [f"{bpe.id_to_piece(i)} {i}" for i in range(bpe.get_piece_size())],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return Lang.load(folder)


def make_tree(seed: int = 0) -> Tree:
    """Phones' states split by two random classes of left and of right neighbours; silence is not split."""
    rng = np.random.default_rng(seed)
    size = len(PHONES) + 1
    table = np.full((size, size, size, 3), -1, dtype=np.int64)
    for phone in range(1, size):
        for state in range(3):
            left, right = rng.integers(0, 2, (2, size)) * (phone > 2)
            left[0], right[0] = left[1], right[1]  # the edge behaves as silence does
            table[:, phone, :, state] = (phone * 3 + state) * 4 + 2 * left[:, None] + right
    used = np.unique(table[table >= 0])
    return Tree(np.where(table >= 0, np.searchsorted(used, table), -1))


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences in which each word has favourite followers."""
    rng = np.random.default_rng(seed)
    follow = np.random.default_rng(99).dirichlet(np.full(len(WORDS), 0.3), len(WORDS))
    lines = []
    for _ in range(count):
        word, line = int(rng.integers(len(WORDS))), []
        for _ in range(int(rng.integers(2, 9))):
            line.append(WORDS[word])
            word = int(rng.choice(len(WORDS), p=follow[word]))
        lines.append(" ".join(line))
    return lines


def write_text(folder: Path, lines: Sequence[str]) -> Path:
    """An LM text folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open_text(folder / "text.gz", "w") as f:
        f.writelines(line + "\n" for line in lines)
    return folder


def align(name: str, text: str, lang: Lang, tree: Tree, rng: np.random.Generator) -> Alignment:
    """An alignment of the text: silence at the edges and now and then between words, a random variant each."""
    phones, spans, frame = [lang.sil], [], []
    for word in text.split():
        variants = lang.text_prons.get(word, lang.prons[lang.oov])
        said = variants[int(rng.integers(len(variants)))]
        frame.append((word, len(phones), len(said)))
        phones += [*said]
        if rng.random() < 0.3:
            phones.append(lang.sil)
    if phones[-1] != lang.sil:
        phones.append(lang.sil)
    context = [0, *phones, 0]
    pdf, state, phone, starts = [], [], [], []
    for i, p in enumerate(phones):
        starts.append(len(pdf))
        for s in range(3):
            run = int(rng.integers(1, 5))
            pdf += [int(tree.pdf_map[context[i], p, context[i + 2], s])] * run
            state += [s] * run
            phone += [p] * run
    ends = [*starts, len(pdf)]
    spans = [(w, ends[first], ends[first + n] - ends[first]) for w, first, n in frame]
    return Alignment(name, np.array(pdf, np.int32), np.array(state, np.int16), np.array(phone, np.int16), np.array(starts, np.int32), spans)


def write_alignments(folder: Path, lines: Sequence[str], lang: Lang, tree: Tree, seed: int = 0) -> list[Alignment]:
    """An alignment folder, one utterance per line."""
    rng = np.random.default_rng(seed)
    made = [align(f"s-{n:03d}", line, lang, tree, rng) for n, line in enumerate(lines)]
    save_alignments(folder, made, {"tree_digest": tree.digest, "lang_digest": lang.digest})
    return made
