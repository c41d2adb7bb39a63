"""The tiny recipe, whole: it ends in a table, runs again as 'up to date', and killed and resumed gives the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import kenlm
import numpy as np
import pytest
from k2_rescoring import rescored_by_k2
from kill_test import Moment, content, draw, kill_and_resume, left_over
from tiny_recipe import ROOT, command, run, run_and_count

from kdtool.decode.acoustic import load_acoustic
from kdtool.decode.candidates import read_candidates
from kdtool.decode.rescore import Rescorer
from kdtool.features.store import FeatureSet
from kdtool.graph.decoding_graph import DecodingGraph
from kdtool.graph.engine import K2, Native
from kdtool.graph.lattice import Lattice, best_paths, nbest, scale_weights
from kdtool.graph.search import Beams

BEAMS = ("--search-beam", "15", "--max-active", "100000", "--min-active", "0")  # only the beam decides
SCALES = (0.75, 8.0)  # prior and LM scale
KILLS = 5  # tests/kill_test.py does 40


def linked(finished: Path, work: Path) -> None:
    """A work folder that reads all files of the finished one through links; what is made in it stays in it."""
    for folder in ("data", "exp"):
        for where, _, files in os.walk(finished / folder):
            made = work / Path(where).relative_to(finished)
            made.mkdir(parents=True)
            for name in files:
                (made / name).symlink_to(Path(where) / name)


def test_ends_in_a_table_with_every_system(finished: Path) -> None:
    rows = json.loads((finished / "exp/results.json").read_text())
    systems = {row["system"] for row in rows}
    assert systems == {"mono", "tri", "sat", "student_ce", "student_mtl", "student_li", "student_hmt"}
    for row in rows:
        rate = row["per"] if row["wer"] is None else row["wer"]
        assert row["words"] > 0 and 0 <= rate <= 150 and row["ci95"][0] <= rate <= row["ci95"][1], row
    for system in systems:
        assert system in (finished / "RESULTS.md").read_text()


def test_second_run_is_up_to_date(finished: Path, tmp_path: Path) -> None:
    """One process asks all steps for their state; of the steps only the one that prints the tables is started."""
    lines, started = run_and_count(command(finished), tmp_path)
    lines = [line for line in lines if not line.startswith("==")]
    ran = [line for line in lines if " runs (" in line]
    assert not ran and sum("up to date" in line for line in lines) > 20, ran
    assert started == ["kdtool.core.lock", "kdtool.core.stages", "kdtool.results.collect"]


def test_asked_for_its_state_it_answers_in_one_process(finished: Path, tmp_path: Path) -> None:
    lines, started = run_and_count([*command(finished), "--list-stages"], tmp_path)
    assert started == ["kdtool.core.stages"]
    stages, named = lines[:-2], lines[-2:]  # the last two run only when they are named
    assert all(line.endswith("up to date") and " UTC " in line for line in stages), lines
    assert [line.split()[1] for line in named] == ["ablation", "lfmmi"] and all(line.endswith("not made yet") for line in named)


def test_a_toolkit_that_has_grown_finds_all_up_to_date(finished: Path, tmp_path: Path) -> None:
    """An encoder, a teacher, a loss with their registry lines, and options with a default; then the chosen encoder's source changes."""
    grown = tmp_path / "toolkit"
    for name in ("kdtool", "egs", "local", "steps", "utils"):
        shutil.copytree(ROOT / name, grown / name, ignore=shutil.ignore_patterns("__pycache__", "exp", "data"))
    kdtool = grown / "kdtool"
    for folder, like, registry, line in (
        ("student/encoders", "tdnn", "__init__", "student.encoders.mine:Tdnn"),
        ("teacher", "ngram", "registry", "teacher.mine:NgramTeacher"),
        ("objectives", "soft", "__init__", "objectives.mine:SoftLabels"),
    ):
        shutil.copy(kdtool / folder / f"{like}.py", kdtool / folder / "mine.py")
        replace(kdtool / folder / f"{registry}.py", f'    "{like}":', f'    "mine": "kdtool.{line}",\n    "{like}":')
    for name in ("student/config.py", "teacher/train.py", "gmm/train_mono.py"):
        replace(kdtool / name, "    seed: int", "    mine: float = 0.5\n    seed: int")
    lines = listed(finished, grown, tmp_path)
    assert all(line.endswith("up to date") for line in lines[:-2]) and all(line.endswith("not made yet") for line in lines[-2:]), lines
    with open(kdtool / "student/encoders/tdnnf.py", "a") as f:
        f.write("CHANGED = 1\n")
    stale = {line.split()[1] for line in listed(finished, grown, tmp_path)[:-2] if not line.endswith("up to date")}
    assert stale == {"students", "decode", "results"}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new, 1))


def listed(finished: Path, toolkit: Path, folder: Path) -> list[str]:
    """What another checkout says of the stages of the finished run."""
    return run_and_count([*command(finished, toolkit / "egs/mini_librispeech/run.sh"), "--list-stages"], folder)[0]


def test_an_ablation_would_train_and_decode_what_its_file_lists(finished: Path, tmp_path: Path) -> None:
    """Asked, not run: training and decoding several systems once more would take longer than all the rest."""
    linked(finished, tmp_path)
    plan, exp = ROOT / "egs/mini_librispeech/conf/tiny.yaml:ablation", tmp_path / "exp"
    part = ["--systems", "ce,hmt", "--seeds", "1"]
    run([str(ROOT / "steps/plan_ablation.sh"), *part, str(plan), str(exp), str(exp / "ablation/conf")])
    lines = run([*command(tmp_path), "--stage", "ablation", *part, "--dry-run"]).splitlines()
    assert "plan_ablation -> exp/ablation/conf: up to date" in lines and not any("would fail" in line for line in lines), lines
    for system in ("ce_1", "hmt_1"):
        assert f"student {system} -> exp/ablation/{system}: would run (no output yet)" in lines
        decodes = [line for line in lines if line.startswith(f"decode -> exp/ablation/{system}/decode_dev_")]
        assert len(decodes) == 4 and all(f"follows exp/ablation/{system}" in line for line in decodes), lines
        pooled = [line for line in lines if line.startswith(f"decode -> exp/ablation/{system}/pooled_dev_")]
        assert len(pooled) == 4 and all("exp/ablation/scales/" in line for line in pooled), lines
    assert lines[-2].startswith("collect -> ABLATION.md: would run (follows exp/ablation/")
    assert lines[-1] == "make -> exp/report: would run (exp/ablation/ablation.json is not made yet)"


def test_an_ablation_ends_in_its_tables_and_page(finished: Path, tmp_path: Path) -> None:
    """Two systems, the second of which needs the masked teachers; then again, 'up to date'."""
    linked(finished, tmp_path)
    ablation = [*command(tmp_path), "--stage", "ablation", "--systems", "ce,masked", "--seeds", "0"]
    run(ablation)
    found = json.loads((tmp_path / "exp/ablation/ablation.json").read_text())
    assert [s["name"] for s in found["systems"]] == ["ce", "masked"] and not found["stale"]
    for system in found["systems"]:
        assert {r["lm"] for r in system["results"]} == {"loop", "phone", "weak", "3gram", "4gram"}
        assert all(r["utterances"] > 0 and 0 <= r["mean"] <= 150 for r in system["results"])
    assert found["systems"][1]["results"][0]["versus"].keys() == {"ce"}
    first, second = ({r["lm"]: r["runs"][0] for r in s["results"]} for s in found["systems"])
    assert found["scales"] == "pooled" and all(first[lm]["scales"] == second[lm]["scales"] for lm in first)
    assert all("/pooled_dev_" in run["decode"] for run in first.values())
    assert "| masked |" in (tmp_path / "ABLATION.md").read_text()
    assert "HMT-KD with masked teachers" in (tmp_path / "exp/report/index.html").read_text()
    again = run(ablation).splitlines()
    assert not [line for line in again if " runs (" in line] and sum("up to date" in line for line in again) > 15, again


def test_both_engines_align_and_decode_alike(finished: Path, tmp_path: Path) -> None:
    """The same alignments; the same words on every utterance at equal beams, scores within 0.001.

    The beam decides, not the limit on active states: under that the engines drop different ones.
    """
    data, exp = finished / "data", finished / "exp"
    for engine in ("k2", "native"):
        out = tmp_path / engine
        for system in ("mono", "sat"):
            places = [data / "dev_clean_2/mfcc", data / "lang", exp / system, out / f"ali_{system}"]
            run([str(ROOT / "steps/align.sh"), "--engine", engine, *map(str, places)])
        for system, gmm, kind in (("mono", "mono", "mfcc"), ("student_ce", "sat", "fbank")):
            places = [exp / system, data / f"dev_clean_2/{kind}", data / "lang", out / f"decode_{system}"]
            graph = ["--graph", str(exp / gmm / "graph_3gram")]
            run([str(ROOT / "steps/decode.sh"), "--engine", engine, *BEAMS, *graph, *map(str, places)])
    for system in ("mono", "sat"):
        files = [tmp_path / engine / f"ali_{system}/ali.safetensors" for engine in ("k2", "native")]
        assert files[0].read_bytes() == files[1].read_bytes()
    for system, scales in (("mono", (0.75, 12.0)), ("student_ce", SCALES)):  # those of the search
        folders = [tmp_path / engine / f"decode_{system}" for engine in ("k2", "native")]
        assert (folders[0] / "hyp.tsv").read_text() == (folders[1] / "hyp.tsv").read_text()
        found, wanted = (read_candidates(folder / "candidates.tsv.gz") for folder in folders)
        assert found.keys() == wanted.keys() and len(found) == 20
        weights = scale_weights(*scales)
        for utterance in found:
            best = [max(c.parts @ weights for c in one[utterance]) for one in (found, wanted)]
            assert abs(best[0] - best[1]) < 1e-3, utterance


def searched(finished: Path, engine: K2 | Native, count: int, output_beam: float = 5.0) -> Iterator[tuple[str, Lattice]]:
    """Lattices of the student's first utterances at the scales of SCALES, and the utterances."""
    features, student = FeatureSet.open(finished / "data/dev_clean_2/fbank"), load_acoustic(finished / "exp/student_ce")
    graph = DecodingGraph.load(finished / "exp/sat/graph_3gram")
    search, silent = engine.search(graph, Beams(10.0, output_beam, 100_000, 30)), np.zeros(len(graph.words), bool)
    prior_scale, lm_scale = SCALES
    for utterance in features.ids[:count]:
        scores = student.raw_scores(features, utterance)
        lattice = search.lattices([scores], student.log_prior, prior_scale=prior_scale, lm_scale=lm_scale, silent=silent)[0]
        assert lattice is not None
        yield utterance, lattice


@pytest.mark.parametrize("engine", [K2, Native])
def test_composition_in_k2_rescores_as_decoding_does(finished: Path, engine: type[K2 | Native]) -> None:
    lm, graph = finished / "data/lm_4gram", finished / "exp/sat/graph_3gram"
    words, rescorer, model = DecodingGraph.load(graph).words, Rescorer(lm, graph, 0.5), kenlm.Model(str(lm / "lm.bin"))
    # A narrow lattice, so that the n-best list holds all its sentences.
    for utterance, lattice in searched(finished, engine(), 4, output_beam=0.5):
        found, total = rescored_by_k2(lattice, words, model, *SCALES)
        ranked = []
        for path in nbest(lattice, scale_weights(*SCALES), count=1000, max_tokens=2000):
            spoken = tuple(words[w] for w in path.words)
            ranked.append(((path.parts[0] - SCALES[0] * path.parts[1]) / SCALES[1] + rescorer(spoken, path.parts[2]), spoken))
        assert max(ranked)[1] == found and abs(max(ranked)[0] - total) < 1e-3, utterance


def test_the_readmes_ten_lines_of_k2(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "egs/mini_librispeech/README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block
    monkeypatch.chdir(finished)
    exec(compile(block[1], "README.md", "exec"), {})
    utterance, lattice = next(searched(finished, Native(), 1))
    words = DecodingGraph.load(finished / "exp/sat/graph_3gram").words
    best = best_paths(lattice, scale_weights(*SCALES)[None])[0]
    assert best.words and capsys.readouterr().out.split() == [utterance, *(words[w] for w in best.words)]


def test_killed_and_resumed_gives_the_same_result(timeline: tuple[Path, list[tuple[float, Moment]]], tmp_path: Path) -> None:
    killed = kill_and_resume(command(tmp_path / "w"), draw(timeline[1], KILLS, seed=2026), tmp_path)
    run(command(tmp_path / "w"))
    assert killed == KILLS and left_over(tmp_path / "w") == []
    found, wanted = content(tmp_path / "w"), content(timeline[0])
    assert found == wanted and len(found) > 100, len(found)
