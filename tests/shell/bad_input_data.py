"""A small sound world to spoil, and callers that behave as a user's command line does.

Out: a folder with a corpus, LM text, lexicon, features, GMM, alignment, teacher, dump and student; exit status and stderr of a step.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "unit")]
RUN = ROOT / "egs" / "mini_librispeech" / "run.sh"
HEAD = '[{"unit": "phone", "layer": 1, "weight": 0.3, "kind": "soft"}]'
SMALL_STUDENT = ["--encoder-options", "{dim: 16, bottleneck: 8, contexts: [1]}", "--hidden", "8", "--epochs", "1", "--freq-masks", "0",
                 "--heads", HEAD]  # fmt: skip

# Step -> module and positional arguments, below the world's folder. OUT is made; the rest is read; '=' begins a plain word.
STEPS: dict[str, tuple[str, list[str]]] = {
    "corpus": ("local.librispeech.prepare_data", ["corpus", "OUT"]),
    "lm text": ("kdtool.lm.text", ["lm.txt", "OUT"]),
    "lang": ("kdtool.lang.prepare", ["lexicon.txt", "lm_text", "data/train_clean_5", "OUT"]),
    "ngram": ("kdtool.lm.ngram", ["lm_text", "words", "data/dev_clean_2", "OUT"]),
    "features": ("kdtool.features.extract", ["data/train_clean_5", "OUT"]),
    "align": ("kdtool.ali.align", ["feats", "lang", "gmm", "OUT"]),
    "tri": ("kdtool.gmm.train_tri", ["feats", "lang", "gmm/ali", "OUT"]),
    "phone graph": ("kdtool.graph.phone_graph", ["lang", "gmm/ali", "gmm", "OUT"]),
    "dump": ("kdtool.posteriors.make", ["t_lang", "teacher", "t_ali", "OUT"]),
    "dump frames": ("kdtool.framewise.make", ["student", "fbank", "lang", "OUT"]),
    "student": ("kdtool.student.train", ["fbank", "ali", "fbank", "ali", "OUT"]),
    "decode": ("kdtool.decode.decode", ["=--graph", "gmm/graph", "student", "fbank", "lang", "OUT"]),
    "decode in the model": ("kdtool.decode.decode", ["=--graph", "gmm/graph", "student", "fbank", "lang", "student/decode_dev"]),
    "decode with a GMM": ("kdtool.decode.decode", ["=--graph", "gmm/graph", "gmm", "feats", "lang", "OUT"]),
}
# Validators: the folder, and the other folders that it is compared with.
VALIDATORS: dict[str, tuple[str, dict[str, str]]] = {
    "data": ("data/train_clean_5", {}), "features": ("feats", {}), "lang": ("t_lang", {}),
    "ali": ("gmm/ali", {"feats": "feats", "lang": "lang", "gmm": "gmm"}), "model": ("gmm", {"lang": "lang", "feats": "feats"}),
    "student": ("student", {"feats": "fbank"}), "teacher": ("teacher", {"lang": "t_lang"}),
    "graph": ("gmm/graph", {"gmm": "gmm", "lang": "lang"}), "dump": ("posts", {"ali": "ali"}),
}  # fmt: skip
KIND_OF = {"student": "model", "teacher": "model"}
for _name, (_folder, _others) in VALIDATORS.items():
    _kind = KIND_OF.get(_name, _name)
    _more = [word for option, place in _others.items() for word in (f"=--{option}", place)]
    STEPS[f"validate {_name}"] = ("kdtool.validate.main", [f"={_kind}", *_more, "=--deep", _folder])


def copy_world(sound: Path, place: Path) -> Path:
    """A copy whose manifests name its own audio (they hold absolute paths), so that the audio can be spoilt too."""
    from kdtool.core.tables import open_text, read_lines

    shutil.copytree(sound, place)
    for manifest in (place / "data").glob("*/recordings.jsonl.gz"):
        content = read_lines(manifest)
        with open_text(manifest, "w") as f:
            f.writelines(line.replace(str(sound), str(place)) + "\n" for line in content)
        manifest.with_name(".done.json").unlink()
    return place


def snapshot(world: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that is not an output of the step: none may change."""
    found = {}
    for path in sorted(world.rglob("*")):
        name = str(path.relative_to(world))
        if path.is_file() and not name.startswith(("out", ".out", "work")):
            found[name] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def write_audio(path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> None:
    """Noise as FLAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(-3000, 3000, (int(seconds * rate), channels), dtype=np.int16)
    soundfile.write(path, noise, rate, subtype="PCM_16")


def write_corpus(folder: Path) -> None:
    """Two training speakers with two utterances each, one dev speaker with one."""
    for part, speaker, count in (("train-clean-5", "11", 2), ("train-clean-5", "22", 2), ("dev-clean-2", "33", 1)):
        chapter = folder / part / speaker / "7"
        for n in range(count):
            write_audio(chapter / f"{speaker}-7-{n:04d}.flac")
        (chapter / f"{speaker}-7.trans.txt").write_text("".join(f"{speaker}-7-{n:04d} HELLO WORLD\n" for n in range(count)))


def command(step: str, world: Path, *options: str) -> list[str]:
    """The step's arguments."""
    names = [n[1:] if n.startswith("=") else str(world / ("out" if n == "OUT" else n)) for n in STEPS[step][1]]
    if step.startswith(("validate", "fix")):
        return [*names[:-1], *options, names[-1]]
    extra = [*SMALL_STUDENT, "--posts", str(world / "posts")] if step == "student" else []
    extra += ["--ref-ali", str(world / "gmm/ali")] if step.startswith("decode") else []
    return ["--nj", "1", *extra, *options, *names]


class Caller:
    """Runs a step's command line in this process, with the exit status and the messages that a user gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, step: str, world: Path, *options: str) -> tuple[int, str]:
        from kdtool.core.children import STOPS
        from kdtool.core.cli import cli_main

        module = importlib.import_module(STEPS[step][0])
        self._monkeypatch.setattr(sys, "argv", [step, *command(step, world, *options)])
        handlers = {number: signal.getsignal(number) for number in STOPS}
        try:
            with pytest.raises(SystemExit) as ended:
                cli_main(module.main)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        told = self._capsys.readouterr()
        return int(ended.value.code or 0), told.out + told.err if step.startswith(("validate", "fix")) else told.err


def child(step: str, world: Path, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The step as a separate process."""
    argv = [sys.executable, "-m", STEPS[step][0], *command(step, world, *options)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600, **more)


def run_sh(*argv: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The recipe as a separate process."""
    return subprocess.run([str(RUN), *argv], capture_output=True, text=True, check=False, timeout=600, **more)


def write_gmm(root: Path) -> None:
    """Language, features, a model that fits them, its alignment and phone graph."""
    import gmm_data

    from kdtool.ali import align
    from kdtool.core.cli import Common
    from kdtool.core.step import run_step
    from kdtool.features.store import FeatureSet
    from kdtool.formats.tree import Tree
    from kdtool.gmm.feats import FrontEnd
    from kdtool.gmm.folder import save_gmm
    from kdtool.gmm.model import DiagGmm
    from kdtool.graph import phone_graph
    from kdtool.lang.lang import Lang

    gmm_data.write_lang(root / "lang")
    gmm_data.write_features(root / "feats", 6)
    lang, features = Lang.load(root / "lang"), FeatureSet.open(root / "feats")
    tree = Tree.monophone(lang.num_states)
    means = np.stack([gmm_data.state_mean(int(p), int(s)) for p, s in zip(tree.pdf_phone, tree.pdf_state, strict=True)])
    model = DiagGmm(means, np.full(means.shape, 0.16), np.ones(len(means)), np.arange(len(means) + 1), tree.digest)
    run_step("gmm", out=root / "gmm", inputs={}, options={}, code=(), common=Common(),
             body=lambda work: save_gmm(work, model, tree, lang, FrontEnd(features.kind, features.dim), []))  # fmt: skip
    align.main(["--nj", "1", *(str(root / p) for p in ("feats", "lang", "gmm", "gmm/ali"))])
    phone_graph.main(["--min-count", "1", *(str(root / p) for p in ("lang", "gmm/ali", "gmm", "gmm/graph"))])


def write_teacher(root: Path) -> None:
    """A phone teacher with its language, tree and alignment."""
    import teacher_data

    from kdtool.teacher import train

    lang, tree = teacher_data.write_lang(root / "t_lang"), teacher_data.make_tree()
    (root / "t_gmm").mkdir()
    tree.save(root / "t_gmm")
    teacher_data.write_text(root / "t_text", teacher_data.sentences(100))
    teacher_data.write_alignments(root / "t_ali", teacher_data.sentences(4, seed=5), lang, tree)
    sources = [str(root / n) for n in ("t_text", "t_lang", "t_gmm", "t_ali", "t_ali", "teacher")]
    train.main(["--options", "{order: 2, prune: [0]}", "--held-out", "10", *sources])


def write_student(root: Path) -> None:
    """Features, alignment, dump, and a student that was trained on them."""
    import student_data

    from kdtool.student import train

    student_data.write_set(root)
    student_data.write_dump(root / "posts", root / "ali", "phone")
    train.main([*SMALL_STUDENT, "--posts", str(root / "posts"), *(str(root / p) for p in ("fbank", "ali", "fbank", "ali", "student"))])


def write_world(root: Path) -> None:
    """All of it."""
    write_corpus(root / "corpus")
    (root / "lm.txt").write_text("HELLO WORLD\nTHE WORLD\n" * 20)
    (root / "lexicon.txt").write_text("HELLO HH AH L OW\nWORLD W ER L D\nTHE DH AH\n")
    from kdtool.lm import text

    text.main([str(root / "lm.txt"), str(root / "lm_text")])
    subprocess.run([sys.executable, "-m", STEPS["corpus"][0], str(root / "corpus"), str(root / "data")], cwd=ROOT, check=True)
    (root / "words").mkdir()
    (root / "words" / "words.txt").write_text("<eps> 0\nHELLO 1\nWORLD 2\n<UNK> 3\n#0 4\n<s> 5\n</s> 6\n")
    write_gmm(root)
    write_teacher(root)
    write_student(root)


def spoil(path: Path, how: str) -> None:
    """Cut a file in half, flip a bit two thirds in, or empty it."""
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) * 2 // 3] ^= 4
    path.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "empty": b""}[how])


def processes_of(session: int) -> list[str]:
    """Living processes of a session."""
    left = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            left.append(command)
    return left


def without_privilege() -> None:
    """In a child, before it starts: file permissions count although it is root's."""
    import ctypes

    cap_dac_override, cap_dac_read_search, pr_capbset_drop = 1, 2, 24
    for right in (cap_dac_override, cap_dac_read_search) if os.geteuid() == 0 else ():
        if ctypes.CDLL(None, use_errno=True).prctl(pr_capbset_drop, right, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the right to override permissions cannot be given up")
