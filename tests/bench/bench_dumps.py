"""Benchmarks of teachers' posteriors, on a recipe's folders.

In: teachers with their dumps, a text, or an alignment. Out: sizes and rates beside other formats of the same content; full
distributions of an n-gram per second; speed of dumping a neural teacher. CPU seconds of one core (the machine may be busy); real
time is the alignment's frames.

After `. utils/env.sh`, with "$KD_PYTHON" before each line:

    tests/bench/bench_dumps.py dumps data/lang exp/sat/ali_train exp/teacher_phone/post_train ..    (each inside its teacher's folder,
                                                                                                    or TEACHER=DUMP)
    tests/bench/bench_dumps.py ngram lm_text.gz --units 500 --order 5
    tests/bench/bench_dumps.py neural data/lang exp/sat/ali_train subword lstm

lilcom and HDF5 need the packages lilcom and h5py, which kdtool does not use; missing ones are named. To install them separately:

    pip install --target /tmp/x --no-deps lilcom h5py && PYTHONPATH="$KD_ROOT:/tmp/x" "$KD_PYTHON" tests/bench/bench_dumps.py dumps ..
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench import FRAMES_A_SECOND, timed

OTHERS = 60  # utterances for measuring the other formats
REPEATS = 3  # runs, whose median is reported
PACKAGES = {"lilcom": "lilcom", "hdf5_fp16": "h5py"}  # required by a format


def dump_rates(lang_dir: Path, ali_dir: Path, teacher_dir: Path, dump_dir: Path, utterances: int) -> dict[str, float]:
    """One dump: bytes per second, loss, and times real time of writing, reading, and the other forms."""
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.lang.lang import Lang
    from kdtool.posteriors.dump import PosteriorDump, write_shard
    from kdtool.posteriors.job import Tally, posteriors
    from kdtool.posteriors.source import UnitRows
    from kdtool.teacher.registry import load_teacher

    ali, dump = AlignmentSet.open(ali_dir), PosteriorDump.open(dump_dir)
    source = UnitRows(load_teacher(teacher_dir), ali, Lang.load(lang_dir))
    ids = [row["id"] for row in dump.rows if row["shard"] <= dump.rows[min(utterances, len(dump)) - 1]["shard"]]
    audio = sum(ali.get(u).num_frames for u in ids) / FRAMES_A_SECOND
    whole = sum(ali.get(u).num_frames for u in ali.ids) / FRAMES_A_SECOND

    def write(folder: str) -> None:
        for number, names in _shards(dump, ids):
            write_shard(Path(folder, f"{number}"), dump.coder, posteriors(source, dump.coder, names, 1.0, Tally()))

    def read() -> None:
        fresh = PosteriorDump.open(dump_dir)
        for name in ids:
            post = fresh.get(name)
            rows = post.frame_rows(ali.get(name).num_frames, name)
            np.diff(post.offsets)[rows]  # number of kept entries per frame

    source.teacher.log_probs(dump.get(ids[0]).unit_ids)  # caches what is made once
    with tempfile.TemporaryDirectory() as folder:
        wrote = often(lambda: write(folder))
    figures = {
        "bytes_a_second": dump.meta["bytes"] / whole, "mass": dump.meta["mean_mass_kept"], "nats_lost": dump.meta["nats_lost_per_unit"],
        "write_x": audio / wrote, "read_x": audio / often(read),
    }  # fmt: skip
    return figures | other_forms(dump, ids[:OTHERS], sum(ali.get(u).num_frames for u in ids[:OTHERS]) / FRAMES_A_SECOND)


def often(work: Callable[[], Any]) -> float:
    """Median CPU seconds."""
    return median(timed(work)[0] for _ in range(REPEATS))


def _shards(dump: Any, ids: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    wanted, shards = set(ids), dict[int, list[str]]()
    for row in dump.rows:
        if row["id"] in wanted:
            shards.setdefault(row["shard"], []).append(row["id"])
    yield from shards.items()


def other_forms(dump: Any, ids: Sequence[str], audio: float) -> dict[str, float]:
    """Dense rows, one per unit: bytes per second and times real time of writing and reading."""
    arrays = {name: dump.get(name).dense(dump.num_units) for name in ids}
    figures = {}
    for form, (save, load) in _forms().items():
        wrote, read = [], []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                wrote.append(timed(lambda folder=folder, save=save: save(folder, arrays))[0])
                read.append(timed(lambda folder=folder, load=load: load(folder, ids))[0])
                size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        figures |= {f"{form}_bytes_a_second": size / audio, f"{form}_write_x": audio / median(wrote),
                    f"{form}_read_x": audio / median(read)}  # fmt: skip
    return figures


def _forms() -> dict[str, tuple[Callable[[Path, dict[str, np.ndarray]], Any], Callable[[Path, Sequence[str]], Any]]]:
    """Name -> functions that write and read arrays."""
    from lhotse.features import io

    def save_npy(folder: Path, arrays: dict[str, np.ndarray]) -> None:
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values.astype(np.float16))

    def load_npy(folder: Path, names: Sequence[str]) -> None:
        for name in names:
            np.load(folder / f"{name}.npy")

    def lhotse_form(writer: Any, reader: Any, kind: type) -> tuple[Any, Any]:
        keys: dict[str, str] = {}

        def save(folder: Path, arrays: dict[str, np.ndarray]) -> None:
            with writer(folder / "arrays") as out:
                keys.update((name, out.write(name, np.maximum(values, -60.0).astype(kind))) for name, values in arrays.items())

        def load(folder: Path, names: Sequence[str]) -> None:
            source = reader(next(p for p in folder.iterdir() if p.name.startswith("arrays")))
            for name in names:
                source.read(keys[name])

        return save, load

    forms = {"npy_fp16": (save_npy, load_npy), "lilcom": lhotse_form(io.LilcomChunkyWriter, io.LilcomChunkyReader, np.float32),
             "hdf5_fp16": lhotse_form(io.NumpyHdf5Writer, io.NumpyHdf5Reader, np.float16)}  # fmt: skip
    return {form: how for form, how in forms.items() if form not in missing()}


def missing() -> dict[str, str]:
    """Formats that cannot be measured here, with their missing packages."""
    return {form: package for form, package in PACKAGES.items() if importlib.util.find_spec(package) is None}


def ngram(text: Path, units: int, order: int, lines: int, sentences: int) -> dict[str, float]:
    """Distributions per second of an n-gram over BPE units, and the largest difference from KenLM's own scores (natural log)."""
    import itertools

    import kenlm
    import sentencepiece

    from kdtool.core.tables import open_text
    from kdtool.lang.subwords import train_bpe
    from kdtool.lm.arpa import read_arpa
    from kdtool.teacher.base import TrainingText
    from kdtool.teacher.ngram import NgramTeacher, run_lmplz
    from kdtool.teacher.trie import NgramTrie
    from kdtool.units.text import Sequences

    bpe = sentencepiece.SentencePieceProcessor(model_proto=train_bpe(text, units, 50_000, 0))
    with open_text(text) as source:
        encoded = [np.array(ids, dtype=np.int32) for ids in bpe.encode([x.strip() for x in itertools.islice(source, lines or None)])]
    held, train = encoded[:sentences], Sequences.of(encoded[sentences:])
    with tempfile.TemporaryDirectory() as folder:
        arpa = Path(folder, "lm.arpa")
        options = ["-o", str(order), "--discount_fallback", "-S", "1G", "-T", folder, "--prune", "0", "0", "1"]
        run_lmplz(options, TrainingText("subword", len(bpe), lambda: iter([train]), train), arpa, Path(folder, "log"))
        teacher = NgramTeacher("subword", NgramTrie.from_arpa(read_arpa(arpa), len(bpe)))
        model = kenlm.Model(str(arpa))
    teacher.log_probs(held[0])
    batches = [held[n : n + 64] for n in range(0, len(held), 64)]
    seconds = often(lambda: [teacher.log_probs_many(b) for b in batches])
    singly = often(lambda: [teacher.log_probs(s) for s in held])
    apart, trie = 0.0, teacher.trie
    for ids in held[:50]:
        raw = trie.raw(trie.states(ids))
        scores = [s[0] * np.log(10.0) for s in model.full_scores(" ".join(map(str, ids)))]
        own = np.append(raw[np.arange(len(ids)), ids], raw[-1, -2])
        seen = np.append(trie.seen[ids], True)
        apart = max(apart, float(np.abs(own - scores)[seen].max()))
    total = sum(map(len, held))
    return {"ngrams": sum(trie.num_ngrams), "units": total, "distributions_a_second": round(total / seconds),
            "sentence_by_sentence": round(total / singly), "largest_difference_from_kenlm": apart}  # fmt: skip


def neural(lang_dir: Path, ali_dir: Path, unit: str, kind: str, updates: int, utterances: int) -> dict[str, float]:
    """Times real time of dumping a neural teacher of the usual size; it is trained on the alignment's units until it
    is uncertain about some units only (one that is uncertain about all keeps whole rows, and is slow to write)."""
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.lang.lang import Lang
    from kdtool.posteriors.dump import write_shard
    from kdtool.posteriors.job import TOGETHER, Tally, posteriors
    from kdtool.posteriors.make import Config, learn_coder
    from kdtool.posteriors.source import UnitRows
    from kdtool.teacher.base import TrainingText
    from kdtool.teacher.registry import KINDS
    from kdtool.units.segments import unit_segments
    from kdtool.units.table import num_units
    from kdtool.units.text import Sequences

    lang, ali = Lang.load(lang_dir), AlignmentSet.open(ali_dir)
    text = Sequences.of([unit_segments(ali.get(u), unit, lang).ids for u in ali.ids])
    size = int(text.ids.max()) + 1 if unit == "senone" else num_units(unit, lang, None)
    with tempfile.TemporaryDirectory() as folder:
        known = TrainingText(unit, size, lambda: iter([text]), text)
        teacher = KINDS[kind].train(known, {"updates": updates}, seed=0, work=Path(folder))
        source = UnitRows(teacher, ali, lang)
        coder = learn_coder(source, Config(sample=4000))
        ids = ali.ids[:utterances]
        units = [unit_segments(ali.get(u), unit, lang).ids for u in ids]
        audio, count = sum(ali.get(u).num_frames for u in ids) / FRAMES_A_SECOND, sum(map(len, units))
        asked = often(lambda: [teacher.log_probs_many(units[n : n + TOGETHER]) for n in range(0, len(units), TOGETHER)])
        tally = Tally()
        wrote = often(lambda: write_shard(Path(folder, "shard"), coder, posteriors(source, coder, ids, 1.0, tally)))
    return {"units": count, "units_a_second_of_the_teacher": round(count / asked), "teacher_x": round(audio / asked),
            "write_x": round(audio / wrote), "nats_a_unit": tally.nats / tally.units}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Run one benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    dumps = kinds.add_parser("dumps")
    dumps.add_argument("lang", type=Path)
    dumps.add_argument("ali", type=Path)
    dumps.add_argument("dumps", nargs="+")
    dumps.add_argument("--utterances", type=int, default=128, help="write and read the shards of the first N utterances")
    text = kinds.add_parser("ngram")
    text.add_argument("text", type=Path)
    text.add_argument("--units", type=int, default=500)
    text.add_argument("--order", type=int, default=5)
    text.add_argument("--lines", type=int, default=0, help="number of lines of the text, 0 for all")
    text.add_argument("--sentences", type=int, default=500, help="measure on the first N sentences, which are held out")
    net = kinds.add_parser("neural")
    net.add_argument("lang", type=Path)
    net.add_argument("ali", type=Path)
    net.add_argument("unit", choices=("senone", "phone", "subword"))
    net.add_argument("kind", choices=("lstm", "blstm"))
    net.add_argument("--updates", type=int, default=60)
    net.add_argument("--utterances", type=int, default=128)
    a = parser.parse_args(argv)
    if a.what != "dumps":
        if a.what == "ngram":
            figures = ngram(a.text, a.units, a.order, a.lines, a.sentences)
        else:
            figures = neural(a.lang, a.ali, a.unit, a.kind, a.updates, a.utterances)
        for name, value in figures.items():
            print(f"{name:34s}{value:.7g}")
        return
    folders = [(Path(d.split("=")[0]), Path(d.split("=")[1])) if "=" in d else (Path(d).parent, Path(d)) for d in a.dumps]
    for form, package in missing().items():
        print(f"{form}: not measured, the Python package {package} is not installed (see --help)", file=sys.stderr)
    table = {dump: dump_rates(a.lang, a.ali, teacher, dump, a.utterances) for teacher, dump in folders}
    print("\t".join(["", *(f"{d.parent.name}/{d.name}" for d in table), "together"]).expandtabs(28))
    for name in next(iter(table.values())):
        values = [row[name] for row in table.values()]
        # Sizes add up, and so do the times behind the rates; mass and loss have no sum.
        whole = sum(values) if name.endswith("bytes_a_second") else 1 / sum(1 / v for v in values) if name.endswith("_x") else float("nan")
        print("\t".join([name, *(f"{v:.4g}" for v in (*values, whole))]).expandtabs(28))


if __name__ == "__main__":
    main()
