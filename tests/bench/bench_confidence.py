"""Benchmark of the aligner's fit: whether wrong transcripts rank below correct ones, and its cost.

In: a folder of audio with its text (as `kdtool align` takes it), a GMM folder, its lang folder. Out: for each kind of wrong
transcript and for replaced words the area under the ROC curve, the number of correct files and words that look wrong
anyway, and CPU seconds of the fit beside those of the alignment.

Kinds: another file's text; text cut at 60%; audio cut at 60%; text twice; two neighbouring words exchanged; one word in eight
replaced by any other, or by one with as many letters, give or take one.

After `. utils/env.sh`:

    "$KD_PYTHON" tests/bench/bench_confidence.py CORPUS/dev-clean-2 exp/sat data/lang [--half first] [--lexicon cmudict.dict]

``--half``: every other speaker, in alphabetical order. The limits in kdtool/aligner/fit.py were chosen on the first half.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from bench import FRAMES_A_SECOND, timed

KINDS = ("other", "text60", "audio60", "doubled", "exchanged", "replaced", "replaced_alike")
UTTERANCE_KINDS = KINDS[:5]  # those that count for `pooled`
SHARE = 0.6
REPLACED = 8  # one word in N


class Wrong(NamedTuple):
    """A transcript. places: changed words; cut: kept share of the audio."""

    words: list[str]
    places: list[int]
    cut: float = 1.0


def auc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Probability that a correct one scores above a wrong one; ties count half."""
    r, w = np.asarray(right)[:, None], np.asarray(wrong)[None]
    return float((r > w).mean() + 0.5 * (r == w).mean())


def variants(words: list[str], others: Sequence[list[str]], vocabulary: Sequence[str], rng: random.Random) -> Iterator[tuple[str, Wrong]]:
    """The correct transcript and a wrong one of each kind that its words allow."""
    yield "right", Wrong(words, [])
    yield "other", Wrong(rng.choice(others), [])
    yield "text60", Wrong(words[: max(1, round(SHARE * len(words)))], [])
    yield "audio60", Wrong(words, [], SHARE)
    yield "doubled", Wrong(words * 2, [])
    if places := [n for n in range(len(words) - 1) if words[n] != words[n + 1]]:
        n = rng.choice(places)
        yield "exchanged", Wrong([*words[:n], words[n + 1], words[n], *words[n + 2 :]], [n, n + 1])
    for kind in ("replaced", "replaced_alike"):
        chosen = sorted(rng.sample(range(len(words)), max(1, len(words) // REPLACED)))
        changed = list(words)
        for n in chosen:
            alike = [w for w in vocabulary if w != words[n] and (kind == "replaced" or abs(len(w) - len(words[n])) <= 1)]
            changed[n] = rng.choice(alike or [w for w in vocabulary if w != words[n]])
        yield kind, Wrong(changed, chosen)


def write_variants(corpus: Path, folder: Path, half: str, seed: int, most: int) -> dict[str, tuple[str, list[int]]]:
    """Audio and text of all variants below `folder`; kind and changed words by file name."""
    from kdtool.aligner.inputs import find_items

    items = find_items(corpus)[0]
    speakers = sorted({i.speaker for i in items})
    chosen = {"all": speakers, "first": speakers[::2], "second": speakers[1::2]}[half]
    rng, made = random.Random(seed), {}
    items = [i for i in items if i.speaker in chosen]
    items = rng.sample(items, most) if 0 < most < len(items) else items
    texts = {i.name: i.text.split() for i in items}
    vocabulary = sorted({w for t in texts.values() for w in t})
    for number, item in enumerate(items):
        audio, rate = soundfile.read(item.audio, dtype="int16")
        others = [t for name, t in texts.items() if name != item.name]
        for kind, one in variants(texts[item.name], others, vocabulary, rng):
            name = f"{number:04d}.{kind}"
            soundfile.write(folder / f"{name}.flac", audio[: round(one.cut * len(audio))], rate)
            (folder / f"{name}.txt").write_text(" ".join(one.words) + "\n", encoding="utf-8")
            made[name] = kind, one.places
    return made


def scores(out: Path) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Fit of each aligned file, and of its words."""
    from kdtool.core.tables import read_lines

    def rows(path: Path) -> Iterator[dict[str, str]]:
        head, *lines = [line.split("\t") for line in read_lines(path)]
        return (dict(zip(head, line, strict=True)) for line in lines)

    words: dict[str, list[float]] = {}
    for row in rows(out / "word_scores.tsv"):
        words.setdefault(row["file"], []).append(float(row["fit"]))
    return {row["file"]: float(row["fit"]) for row in rows(out / "files.tsv")}, words


def curves(made: dict[str, tuple[str, list[int]]], files: dict[str, float], words: dict[str, list[float]]) -> dict[str, Any]:
    """The areas, the shares of correct files and words that look wrong, and of wrong ones that do not."""
    by_kind = {k: [files[n] for n, (kind, _) in made.items() if kind == k and n in files] for k in ("right", *KINDS)}
    right, said = by_kind["right"], [w for n, (kind, _) in made.items() if kind == "right" for w in words.get(n, [])]
    result: dict[str, Any] = {"files": len(right), "words": len(said)}
    result["not_aligned"] = {k: sum(kind == k and n not in files for n, (kind, _) in made.items()) for k in KINDS}
    result["auc_files"] = {k: round(auc(right, by_kind[k]), 4) for k in KINDS if by_kind[k]}
    result["auc_files"]["pooled"] = round(auc(right, [f for k in UTTERANCE_KINDS for f in by_kind[k]]), 4)
    result["missed_files"] = {k: round(float(np.mean(np.array(by_kind[k]) >= 0.5)), 3) for k in KINDS if by_kind[k]}
    result["auc_words"], result["missed_words"] = {}, {}
    for k in ("exchanged", "replaced", "replaced_alike"):
        wrong = [words[n][p] for n, (kind, places) in made.items() if kind == k and n in words for p in places]
        result["auc_words"][k] = round(auc(said, wrong), 4)
        result["missed_words"][k] = round(float(np.mean(np.array(wrong) >= 0.5)), 3)
    result["false_alarms"] = {k: round(float(np.mean(np.array(v) < 0.5)), 4) for k, v in (("files", right), ("words", said))}
    return result


def cost(folder: Path, model: Path, lang_dir: Path, lexicon: Path | None, count: int) -> dict[str, float]:
    """CPU seconds per second of audio: the alignment without the fit (speaker's transform, scores of the senones in the text, lattice
    with posteriors), and the fit (scores of the other senones, loop, exchanged words)."""
    import torch

    from kdtool.ali import aligner as adapting
    from kdtool.aligner.config import Config
    from kdtool.aligner.fit import text_fit
    from kdtool.aligner.loop import PhoneLoop
    from kdtool.aligner.posterior import align_scores
    from kdtool.aligner.prepare import prepare
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import open_gmm
    from kdtool.graph.training import GraphBuilder, Words
    from kdtool.lang.lang import Lang, read_prons

    torch.set_num_threads(1)
    lang, gmm = Lang.load(lang_dir), open_gmm(model)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "temporary").mkdir()
        prepare(folder, lang, work, work / "temporary", Config(lexicon=lexicon, g2p=False), gmm.front.kind, 1)
        features, prons = FeatureSet.open(work / "temporary" / "feats"), read_prons(work / "temporary" / "prons.txt", lang.phones)
        loop, probs = PhoneLoop(gmm.tree, lang.num_states, lang.family), lang.probs.part(prons) if lang.probs else None
        builder, units = (GraphBuilder(Words(prons, lang.sil, lang.oov, probs), tree) for tree in (gmm.tree, loop.units))
        adapter, took, frames = adapting.Aligner(features, builder, gmm), {"align": 0.0, "fit": 0.0}, 0
        for u in features.ids[:count]:
            words = builder.known_words(features.info(u).text)[0]
            adapted, transform = timed(lambda u=u: adapter.learn([u]))  # type: ignore[misc]
            feats = gmm.front.features(features, u, transform)
            made, graph = timed(lambda words=words: builder.build(words))  # type: ignore[misc]
            part, _ = timed(lambda x=feats, g=graph: gmm.model.log_likelihood(x, g.used_pdfs()))  # type: ignore[misc]
            every, both = timed(lambda x=feats, g=graph: loop.scores(gmm.model, x, g.used_pdfs()))  # type: ignore[misc]
            searched, found = timed(lambda g=graph, b=both: align_scores(g, g.to_fsa(), b[0], 0.1))  # type: ignore[misc]
            judged, _ = timed(lambda w=words, f=found, b=both: text_fit(loop, units, w, f, b[1]))  # type: ignore[misc]
            took["align"] += adapted + made + part + searched
            took["fit"] += every - part + judged
            frames += len(feats)
    return {k: round(v / frames * FRAMES_A_SECOND, 5) for k, v in took.items()} | {"ratio": round(took["fit"] / took["align"], 2)}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Command line; returns the printed figures."""
    from kdtool.__main__ import main as kdtool

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("corpus", "model", "lang"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--lexicon", type=Path, help="pronunciations beside those of the lang folder")
    parser.add_argument("--half", choices=["all", "first", "second"], default="all", help="half of the speakers")
    parser.add_argument("--seed", type=int, default=0, help="seed of exchanges and replacements")
    parser.add_argument("--files", type=int, default=0, help="number of files, drawn at random; 0: all")
    parser.add_argument("--nj", default="2", help="jobs of the alignment")
    parser.add_argument("--timed", type=int, default=10, help="right files whose cost is measured")
    a = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "in", Path(place) / "out"
        folder.mkdir()
        made = write_variants(a.corpus, folder, a.half, a.seed, a.files)
        options = ["--lexicon", str(a.lexicon)] if a.lexicon else []
        options += ["--g2p", "false", "--report", "0", "--max-failed", "1", "--nj", a.nj]
        kdtool(["align", str(folder), "--model", str(a.model), "--lang", str(a.lang), "--out", str(out), *options])
        result = curves(made, *scores(out))
        for path in sorted(folder.iterdir()):
            if ".right." not in path.name:
                path.unlink()
        result["cpu_seconds_per_second"] = cost(folder, a.model, a.lang, a.lexicon, a.timed)
    print(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
