"""Benchmarks of alignment, graph building and decoding, on a recipe's folders.

In: the benchmark's name, and its step's folders. Out: CPU seconds on one core (the machine may be busy), medians of
repeated runs, and ratios: times real time, or against kaldi-decoder's FasterDecoder on the same graph and scores.

After `. utils/env.sh`, with "$KD_PYTHON" before each line:

    tests/bench/bench.py align  data/dev/mfcc data/lang exp/tri
    tests/bench/bench.py hclg   data/lang data/lm_3gram exp/tri
    tests/bench/bench.py decode exp/student_ce data/dev/fbank exp/tri/graph_3gram
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

FRAMES_A_SECOND = 100


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the answer."""
    start = time.process_time()
    answer = work()
    return time.process_time() - start, answer


def align(feats: Path, lang_dir: Path, gmm_dir: Path, utterances: int, repeats: int) -> dict[str, float]:
    """Training graphs, GMM scores and Viterbi, one utterance at a time as in steps/align.sh (without speakers' transforms)."""
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import open_gmm, original_ids, used_words
    from kdtool.gmm.search import best_paths
    from kdtool.graph.engine import K2, Native
    from kdtool.graph.training import GraphBuilder
    from kdtool.graph.viterbi import viterbi
    from kdtool.lang.lang import Lang

    features, lang, gmm = FeatureSet.open(feats), Lang.load(lang_dir), open_gmm(gmm_dir)
    ids = original_ids(features)[:utterances]
    builder = GraphBuilder(used_words(lang, features, ids), gmm.tree)
    texts = [builder.known_words(features.info(u).text)[0] for u in ids]
    inputs = [gmm.front.features(features, u) for u in ids]
    frames, words = sum(map(len, inputs)), sum(map(len, texts))
    audio = frames / FRAMES_A_SECOND
    took: dict[str, list[float]] = {"graphs": [], "viterbi": [], "k2": [], "with_scoring": []}
    for _ in range(repeats):
        seconds, graphs = timed(lambda: [builder.build(words) for words in texts])
        took["graphs"].append(seconds)
        pairs = list(zip(graphs, inputs, strict=True))
        scored = [(g, gmm.model.log_likelihood(x, g.used_pdfs())) for g, x in pairs]
        took["viterbi"].append(timed(lambda todo=scored: [viterbi(g, s) for g, s in todo])[0])
        took["k2"].append(timed(lambda todo=scored: K2().best_paths(*zip(*todo, strict=True)))[0])
        took["with_scoring"].append(timed(lambda todo=pairs: [best_paths(Native(), gmm.model, [g], [x]) for g, x in todo])[0])
    seconds = {name: median(values) for name, values in took.items()}
    return {
        "audio_seconds": round(audio, 1), "utterances": len(ids),
        "graphs_a_minute": round(60 * len(ids) / seconds["graphs"]), "words_a_second": round(words / seconds["graphs"]),
        "viterbi_x_real_time": round(audio / seconds["viterbi"], 1), "k2_against_viterbi": round(seconds["k2"] / seconds["viterbi"], 1),
        "viterbi_and_scoring_x_real_time": round(audio / seconds["with_scoring"], 1),
        "audio_hours_a_minute": round(audio / 60 / (seconds["with_scoring"] + seconds["graphs"]), 2),
    }  # fmt: skip


def hclg(lang: Path, lm: Path, model: Path, repeats: int) -> dict[str, float]:
    """steps/make_graph.sh as a separate process: CPU seconds (user and system) and peak memory."""
    cpu, peak, meta = [], [], {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "kdtool.graph.make_graph", str(lang), str(lm), str(model), f"{folder}/graph"]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"error: {' '.join(command)} ended with {process.returncode}")
            cpu.append(usage.ru_utime + usage.ru_stime)
            peak.append(usage.ru_maxrss * 1024 / 1e6)
            meta = json.loads(Path(folder, "graph", "meta.json").read_text())
    return {"cpu_seconds": round(median(cpu), 1), "peak_mb": round(median(peak)), **{k: meta[k] for k in ("states", "arcs", "megabytes")}}


def decode(
    model: Path, feats: Path, graph_dir: Path, utterances: int, repeats: int, beam: float, max_active: int, lm_scale: float
) -> dict[str, float]:
    """One-best search with kdtool and with FasterDecoder, in turns, on the same graph and scores; k2 in batches."""
    import kaldi_decoder
    import kaldifst

    from kdtool.decode.acoustic import load_acoustic
    from kdtool.features.store import FeatureSet
    from kdtool.graph.decoding_graph import DecodingGraph
    from kdtool.graph.engine import K2
    from kdtool.graph.fst import to_kaldifst
    from kdtool.graph.lattice import best_paths, scale_weights
    from kdtool.graph.search import Beams, Searcher

    features, acoustic, graph = FeatureSet.open(feats), load_acoustic(model), DecodingGraph.load(graph_dir)
    ids = features.ids[:utterances]
    scores = [(acoustic.scores(features, u, 0.75) / lm_scale).astype(np.float32) for u in ids]
    beams = Beams(beam, 1.0, max_active, min_active=20)
    oracle, searcher, batched = to_kaldifst(graph.as_fst()), Searcher(graph, beams), K2().search(graph, beams)
    silent = np.zeros(len(graph.words), bool)
    weights = np.array([scale_weights(0.0, 1.0)])

    def ours(x: np.ndarray) -> tuple[list[int], float]:
        lattice = searcher.lattices([x], None, prior_scale=0.0, lm_scale=1.0, silent=silent)[0]
        if lattice is None:
            return [], -np.inf
        path = best_paths(lattice, weights)[0]
        return list(path.words), float(path.parts[:3].sum())

    def in_k2() -> list[Any]:
        parts = [scores[i : i + K2.batch] for i in range(0, len(scores), K2.batch)]
        return [one for part in parts for one in batched.lattices(part, None, prior_scale=0.0, lm_scale=1.0, silent=silent)]

    def theirs(x: np.ndarray) -> tuple[list[int], float]:
        options = kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=max_active, min_active=20)
        decoder = kaldi_decoder.FasterDecoder(oracle, options)
        decoder.decode(kaldi_decoder.DecodableCtc(x))
        _, linear = decoder.get_best_path()
        _, _, outputs, weight = kaldifst.get_linear_symbol_sequence(linear)
        return [int(w) for o in outputs for w in graph.spelling[o] if w], -(weight.value1 + weight.value2)

    own, other, same, apart = [], [], 0, 0.0
    for x in scores:
        runs = [(timed(lambda x=x: ours(x)), timed(lambda x=x: theirs(x))) for _ in range(repeats)]
        own.append(median(r[0][0] for r in runs))
        other.append(median(r[1][0] for r in runs))
        (words, score), (wanted, best) = runs[0][0][1], runs[0][1][1]
        same, apart = same + (words == wanted), max(apart, abs(score - best))
    in_batches = median(timed(in_k2)[0] for _ in range(repeats))
    audio = sum(map(len, scores)) / FRAMES_A_SECOND
    return {
        "beam": beam, "max_active": max_active, "utterances": len(ids), "audio_seconds": round(audio, 1),
        "rtf": round(sum(own) / audio, 4), "rtf_fasterdecoder": round(sum(other) / audio, 4),
        "ratio": round(sum(own) / sum(other), 3), "same_one_best": same, "largest_score_difference": round(apart, 4),
        "k2_against_own": round(in_batches / sum(own), 1),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("align", "hclg", "decode"))
    parser.add_argument("folders", type=Path, nargs=3)
    parser.add_argument("--utterances", type=int, default=60, help="use the first N utterances of the set (align, decode)")
    parser.add_argument("--repeats", type=int, default=3, help="number of runs, whose median is reported")
    parser.add_argument("--beam", type=float, default=20.0)
    parser.add_argument("--max-active", type=int, default=2000)
    parser.add_argument("--lm-scale", type=float, default=8.0, help="decode: divisor of the acoustic scores")
    a = parser.parse_args(argv)
    if a.what != "hclg":
        import torch

        torch.set_num_threads(1)
    if a.what == "align":
        figures = align(*a.folders, a.utterances, a.repeats)
    elif a.what == "hclg":
        figures = hclg(*a.folders, a.repeats)
    else:
        figures = decode(*a.folders, a.utterances, a.repeats, a.beam, a.max_active, a.lm_scale)
    for name, value in figures.items():
        print(f"{name:34s}{value}")
    return figures


if __name__ == "__main__":
    main()
