"""Step make_graph: language folder + ARPA LM + tree -> decoding graph (HCLG) over pdfs with words as outputs.

Only words that the LM knows and the lexicon can pronounce are in the graph. The out-of-vocabulary word is not, since
answering <UNK> is always wrong. meta.json counts the LM words without pronunciation.
"""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError
from kdtool.core.inputs import door
from kdtool.core.limits import free_memory
from kdtool.core.step import run_step
from kdtool.lang.probs import LEXICON_PROBS

# In a language folder without probabilities: silence and no silence cost the same, so a word sequence's
# silence cost depends on its length only.
SILENCE_PROB = 0.5
LM_FILE = "lm.bin"
# Per n-gram of the LM, measured with 0.3 and 6.1 million of them: seconds of CPU, MB of memory on top of BASE_MB, arcs.
SECONDS, MEGABYTES, ARCS, BASE_MB = 45e-6, 1.5e-3, 8.5, 200


@dataclass(frozen=True)
class Config:
    """Options of make_graph."""

    max_missing: float = field(default=0.05, metadata={"help": "largest share of LM words without a pronunciation"})


def make(lang_dir: Path, lm_dir: Path, model_dir: Path, cfg: Config, work: Path) -> None:
    """Compile the graph and write it to ``work``."""
    from kdtool.core.tensors import file_digest
    from kdtool.formats.tree import Tree
    from kdtool.graph.arpa import grammar_fst, read_arpa
    from kdtool.graph.hclg import Clock, build_graph
    from kdtool.graph.lexicon_fst import lexicon_fst
    from kdtool.lang.lang import Lang
    from kdtool.lang.probs import LexiconProbs

    lang, tree = Lang.load(lang_dir), Tree.load(model_dir)
    clock = Clock("make_graph")
    usable = {w: n for w, n in lang.words.items() if w in lang.prons and w != lang.oov}
    arpa = read_arpa(lm_dir / "lm.arpa", usable)
    known = {gram[0] for gram in arpa.grams[0] if gram[0] > 0}
    missing = arpa.skipped_words
    if not known or len(missing) > cfg.max_missing * (len(known) + len(missing)):
        raise KdError(f"{lm_dir / 'lm.arpa'}: {len(missing)} of {len(known) + len(missing)} LM words have no pronunciation in "
                      f"{lang_dir} (first: {' '.join(missing[:5])}); make the LM with this language folder's words")  # fmt: skip
    print(forecast(sum(map(len, arpa.grams)), free_memory()), file=sys.stderr, flush=True)
    back_off = lang.words["#0"]
    grammar = grammar_fst(arpa, back_off)
    order, skipped = len(arpa.grams), arpa.skipped
    del arpa
    prons = {lang.words[w]: lang.prons[w] for w in usable if lang.words[w] in known}
    words = sorted(lang.words, key=lang.words.__getitem__)
    lexicon = lexicon_fst(
        prons, num_phones=len(lang.phone_names) - 1, back_off_word=back_off, sil=lang.sil, words=words,
        probs=lang.probs or LexiconProbs.flat(SILENCE_PROB),
    )  # fmt: skip
    graph = build_graph(grammar, lexicon, tree, words, clock)
    graph.meta.update(
        kind="word", lm=lm_dir.resolve().name.removeprefix("lm_"), order=order, words=len(known), words_without_pron=missing,
        ngrams_left_out=skipped, silence_prob=None if lang.probs else SILENCE_PROB, silence_words=[], tree=tree.digest, lang=lang.digest,
        arpa=file_digest(lm_dir / "lm.arpa"),
    )  # fmt: skip
    graph.save(work)
    # Rescoring subtracts this LM's score from a path; the rest must be the lexicon's share, or equal for all paths.
    if lang.probs and (lm_dir / LM_FILE).is_file():
        shutil.copyfile(lm_dir / LM_FILE, work / LM_FILE)
    clock.write(work)


def forecast(ngrams: int, free: int) -> str:
    """Time and memory of a graph from an LM with `ngrams` n-grams; a hint if it exceeds the `free` MB."""
    memory = BASE_MB + MEGABYTES * ngrams
    takes = f"{SECONDS * ngrams:.0f} s of CPU, {memory:.0f} MB of memory, {ARCS * ngrams / 1e6:.1f} million arcs"
    text = f"make_graph: {ngrams} n-grams: about {takes}"
    if memory > free:
        text += f"\nnote: {free} MB are free; a smaller LM in the graph (train_ngram --max-ngrams) and the full one for rescoring need less"
    return text


def main(argv: list[str] | None = None) -> None:
    """Entry of steps/make_graph.sh."""
    places = [
        ("lang", "language folder"), ("lm", "LM folder with lm.arpa"), ("model", "folder with the tree"), ("out", "graph folder to make"),
    ]  # fmt: skip
    paths, cfg, common = parse_args(
        Config, places, argv, prog="steps/make_graph.sh", description="Decoding graph (HCLG) from lexicon, n-gram LM and tree."
    )
    inputs = {"lang": paths["lang"], "lm": paths["lm"] / "lm.arpa", "tree": paths["model"] / "tree.safetensors"}
    if (paths["lang"] / LEXICON_PROBS).is_file() and (paths["lm"] / LM_FILE).is_file():  # they go into the graph folder, see `make`
        inputs["lm for rescoring"] = paths["lm"] / LM_FILE
    run_step(
        "make_graph", out=paths["out"], options=cfg, common=common, code=("kdtool.graph.make_graph",), inputs=inputs,
        body=lambda work: make(paths["lang"], paths["lm"], paths["model"], cfg, work), doors=[door("lang", paths["lang"])],
    )  # fmt: skip


if __name__ == "__main__":
    cli_main(main)
