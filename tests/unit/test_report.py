"""The report: it renders whatever part there is, nothing in it runs or is fetched, and its figures are what counting by hand gives."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from report_data import HEAD, UTTERANCES, tone, write_ablation
from teacher_data import LEXICON, make_tree, sentences, write_alignments, write_lang

from kdtool.ablation.tables import by_seeds
from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import read_json, write_json, write_jsonl
from kdtool.core.tensors import save_tensors
from kdtool.decode.scoring import count_errors
from kdtool.features.store import FeatureSet
from kdtool.formats.alignment import AlignmentSet
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.pictures import charts
from kdtool.pictures.charts import Frame, Line, Point
from kdtool.report import choice, curves, gains, make
from kdtool.report.learnt import head_divergence, taught
from kdtool.report.utterance import Map, Phones, grey, head_map, main_map, teacher_map
from kdtool.results.collect import Utterance
from kdtool.student.heads import head_specs, load_with_heads
from kdtool.student.model import HEADS_FILE, AuxShape, Shape, Student
from kdtool.teacher.base import TrainingText
from kdtool.teacher.ngram import NgramTeacher
from kdtool.teacher.registry import load_teacher
from kdtool.units.segments import unit_segments
from kdtool.units.table import num_units, units_digest
from kdtool.units.text import Sequences, UnitText

DIM = 8
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Balance(HTMLParser):
    """Fails on a tag that is closed in the wrong place, a script, or anything that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "link"), tag
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("href", "src"):
                assert str(value).startswith(("#", "data:image/png;base64,")), value
                self.links += [str(value)[1:]] if str(value).startswith("#") else []
            self.ids += [str(value)] if name == "id" else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def check_page(folder: Path) -> str:
    text = (folder / "index.html").read_text()
    parser = Balance()
    parser.feed(text)
    parser.close()
    assert parser.open == [] and set(parser.links) <= set(parser.ids) and len(set(parser.ids)) == len(parser.ids)
    assert not re.search(r"https?:|url\(|@import|nan|inf(?!o|l)\b", re.sub(r"base64,[^\"]+", "", text)), "fetched, or no number"
    return text


def test_a_page_of_a_whole_ablation_is_well_formed_escaped_and_the_same_each_time(tmp_path: Path) -> None:
    root = write_ablation(tmp_path / "exp/ablation")
    make.main([str(root / "ablation.json"), str(tmp_path / "a")])
    text = check_page(tmp_path / "a")
    assert "about hmt &amp; &lt;others&gt;" in text and "seed 0 of old&lt;1&gt;" in text and "&lt;UNK&gt;" in text and "<UNK>" not in text
    assert "None of" not in text and "No curve.jsonl" not in text and text.count("<svg") > 10
    assert "none at 2" in text and "Fewer than two points" in text  # the sweep over depth lacks a system
    make.main([str(root / "ablation.json"), str(tmp_path / "b")])
    assert (tmp_path / "a/index.html").read_bytes() == (tmp_path / "b/index.html").read_bytes()


@pytest.mark.parametrize(("systems", "seeds", "lms", "said"), [
    (("ce",), 1, ("phone",), "No system that learns from a teacher"),
    (("hmt",), 1, ("3gram",), "None of the references"),
    (("ce", "mtl"), 3, ("phone",), "No system that learns from a teacher"),
    (("mtl", "hmt"), 1, ("phone", "3gram"), "Which phones"),
    (("ce", "hmt"), 1, ("3gram",), "words that gained most"),
])  # fmt: skip
def test_a_part_is_shown_and_what_lacks_is_said(
    systems: tuple[str, ...], seeds: int, lms: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    root = write_ablation(tmp_path / "ablation", systems, seeds, lms)
    (root / f"{systems[0]}_0/curve.jsonl").unlink()
    make.main([str(root / "ablation.json"), str(tmp_path / "report")])
    text = check_page(tmp_path / "report")
    assert said in text and "without --feats, --ali, --gmm, --lang" in text and ("No curve.jsonl" in text) == (seeds == 1)


def in_setting(content: dict[str, Any], setting: str) -> list[dict[str, Any]]:
    """Its systems, as if they had been made under a setting."""
    systems = json.loads(json.dumps(content["systems"]))
    for system in systems:
        system.update(name=f"{system['name']}-{setting}", setting=setting, references=[f"{r}-{setting}" for r in system["references"]])
        for result in system["results"]:
            result["versus"] = {f"{name}-{setting}": v for name, v in result["versus"].items()}
    return systems


def test_an_ablation_of_one_setting_is_looked_at_as_closely(tmp_path: Path) -> None:
    root = write_ablation(tmp_path / "ablation")
    content = read_json(root / "ablation.json")
    few = in_setting(content, "10min")
    write_json(root / "ablation.json", {**content, "systems": few})
    make.main([str(root / "ablation.json"), str(tmp_path / "report")])
    text = check_page(tmp_path / "report")
    assert "relative to ce-10min" in text and "hmt-10min against ce-10min" in text and "not decoded" not in text
    assert "<h3>weight, 10min</h3>" in text and "against ce-10min</h3>" in text and "<h3>depth, 10min</h3>" not in text
    plain = [s for s in content["systems"] if s["name"] in ("ce", "mtl")]
    assert choice.setting_of({**content, "systems": content["systems"] + few}) == ""
    assert choice.setting_of({**content, "systems": plain + few}) == "10min"  # nothing else learns from a teacher
    assert choice.setting_of({**content, "systems": plain}) == "" == choice.setting_of({**content, "systems": []})


def test_without_tables_and_with_half_a_picture_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KdError, match="collect the ablation first"):
        make.main([str(tmp_path / "ablation.json"), str(tmp_path / "out")])
    root = write_ablation(tmp_path / "ablation")
    with pytest.raises(UsageError, match="also needs --feats"):
        make.main(["--data", str(tmp_path), str(root / "ablation.json"), str(tmp_path / "out")])


def scored(ref: list[str], hyp: list[str]) -> Utterance:
    return Utterance(0, len(ref), " ".join(ref), " ".join(hyp))


def test_errors_by_token_add_up_to_the_errors_of_the_utterances() -> None:
    rng = np.random.default_rng(0)
    decodes = [{f"u{n}": ([*map(str, rng.integers(0, 4, 9))], [*map(str, rng.integers(0, 4, rng.integers(0, 12)))]) for n in range(20)}
               for _ in range(3)]  # fmt: skip
    decodes = [{u: (decodes[0][u][0], hyp) for u, (_, hyp) in d.items()} for d in decodes]  # the references of all seeds are the same
    found = gains.count([{u: scored(*pair) for u, pair in d.items()} for d in decodes])
    counts = [count_errors(*pair) for d in decodes for pair in d.values()]
    assert sum(found.wrong.values()) * 3 == pytest.approx(sum(c.sub + c.dele for c in counts))
    assert sum(found.inserted.values()) * 3 == pytest.approx(sum(c.ins for c in counts))
    assert sum(found.seen.values()) == 20 * 9


def test_gains_and_losses_are_means_over_seeds() -> None:
    before, after = (gains.count([{"u": scored(["a", "b", "c"], hyp.split())} for hyp in hyps]) for hyps in
                     (("a x c", "a c"), ("a b y c", "b c")))  # fmt: skip
    assert before.wrong == {"b": 1.0} and after.wrong == {"a": 0.5} and after.inserted == {"y": 0.5}
    assert [(c.token, c.gain) for c in gains.changes(before, after)] == [("b", 1.0), ("c", 0.0), ("a", -0.5)]


def test_the_best_system_learns_from_a_teacher_and_has_the_lowest_rates(tmp_path: Path) -> None:
    content = read_json(write_ablation(tmp_path / "a") / "ablation.json")
    systems = {s["name"]: s for s in content["systems"]}
    assert {n: choice.taught(s) for n, s in systems.items()} == {"ce": "", "mtl": "", "li": "main", "hmt": "heads", "w3": "heads"}
    best = choice.best(content, [systems[n] for n in ("li", "hmt", "w3")], systems["ce"], "dev")
    assert best is systems["hmt"] and choice.best(content, [systems["w3"], systems["li"]], systems["ce"], "dev") is systems["w3"]
    assert choice.relative(content, systems["hmt"], systems["ce"], "dev") == pytest.approx(((2 / 7) / (3 / 7) + (2 / 5) / (3 / 5)) / 2)
    assert choice.best(content, [systems["hmt"]], systems["ce"], "test") is None


def test_the_median_and_the_worst_utterance() -> None:
    errors = {"a": (1.0, 10), "b": (5.0, 10), "c": (3.0, 10), "d": (9.0, 10)}
    three = {"a": 10, "b": 20, "c": 300}
    assert choice.utterance("median", errors, three) == "c" and choice.utterance("worst", errors, three) == "b"
    assert choice.utterance("d", errors, {"d": 1}) == "d" and choice.utterance("median", {}, {"x": 9, "y": 2, "z": 3}) == "z"
    tied = dict.fromkeys("abcd", (0.0, 5))  # the usual length decides, then the id
    assert choice.utterance("worst", tied, {"a": 1, "b": 40, "c": 9, "d": 11}) == "d"
    with pytest.raises(UsageError, match="--utterance q: not among the 1 utterances"):
        choice.utterance("q", errors, {"a": 1})


def test_what_is_missing_is_named_by_seeds() -> None:
    assert by_seeds(["a_0", "a_1", "b_x_0", "b_x_1", "c_1"]) == "seeds 0, 1 of a, b_x; seed 1 of c"


def test_curves_are_means_at_the_updates_that_all_seeds_have() -> None:
    one, two = [{"update": 1, "x": 1.0}, {"update": 2, "x": 2.0}], [{"update": 2, "x": 4.0}, {"update": 3, "x": 9.0}]
    assert curves.averaged([one, two], "x") == [(2, 3.0)] and curves.averaged([one], "y") == [] and curves.averaged([], "x") == []


def test_points_lie_where_their_numbers_say() -> None:
    svg = charts.chart(Frame("t<", "x", "y", 200, 150), [Line("l&", [Point(0, 10), Point(5, 20), Point(10, 30)], "#000")])
    spots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert "t&lt;" in svg and "l&amp;" in svg
    assert spots[1] == pytest.approx(((spots[0][0] + spots[2][0]) / 2, (spots[0][1] + spots[2][1]) / 2)) and spots[0][1] > spots[2][1]
    assert all(0 <= x <= 200 and 0 <= y <= 150 for x, y in spots)
    assert charts.chart(Frame("", "", ""), [Line("", [], "#000")]) == ""


def test_rows_lie_below_one_another_with_their_values_across() -> None:
    points = [Point(0, -1, "a", -2, -0.5), Point(1, -0.4, "b", -1, 0.2), Point(3, 1, "c", 0.5, 2)]  # the third row has none
    lines = [Line(p.about, [p], "#000") for p in points]
    svg = charts.chart(Frame("d", "", "x", 200, 140, ["a", "b", "none", "c"], zero=True, rows=True, left=60), lines)
    spots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert [y for _, y in spots] == [26 + 18 * (n + 0.5) for n in (0, 1, 3)] and spots[0][0] < spots[1][0] < spots[2][0]
    bars = [[*map(float, m)] for m in re.findall(r'<path d="M([\d.]+) [\d.]+L([\d.]+) [\d.]+" fill="none" stroke="#000"', svg)]
    scale = (spots[2][0] - spots[0][0]) / 2  # pixels per unit of x
    assert bars == [pytest.approx([spots[0][0] + scale * (v + 1) for v in (p.low, p.high)], abs=0.2) for p in points]
    assert svg.count(">none</text>") == 1


@pytest.mark.parametrize(("low", "high"), [(0, 0), (1, 1), (-3, 7), (0.001, 0.0011), (1e-9, 5e6), (28.2, 28.9)])
def test_scales_hold_their_numbers_and_have_a_few_marks(low: float, high: float) -> None:
    for tight in (False, True):
        s = charts.scale(low, high, 0, 100, tight=tight)
        assert s(s.low) == 0 and s(s.high) == pytest.approx(100) and s.low <= low and s.high >= high and s.low < s.high
        assert 1 + (not tight) <= len(s.marks) <= 8 and all(s.low <= m <= s.high for m in s.marks)


def student(num_pdfs: int, heads: list[AuxShape]) -> Student:
    torch.manual_seed(0)
    options = {"dim": 16, "bottleneck": 6, "contexts": [1, 0, 2], "front": {"kind": "conv2d", "channels": [2, 3]}}
    return Student(Shape("tdnnf", options, DIM, num_pdfs, 12), heads).eval()


def save_student(folder: Path, model: Student, heads: list[dict[str, Any]]) -> None:
    model.save(folder)
    if heads:
        save_tensors(folder / HEADS_FILE, model.state_dict())
    (folder / "config.yaml").write_text(yaml.safe_dump({"heads": heads}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lang, Tree]:
    """Lang, tree, dev set with sound, features and alignment, teacher, ablation: all that a picture needs."""
    root = tmp_path_factory.mktemp("report")
    lang, tree, rng = write_lang(root / "lang"), make_tree(), np.random.default_rng(0)
    (root / "gmm").mkdir()
    tree.save(root / "gmm")
    alignments = write_alignments(root / "ali", ["ABBA TEA", *sentences(len(UTTERANCES) - 1)], lang, tree)
    write_set(root / "dev", [(u, a.num_frames) for u, a in zip(UTTERANCES, alignments, strict=True)], rng)
    rename(root / "ali", alignments)
    text = UnitText("phone", lang, tree)
    units = num_units("phone", lang, tree)
    learnt = TrainingText("phone", units, lambda: text.blocks(sentences(100)), Sequences.of([]))
    work = tmp_path_factory.mktemp("lmplz")
    teacher = NgramTeacher.train(learnt, {"order": 3, "prune": [0]}, seed=0, work=work)
    (root / "exp/teacher_phone").mkdir(parents=True)
    teacher.save(root / "exp/teacher_phone", {"units_digest": units_digest("phone", lang, None)})
    ablation = write_ablation(root / "exp/ablation")
    for name in ("ce", "hmt"):
        for seed in (0, 1):
            spec = [{**HEAD, "kind": "soft", "hidden": 5}] if name == "hmt" else []
            aux = [AuxShape("phone_soft_1", 1, 5, units, 2)] if spec else []
            save_student(ablation / f"{name}_{seed}", student(tree.num_pdfs, aux), spec)
    return root, lang, tree


def write_set(data: Path, utterances: list[tuple[str, int]], rng: np.random.Generator) -> None:
    import soundfile

    (data / "fbank/storage").mkdir(parents=True)
    rows, recordings, supervisions = [], [], []
    for n, (utt, frames) in enumerate(utterances):
        np.save(data / f"fbank/storage/{n}.npy", rng.normal(0, 1, (frames, DIM)).astype(np.float32))
        rows.append({"id": utt, "source_id": utt, "speaker": "s", "text": "A <B> & C", "speed": 1.0, "num_frames": frames,
                     "file": f"storage/{n}.npy"})  # fmt: skip
        soundfile.write(data / f"{n}.wav", tone(8000, frames / 100 + 0.5), 8000)
        source = {"type": "file", "channels": [0], "source": str(data / f"{n}.wav")}
        samples = round(8000 * (frames / 100 + 0.5))
        recordings.append({"id": f"r{n}", "sources": [source], "sampling_rate": 8000, "num_samples": samples, "duration": samples / 8000,
                           "channel_ids": [0]})  # fmt: skip
        supervisions.append({"id": utt, "recording_id": f"r{n}", "start": 0.25, "duration": frames / 100, "channel": 0, "text": "A",
                             "speaker": "s"})  # fmt: skip
    write_json(data / "fbank/index.json", {"kind": "fbank", "sample_rate": 8000, "dim": DIM, "speeds": [1.0], "utterances": rows})
    save_tensors(data / "fbank/cmvn.safetensors", {"s.mean": np.zeros(DIM, np.float32), "s.std": np.ones(DIM, np.float32)})
    write_jsonl(data / "recordings.jsonl.gz", recordings)
    write_jsonl(data / "supervisions.jsonl.gz", supervisions)


def rename(folder: Path, alignments: list[Any]) -> None:
    """The alignments under the ids of the ablation's utterances."""
    from kdtool.formats.alignment import save_alignments

    meta = read_json(folder / "meta.json")
    for utt, one in zip(UTTERANCES, alignments, strict=True):
        one.id = utt
    save_alignments(folder, alignments, {**meta, "num_pdfs": make_tree().num_pdfs})


def test_the_maps_are_the_models_own_numbers_frame_by_frame(made: tuple[Path, Lang, Tree]) -> None:
    root, lang, tree = made
    feats, ali, phones = FeatureSet.open(root / "dev/fbank"), AlignmentSet.open(root / "ali"), Phones(lang, tree)
    utt = UTTERANCES[0]
    one, hmt = ali.get(utt), root / "exp/ablation/hmt_0"
    main = main_map(hmt, feats.get(utt), phones, "hmt")
    senones = np.exp(Student.load(hmt).log_posteriors(feats.get(utt)))
    for n, name in enumerate(phones.names):  # brute force: the senones that the tree gives this phone anywhere
        own = np.unique(tree.pdf_map[:, lang.phones[name]])
        assert main.probs[:, n] == pytest.approx(senones[:, own[own >= 0]].sum(axis=1), abs=1e-6)
    head = head_map(hmt, feats.get(utt), phones, "hmt")
    assert head is not None and head.probs.sum(axis=1) == pytest.approx(np.ones(one.num_frames) - unused(hmt, feats, utt), abs=1e-5)
    teacher = teacher_map(root / "exp/teacher_phone", one, phones, "teacher")
    segments = unit_segments(one, "phone", lang)
    heard = np.zeros(one.num_frames, bool)
    for start, length in zip(segments.start, segments.length, strict=True):
        heard[start : start + length] = True
        assert (teacher.probs[start : start + length] == teacher.probs[start]).all()
        assert teacher.probs[start].sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(np.isnan(teacher.probs[:, 0]), ~heard) and np.array_equal(~heard, np.isin(one.phone, sorted(lang.silence_ids)))
    assert head_map(root / "exp/ablation/ce_0", feats.get(utt), phones, "ce") is None


def unused(folder: Path, feats: FeatureSet, utt: str) -> np.ndarray:
    """What the head gives to id 0, which is no phone."""
    return np.exp(load_with_heads(folder).log_posteriors(feats.get(utt), "phone_soft_1"))[:, 0]


def test_a_heads_posteriors_are_those_of_the_network_that_was_trained(made: tuple[Path, Lang, Tree]) -> None:
    root, _, tree = made
    folder = root / "exp/ablation/hmt_0"
    assert [s.name for s in head_specs(folder)] == ["phone_soft_1"] and head_specs(root / "exp/ablation/ce_0") == []
    whole = student(tree.num_pdfs, [AuxShape("phone_soft_1", 1, 5, len(PHONE_IDS), 1)])
    feats = np.random.default_rng(1).normal(0, 1, (20, DIM)).astype(np.float32)
    rows = load_with_heads(folder).log_posteriors(feats, "phone_soft_1")
    enc = whole.encoder
    for t in (0, 7, 19):  # each frame by itself, edges repeated
        window = feats[np.clip(np.arange(t - enc.left, t + enc.right + 1), 0, 19)]
        logits = whole(torch.from_numpy(window.T[None]))["phone_soft_1"][0, :, 0]
        assert rows[t] == pytest.approx(torch.log_softmax(logits, 0).detach().numpy(), abs=1e-4)


def test_what_a_head_learnt_is_its_distance_to_the_teacher_at_each_frame(made: tuple[Path, Lang, Tree]) -> None:
    root, lang, _ = made
    feats, ali, teacher = FeatureSet.open(root / "dev/fbank"), AlignmentSet.open(root / "ali"), load_teacher(root / "exp/teacher_phone")
    for offset in (0, 1):
        q, labels, answers = [], [], []
        for utt in UTTERANCES:
            segments = unit_segments(ali.get(utt), "phone", lang)
            rows, model = np.exp(teacher.log_probs(segments.ids)), load_with_heads(root / "exp/ablation/hmt_0")
            head = np.exp(model.log_posteriors(feats.get(utt), "phone_soft_1"))
            for n in range(len(segments) - offset):
                for t in range(segments.start[n], segments.start[n] + segments.length[n]):
                    q.append(rows[n + offset])
                    labels.append((utt, n + offset, segments.ids[n + offset]))
                    answers.append(head[t] if t % 6 == 0 else None)  # the encoder's one frame in three, head's one in two

        def mean_kl(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
            return float(np.mean([np.sum(a[a > 0] * np.log(a[a > 0] / b[a > 0])) for a, b in pairs]))

        own = taught(teacher, ali, lang, UTTERANCES, offset)
        entropy, one, each = own.answers()
        mean = np.mean(q, axis=0)
        ids = {u: unit_segments(ali.get(u), "phone", lang).ids for u in UTTERANCES}
        everywhere = [(u, n, ids[u][n], np.exp(r)) for u in UTTERANCES for n, r in enumerate(teacher.log_probs(ids[u]))]
        others = []
        for u, n, label in labels:
            alike = [r for v, m, c, r in everywhere if c == label and (v, m) != (u, n)]
            others.append(np.mean([*alike, mean], axis=0))
        assert entropy == pytest.approx(-np.mean([np.sum(a[a > 0] * np.log(a[a > 0])) for a in q]), abs=1e-5)
        assert one == pytest.approx(mean_kl([(a, mean) for a in q]), abs=1e-5)
        assert each == pytest.approx(mean_kl(list(zip(q, others, strict=True))), abs=1e-5)
        model = load_with_heads(root / "exp/ablation/hmt_0")
        pairs = [(a, b) for a, b in zip(q, answers, strict=True) if b is not None]
        assert pairs and head_divergence(model, "phone_soft_1", feats, own) == pytest.approx(mean_kl(pairs), abs=1e-5)


PHONE_IDS = range(10)  # of teacher_data's phones, 0 for none


def test_greys_and_the_mean_of_the_aligned_phone() -> None:
    probs = np.array([[0.0, 1.0], [0.5, 0.5], [np.nan, np.nan]], np.float32)
    assert grey(probs).shape == (2, 3) and grey(probs)[:, 0].tolist() == [255, 0] and grey(probs)[0, 2] == 225
    assert Map("m", probs).of_aligned(np.array([1, 0, 0]), np.array([True, True, True])) == pytest.approx(0.75)
    assert np.isnan(Map("m", probs).of_aligned(np.array([1, 0, 0]), np.zeros(3, bool)))


def test_the_picture_is_drawn_and_made_again_when_a_decode_changes(made: tuple[Path, Lang, Tree], tmp_path: Path, capsys: Any) -> None:
    root, _, _ = made
    argv = ["--data", str(root / "dev"), "--feats", str(root / "dev/fbank"), "--ali", str(root / "ali"), "--gmm", str(root / "gmm"),
            "--lang", str(root / "lang")]  # fmt: skip
    out = [str(root / "exp/ablation/ablation.json"), str(tmp_path / "report")]
    make.main([*argv, "--utterance", UTTERANCES[0], *out])
    text = check_page(tmp_path / "report")
    assert "Utterance a&lt;b&amp;&quot;c&#x27; of dev" in text and "A &lt;B&gt; &amp; C" in text
    assert re.search(r"<td>hmt</td><td>phone_soft_1</td><td[^>]*>\d+\.\d{3}</td>", text)
    assert text.count("data:image/png") == 1 + 4  # spectrogram, teacher, auxiliary head, two main heads
    assert all(w in LEXICON for w in re.findall(r"<title>([A-Z]{3,}) 0\.\d+ to", text) if w != "SIL")
    capsys.readouterr()
    make.main([*argv, "--utterance", UTTERANCES[0], *out])
    assert "up to date" in capsys.readouterr().out
    make.main([*argv[2:], "--utterance", "worst", *out])
    assert "its worst one" in check_page(tmp_path / "report") and "Without its sound" in (tmp_path / "report/index.html").read_text()
    table = root / "exp/ablation/hmt_0/decode_dev_phone/per_utt.tsv"
    before = table.read_text()
    try:
        table.write_text(before.replace("QQ", "ZZ"))
        capsys.readouterr()
        make.main([*argv[2:], "--utterance", "worst", *out])
        assert "decode hmt_0/decode_dev_phone" in capsys.readouterr().out
    finally:
        table.write_text(before)
    with pytest.raises(UsageError, match="--utterance none"):
        make.main([*argv, "--utterance", "none", *out])
