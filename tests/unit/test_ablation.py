"""The ablation: its plan is reproducible and independent per system, its table equals counting by hand."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from kdtool.ablation import collect, plan
from kdtool.ablation.compare import Comparison, correct, holm, smallest_found, variances
from kdtool.ablation.students import check_pooled, planned_digests, trained_digest
from kdtool.core.cli import Common, parse_args
from kdtool.core.digest import read_record
from kdtool.core.errors import KdError, UsageError
from kdtool.core.step import run_step
from kdtool.core.tables import write_json
from kdtool.decode.bootstrap import interval, paired
from kdtool.student.config import StudentConfig

ROOT = Path(__file__).resolve().parents[2]
BASE = {"encoder": "tdnnf", "epochs": 3, "lr": 0.01}
HEAD = {"unit": "phone", "layer": 2, "weight": 0.3, "kind": "hard", "stride": 2}
SPEC: dict[str, Any] = {
    "base": "student_ce.yaml", "seeds": [0, 1], "references": ["ce", "mtl"], "teachers": {"phone": "teacher_phone"},
    "graphs": ["loop", "3gram"],
    "systems": {
        "ce": {"about": "cross-entropy"},
        "mtl": {"heads": [HEAD, {**HEAD, "layer": 3, "options": {"a": 1}}]},
        "hmt": {"from": "mtl", "each_head": {"kind": "soft", "options": {"temperature": 2.0}}},
        "up": {"from": "hmt", "layers": [4, 5], "weights": [1.0, 0.5]},
        "senone": {"heads": [{**HEAD, "unit": "senone", "kind": "soft"}], "teachers": {"senone": "teacher_other"}},
    },
    "settings": {"10min": {"options": {"minutes": 10}, "systems": ["hmt"]}},
    "sweeps": {"weight": [[0, "ce"], [1, "hmt"]]},
}  # fmt: skip


def write_spec(folder: Path, spec: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "student_ce.yaml").write_text(yaml.safe_dump(BASE))
    (folder / "ablation.yaml").write_text(yaml.safe_dump(spec or SPEC, sort_keys=False))
    return folder / "ablation.yaml"


def make_plan(root: Path, *options: str, spec: dict[str, Any] | None = None) -> dict[str, bytes]:
    """Name -> content of all that the step writes."""
    out = root / "exp/ablation/conf"
    plan.main([*options, str(write_spec(root / "conf", spec)), str(root / "exp"), str(out)])
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file() and p.name[0] != "." and p.name not in ("env.json", "config.yaml")}


def options(files: dict[str, bytes], name: str) -> dict[str, Any]:
    return dict(yaml.safe_load(files[f"{name}.yaml"]))


def test_options_at_the_top_are_all_systems_own(tmp_path: Path) -> None:
    plain, files = make_plan(tmp_path / "a"), make_plan(tmp_path / "b", spec={**SPEC, "options": {"epochs": 7}})
    for name in ("ce_0", "hmt_1", "hmt-10min_0"):
        assert {**options(plain, name), "posts": ""} == {**options(files, name), "epochs": 3, "posts": ""}
        assert options(files, name)["epochs"] == 7
    assert json.loads(files["plan.json"])["systems"] == json.loads(plain["plan.json"])["systems"], "nothing that a table should tell apart"
    with pytest.raises(UsageError, match="options: 7"):
        make_plan(tmp_path / "c", spec={**SPEC, "options": 7})


def test_systems_are_the_base_with_their_changes(tmp_path: Path) -> None:
    files = make_plan(tmp_path)
    posts = f"{tmp_path}/exp/teacher_phone/post_train"
    assert options(files, "ce_1") == {**BASE, "seed": 1, "posts": posts}
    assert [(h["kind"], h["layer"]) for h in options(files, "mtl_0")["heads"]] == [("hard", 2), ("hard", 3)]
    first, second = options(files, "hmt_0")["heads"]
    assert first == {**HEAD, "kind": "soft", "options": {"temperature": 2.0}} and second["options"] == {"a": 1, "temperature": 2.0}
    assert [(h["kind"], h["layer"], h["weight"]) for h in options(files, "up_0")["heads"]] == [("soft", 4, 1.0), ("soft", 5, 0.5)]
    assert options(files, "senone_0")["posts"] == f"{posts},{tmp_path}/exp/teacher_other/post_train"
    assert options(files, "hmt-10min_1") == {**options(files, "hmt_1"), "minutes": 10}
    about = {s["name"]: s for s in json.loads(files["plan.json"])["systems"]}
    assert about["ce"]["changed"] == {} and set(about["hmt-10min"]["changed"]) == {"heads", "minutes"}
    assert about["hmt-10min"]["references"] == ["ce-10min", "mtl-10min"] and "ce-10min" in about
    StudentConfig(**{k: v for k, v in options(files, "up_1").items()})


def test_a_setting_may_put_the_heads_on_other_layers(tmp_path: Path) -> None:
    settings = {"deep": {"options": {"encoder": "conformer"}, "layers": [7, 8], "systems": ["hmt"]}}
    files = make_plan(tmp_path, spec={**SPEC, "settings": settings})
    assert [h["layer"] for h in options(files, "hmt-deep_0")["heads"]] == [7, 8]
    assert [h["layer"] for h in options(files, "hmt_0")["heads"]] == [2, 3] and "heads" not in options(files, "ce-deep_0")
    with pytest.raises(UsageError, match=r"layers .7.: one for each of the 2 heads"):
        make_plan(tmp_path / "b", spec={**SPEC, "settings": {"deep": {"layers": [7], "systems": ["hmt"]}}})


def test_a_system_is_compared_with_its_own_control_too(tmp_path: Path) -> None:
    systems = {**SPEC["systems"], "hard": {"from": "mtl", "layers": [4, 5]}, "up": {**SPEC["systems"]["up"], "control": "hard"}}
    files = make_plan(tmp_path, spec={**SPEC, "systems": systems, "settings": {"10min": {"options": {"minutes": 10}, "systems": ["up"]}}})
    references = {s["name"]: s["references"] for s in json.loads(files["plan.json"])["systems"]}
    assert references["up"] == ["ce", "mtl", "hard"] and references["hmt"] == ["ce", "mtl"]
    assert references["up-10min"] == ["ce-10min", "mtl-10min", "hard-10min"] and "hard-10min_0.yaml" in files
    systems["up"]["control"] = "none"
    with pytest.raises(UsageError, match="systems: up: control: no system none"):
        make_plan(tmp_path, spec={**SPEC, "systems": systems})


def test_a_second_teacher_of_a_unit_is_named(tmp_path: Path) -> None:
    """Its dump carries the name that the heads give; the first one is found by its unit, in files that are as they were."""
    two = {"heads": [{**HEAD, "kind": "soft"}, {**HEAD, "kind": "soft", "posts": "big"}], "teachers": {"big": "teacher_big"}}
    spec = {**SPEC, "systems": {**SPEC["systems"], "two": two}}
    files, before = make_plan(tmp_path, spec=spec), make_plan(tmp_path / "b")
    assert options(files, "two_0")["posts"] == f"big={tmp_path}/exp/teacher_big/post_train,{tmp_path}/exp/teacher_phone/post_train"
    assert files["hmt_0.yaml"].replace(str(tmp_path).encode(), b"") == before["hmt_0.yaml"].replace(f"{tmp_path}/b".encode(), b"")
    assert b"teacher_big\n" in files["teachers"]
    with pytest.raises(UsageError, match="posteriors of big; add to teachers"):
        make_plan(tmp_path / "c", spec={**SPEC, "systems": {**SPEC["systems"], "two": {**two, "teachers": {}}}})


def test_the_teachers_that_are_wanted_are_listed(tmp_path: Path) -> None:
    assert make_plan(tmp_path)["teachers"] == b"teacher_other\nteacher_phone\n"
    assert make_plan(tmp_path, "--systems", "ce,hmt")["teachers"] == b"teacher_phone\n"


def test_all_systems_of_a_seed_come_before_the_next_seed(tmp_path: Path) -> None:
    names = make_plan(tmp_path)["names"].decode().split()
    assert names[:3] == ["ce_0", "mtl_0", "hmt_0"] and names[len(names) // 2] == "ce_1" and len(names) == 2 * 8
    part = make_plan(tmp_path, "--systems", "hmt-10min,ce", "--seeds", "1,7")
    assert part["names"].decode().split() == ["hmt-10min_1", "ce_1", "hmt-10min_7", "ce_7"] and "mtl_7.yaml" in part
    for wrong in (["--systems", "none"], ["--seeds", "a"]):
        with pytest.raises(UsageError, match=wrong[0]):
            make_plan(tmp_path, *wrong)


def test_planning_is_deterministic_and_a_new_system_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    before = make_plan(tmp_path)
    assert make_plan(tmp_path) == before
    more = json.loads(json.dumps(SPEC))
    more["systems"] = {"new": {"from": "hmt", "options": {"lr": 0.5}}, **more["systems"]}
    more["seeds"] = [0, 1, 2]
    after = make_plan(tmp_path, spec=more)
    students = {n for n in before if n.endswith(".yaml")}
    assert {n for n in after if n.endswith(".yaml")} > students
    assert all(after[n] == before[n] for n in students)


@pytest.mark.parametrize(("change", "message"), [
    ({"systems": {"ce": {}}}, "no system mtl"),
    ({"seeds": ["a"]}, "whole numbers"),
    ({"seeds": [1, 1]}, "different"),
    ({"base": ""}, "base is missing"),
    ({"grphs": []}, "known are"),
    ({"systems": {**SPEC["systems"], "x": {"from": "y"}, "y": {"from": "x"}}}, "comes round to itself"),
    ({"systems": {**SPEC["systems"], "x": {"from": "nowhere"}}}, "no such system"),
    ({"systems": {**SPEC["systems"], "x-y": {}}}, "letters, digits"),
    ({"systems": {**SPEC["systems"], "x": {"layer": 3}}}, "known are about"),
    ({"systems": {**SPEC["systems"], "x": {"from": "mtl", "layers": [1]}}}, "one for each of the 2 heads"),
    ({"systems": {**SPEC["systems"], "x": {"options": {"epoch": 3}}}}, "unexpected keyword argument 'epoch'"),
    ({"systems": {**SPEC["systems"], "x": {"options": {"seed": 3}}}}, "option seed"),
    ({"systems": {**SPEC["systems"], "x": {"options": {"main": "interpolate"}}}}, "posteriors of senone"),
    ({"settings": {"10min": {"systems": ["none"]}}}, "no system none"),
    ({"sweeps": {"w": [[1, "none"]]}}, "no system none"),
    ({"sweeps": {"w": {1: "ce"}}}, "points"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as e:
        make_plan(tmp_path, spec={**SPEC, **change})
    assert "ablation.yaml" in str(e.value)


@pytest.mark.parametrize("path", sorted((ROOT / "egs").glob("*/conf/**/ablation.yaml")), ids=lambda p: "/".join(p.parts[-4:-1]))
def test_the_recipes_plans_are_valid(path: Path, tmp_path: Path) -> None:
    plan.main([str(path), str(tmp_path / "exp"), str(tmp_path / "conf")])


def brute_force(table: list[list[int]], words: list[int], resamples: int, draw: random.Random) -> list[float]:
    """The values of the resamples in plain Python, with separate draws; table: errors of each seed and utterance."""
    seeds, count = len(table), len(words)
    drawn = []
    for _ in range(resamples):
        picked = [draw.randrange(count) for _ in range(count)]
        drawn.append([100.0 * sum(row[u] for u in picked) / sum(words[u] for u in picked) for row in table])
    means = [sum(d) / seeds for d in drawn]
    if seeds == 1:
        return means
    each = [100.0 * sum(row) / sum(words) for row in table]
    between = sum((e - sum(each) / seeds) ** 2 for e in each) / (seeds - 1)
    own = [[d[s] - m for d, m in zip(drawn, means, strict=True)] for s in range(seeds)]
    luck = sum(sum(x * x for x in o) / resamples - (sum(o) / resamples) ** 2 for o in own) / (seeds - 1)
    error = (max(0.0, between - luck) / seeds) ** 0.5
    # Student's t from its definition.
    t = [draw.gauss(0, 1) / (sum(draw.gauss(0, 1) ** 2 for _ in range(seeds - 1)) / (seeds - 1)) ** 0.5 for _ in means]
    return [m + error * x for m, x in zip(means, t, strict=True)]


def made_up(seed: int = 0, utterances: int = 40) -> tuple[dict[str, np.ndarray], dict[str, list[int]], np.ndarray]:
    rng = np.random.default_rng(seed)
    words = rng.integers(5, 30, utterances)
    hard = rng.uniform(0.1, 0.5, utterances)
    seeds = {"ce": [0, 1, 2], "mtl": [0, 1, 2], "hmt": [0, 1], "one": [4]}
    errors = {n: np.stack([rng.binomial(words, hard * (0.9 if n == "hmt" else 1.0)) for _ in s]) for n, s in seeds.items()}
    return errors, seeds, words


def test_means_and_intervals_agree_with_a_brute_force() -> None:
    errors, seeds, words = made_up()
    errors["ce"][2] += 2  # a seed that is worse on all utterances
    comparison = Comparison(errors, seeds, words)
    draw = random.Random(1)
    for name, table in errors.items():
        rate = comparison.rate(name)
        each = [100 * row.sum() / words.sum() for row in table]
        assert rate.mean == pytest.approx(np.mean(each)) and rate.deviation == pytest.approx(np.std(each, ddof=1) if len(each) > 1 else 0)
        values = brute_force(table.tolist(), words.tolist(), 2000, draw)
        low, high = np.quantile(values, [0.025, 0.975])
        assert (rate.low, rate.high) == pytest.approx((low, high), abs=0.12 * (high - low))
    v = comparison.versus("mtl", "ce")  # the same seeds: the differences are as one system
    delta = np.array(brute_force((errors["mtl"] - errors["ce"]).tolist(), words.tolist(), 2000, draw))
    low, high = np.quantile(delta, [0.025, 0.975])
    assert (v.low, v.high) == pytest.approx((low, high), abs=0.12 * (high - low))
    assert v.p == pytest.approx(2 * min((delta <= 0).mean(), (delta >= 0).mean()), abs=0.04)
    for name, reference in (("hmt", "ce"), ("mtl", "ce"), ("one", "mtl")):
        v, back = comparison.versus(name, reference), comparison.versus(reference, name)
        assert (back.delta, back.low, back.high, back.p) == pytest.approx((-v.delta, -v.high, -v.low, v.p))
        assert v.delta == pytest.approx(comparison.rate(name).mean - comparison.rate(reference).mean) and v.low < v.delta < v.high
        assert v.relative == pytest.approx(100 * v.delta / comparison.rate(reference).mean)


def test_one_seed_is_the_bootstrap_over_utterances() -> None:
    errors, _, words = made_up(3)
    a, b = errors["ce"][:1], errors["mtl"][:1]
    comparison = Comparison({"a": a, "b": b}, {"a": [0], "b": [0]}, words)
    assert (comparison.rate("a").low, comparison.rate("a").high) == pytest.approx(interval(a[0], words))
    v, d = comparison.versus("a", "b"), paired(a[0], b[0], words)
    assert (v.delta, v.low, v.high) == pytest.approx((d.delta, d.low, d.high))


def test_identical_systems_do_not_differ() -> None:
    errors, _, words = made_up(1)
    v = Comparison({"a": errors["ce"], "b": errors["ce"].copy()}, {"a": [0, 1, 2], "b": [0, 1, 2]}, words).versus("a", "b")
    assert (v.delta, v.low, v.high, v.relative, v.p) == (0.0, 0.0, 0.0, 0.0, 1.0)


def test_better_on_every_utterance_has_the_smallest_p_that_can_be_told() -> None:
    errors, _, words = made_up(2)
    worse = errors["ce"] + 1
    comparison = Comparison({"a": errors["ce"], "b": worse}, {"a": [0, 1, 2], "b": [0, 1, 2]}, words, resamples=500)
    v = comparison.versus("a", "b")
    assert v.high < 0 and v.p == 1 / 500 and comparison.versus("b", "a").p == 1 / 500


@pytest.mark.parametrize(("between", "within"), [(0.05, 0.0), (0.0, 0.5), (0.02, 0.3)])
def test_no_difference_is_called_one_about_as_often_as_p_says(between: float, within: float) -> None:
    """Equal systems whose seeds differ as a whole (``between``), or from utterance to utterance (``within``)."""
    rng = np.random.default_rng(5)
    small, count = 0, 150
    words = np.full(40, 20)
    for _ in range(count):
        level = rng.beta(3, 7, 40)
        levels = {n: [(level + shift) * np.exp(rng.normal(0, within, 40)) for shift in rng.normal(0, between, 4)] for n in "ab"}
        errors = {n: np.stack([rng.binomial(words, x.clip(0, 1)) for x in levels[n]]) for n in "ab"}
        small += Comparison(errors, {"a": range(4), "b": range(4)}, words, resamples=400).versus("a", "b").p < 0.05
    assert small <= 0.12 * count, small / count


def test_only_what_utterances_do_not_explain_is_spread_between_seeds() -> None:
    rng = np.random.default_rng(0)
    words = np.full(400, 20)
    level = rng.beta(3, 7, 400)
    alike = np.stack([rng.binomial(words, level) for _ in range(3)])
    shifted = alike + np.array([[0], [1], [4]])
    for errors, extra in ((alike, False), (shifted, True)):
        comparison = Comparison({"a": errors}, {"a": [0, 1, 2]}, words)
        rate, fixed = comparison.rate("a"), interval(errors.sum(axis=0), 3 * words)
        deviation = np.array([100 * row.sum() / words.sum() for row in errors]).std(ddof=1)
        assert rate.deviation == pytest.approx(deviation)
        if extra:  # the quantile of Student's t with 2 degrees of freedom is 4.303
            assert (rate.high - rate.low) / 2 == pytest.approx(4.303 * deviation / 3**0.5, rel=0.1)
        else:
            assert (rate.low, rate.high) == pytest.approx(fixed, abs=0.3)


def test_another_system_changes_no_number_of_the_others() -> None:
    errors, seeds, words = made_up()
    few = Comparison({n: errors[n] for n in ("ce", "hmt")}, seeds, words, resamples=1000)
    assert Comparison(errors, seeds, words, resamples=1000).versus("hmt", "ce") == few.versus("hmt", "ce")


def write_decode(folder: Path, lm: str, errors: np.ndarray, words: np.ndarray, first_pass: str = "") -> None:
    folder.mkdir(parents=True)
    phones, total = lm == "loop", int(errors.sum())
    rate = 100 * total / int(words.sum())
    write_json(folder / "score.json", {
        "system": "x", "objective": "ce", "heads": [], "seed": 0, "set": "dev", "lm": lm, "first_pass_lm": first_pass or lm,
        "utterances": len(words), "failed": 1, "empty": 0, "words": int(words.sum()), "sub": total, "ins": 0, "del": 0,
        "wer": None if phones else rate, "per": rate if phones else None, "ci95": [0, 100], "scales": [],
    })  # fmt: skip
    rows = [f"u{n}\ts\t{w}\t{e}\t0\t0\tHYP\tREF\n" for n, (w, e) in enumerate(zip(words, errors, strict=True))]
    (folder / "per_utt.tsv").write_text("id\tspeaker\twords\tsub\tins\tdel\thyp\tref\n" + "".join(rows))


@pytest.fixture
def decoded(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray], np.ndarray]:
    """The plan's ce, mtl and hmt with both seeds decoded in three ways; returns the ablation's folder, errors and words."""
    make_plan(tmp_path)
    root = tmp_path / "exp/ablation"
    drawn, _, words = made_up()
    write_json(_folder(tmp_path / "exp/teacher_phone") / "ppl.json", {"unit": "phone", "dev": {"ppl": 6.5}})
    errors = {n: drawn["ce" if n == "ce" else "mtl"][:2] - (n == "hmt") * (drawn["mtl"][:2] > 0) for n in ("ce", "mtl", "hmt")}
    for name, table in errors.items():
        for seed, row in enumerate(table):
            student = root / f"{name}_{seed}"
            _, cfg, _ = parse_args(StudentConfig, [], ["--config", str(root / f"conf/{student.name}.yaml")], prog="train", description="")
            run_step("student", out=student, inputs={}, options=cfg, code=(), common=Common(),
                     body=lambda work: write_json(work / "student.json", {"updates": 5}))  # fmt: skip
            write_decode(student / "decode_dev_loop", "loop", row, words)
            write_decode(student / "decode_dev_3gram", "3gram", row + 1, words)
            write_decode(student / "decode_dev_3gram/rescored", "4gram", row, words, "3gram")
    return root, errors, words


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(("planned", "fits"), [("auto", {"auto", "float32", "bfloat16"}), ("float32", {"float32"})])
def test_a_plan_of_precision_auto_takes_students_of_either(tmp_path: Path, planned: str, fits: set[str]) -> None:
    """A student's config says what it was trained in, the plan what was asked for; options that a config does not know do not count."""
    plan_file, trained = tmp_path / "plan.yaml", tmp_path / "config.yaml"
    plan_file.write_text(yaml.safe_dump({"precision": planned, "epochs": 3.0}))
    for precision in ("auto", "float32", "bfloat16"):
        trained.write_text(yaml.safe_dump({"precision": precision, "epochs": 3.0, "gone": 1}))
        assert (trained_digest(trained) in planned_digests(plan_file)) == (precision in fits)
    trained.write_text(yaml.safe_dump({"precision": "float32", "epochs": 4.0}))
    assert trained_digest(trained) not in planned_digests(plan_file)


def test_the_table_is_that_of_the_score_files(decoded: tuple[Path, dict[str, np.ndarray], np.ndarray], tmp_path: Path) -> None:
    root, errors, words = decoded
    out = tmp_path / "ABLATION.md"
    argv = [str(root), str(out)]
    collect.main(["--command", "run.sh", *argv])
    content, text = json.loads((root / "ablation.json").read_text()), out.read_text()
    systems = {s["name"]: s for s in content["systems"]}
    assert list(systems) == ["ce", "mtl", "hmt"] and "hmt-10min_0" in content["missing"] and content["stale"] == []
    for name, table in errors.items():
        places = {(r["lm"], r["first_pass_lm"]): r for r in systems[name]["results"]}
        assert set(places) == {("loop", "loop"), ("3gram", "3gram"), ("4gram", "3gram")}
        for lm, added in ((("loop", "loop"), 0), (("3gram", "3gram"), 1)):
            r = places[lm]
            assert r["mean"] == pytest.approx(100 * (table + added).sum() / (2 * words.sum()), abs=6e-4) and r["words"] == words.sum()
            assert r["sub"] == (table + added).sum() / 2 and r["failed"] == 1 and len(r["runs"]) == 2
        assert places["loop", "loop"]["rate"] == "per" and places["3gram", "3gram"]["rate"] == "wer"
    versus = systems["hmt"]["results"][0]["versus"]
    assert set(versus) == {"ce", "mtl"} and versus["mtl"]["delta"] < 0 and versus["mtl"]["p"] < 0.05
    assert systems["ce"]["results"][0]["versus"].keys() == {"mtl"}
    pairs = {frozenset((n, ref)): v for n in systems for ref, v in systems[n]["results"][0]["versus"].items()}
    assert len(pairs) == 3 and all(v["p"] <= v["holm"] <= min(1.0, 3 * v["p"]) + 1e-9 for v in pairs.values())
    assert all(r["within"] > 0 and r["between"] >= 0 for s in systems.values() for r in s["results"])
    assert {(d["lm"], d["setting"]) for d in content["detectable"]} == {("loop", ""), ("3gram", ""), ("4gram", "")}
    assert text.count("Smallest difference that is found") == 3 and "(Holm " in text and "within / between" in text
    student = systems["hmt"]["students"][1]
    assert {k: student[k] for k in ("seed", "folder", "about")} == {"seed": 1, "folder": "hmt_1", "about": {"updates": 5}}
    assert student["seconds"] == (read_record(root / "hmt_1") or {})["seconds"] and student["git"]
    assert student["options"] != systems["ce"]["students"][1]["options"]
    assert content["teachers"]["teacher_phone"] == {"folder": "../teacher_phone", "ppl": {"unit": "phone", "dev": {"ppl": 6.5}}}
    assert text.index("| PER loop") < text.index("WER 3gram") and "### WER, 4gram after 3gram" in text and "Not made yet" in text
    before = (root / "ablation.json").read_bytes(), out.read_bytes()
    collect.main(["--command", "run.sh", *argv])
    assert before == ((root / "ablation.json").read_bytes(), out.read_bytes())
    collect.main(["--check", "true", *argv])
    (tmp_path / "published.json").write_bytes(before[0])  # as in a recipe's results folder, without the decodes
    collect.main(["--check", "true", "--results", str(tmp_path / "published.json"), str(tmp_path), str(out)])
    out.write_text(text.replace("4gram", "5gram", 1))
    with pytest.raises(KdError, match="does not match"):
        collect.main(["--check", "true", *argv])


def test_students_that_are_gone_are_taken_over_from_an_earlier_table(
    decoded: tuple[Path, dict[str, np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    root, _, words = decoded
    whole = collect.collect(root)
    old = tmp_path / "old.json"
    write_json(old, whole)
    for gone in ("ce_0", "ce_1", "hmt_0"):
        shutil.rmtree(root / gone)
    argv = ["--earlier", str(old), "--results", str(tmp_path / "new.json"), str(root), str(tmp_path / "NEW.md")]
    collect.main(argv)
    new = json.loads((tmp_path / "new.json").read_text())
    assert new.pop("earlier") == ["ce_0", "ce_1", "hmt_0"] and "Taken over" in (tmp_path / "NEW.md").read_text()
    assert new == json.loads(json.dumps({k: v for k, v in whole.items() if k != "earlier"})), "the same numbers as when all were there"
    with pytest.raises(UsageError, match="goes with --results"):
        collect.main(["--earlier", str(old), str(root), str(tmp_path / "NEW.md")])
    write_json(old, {k: v for k, v in whole.items() if k != "scored"})
    with pytest.raises(KdError, match="no errors of single utterances"):
        collect.collect(root, old)
    other = json.loads(json.dumps(whole))
    other["scored"]["dev per"]["words"] = " ".join(str(n + 1) for n in words)
    write_json(old, other)
    with pytest.raises(KdError, match="score other utterances or references"):
        collect.collect(root, old)
    for student in other["systems"][0]["students"]:
        student["options"] = "0" * 32  # trained with what is not planned now
    other["scored"] = whole["scored"]
    write_json(old, other)
    assert collect.collect(root, old)["earlier"] == ["hmt_0"]


def test_a_student_of_an_older_plan_is_left_out_and_named(
    decoded: tuple[Path, dict[str, np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    root, _, _ = decoded
    (root / "hmt_1").rename(root / "hmt_7")  # a seed that the plan does not have
    assert [s["seed"] for s in collect.collect(root)["systems"][2]["students"]] == [0, 7]
    other = json.loads(json.dumps(SPEC))
    other["systems"]["hmt"]["options"] = {"lr": 0.5}
    make_plan(tmp_path, "--seeds", "0", spec=other)
    content = collect.collect(root)
    assert content["stale"] == ["hmt_0", "hmt_7"] and [s["name"] for s in content["systems"]] == ["ce", "mtl"]


def test_other_references_and_nothing_decoded_are_errors(
    decoded: tuple[Path, dict[str, np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    root, _, words = decoded
    table = root / "mtl_1/decode_dev_loop/per_utt.tsv"
    table.write_text(table.read_text().replace(f"u0\ts\t{words[0]}\t", f"u0\ts\t{words[0] + 1}\t"))
    with pytest.raises(KdError, match="mtl_1/decode_dev_loop and ce_0/decode_dev_loop"):
        collect.collect(root)
    make_plan(tmp_path / "empty")
    with pytest.raises(KdError, match="decoded"):
        collect.collect(tmp_path / "empty/exp/ablation")
    with pytest.raises(KdError, match="plan the ablation"):
        collect.collect(tmp_path)


def test_holm_agrees_with_its_definition() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0} and holm({}) == {}
    draw = random.Random(0)
    for _ in range(20):  # the same as rejecting one after the other, at any level
        p = {n: draw.random() ** 3 for n in range(7)}
        level, rejected = draw.random(), set()
        for rank, n in enumerate(sorted(p, key=lambda n: p[n])):
            if p[n] * (len(p) - rank) > level:
                break
            rejected.add(n)
        assert {n for n, q in holm(p).items() if q <= level} == rejected


def test_a_pair_that_is_compared_in_both_directions_is_corrected_once() -> None:
    table = {"a": {"b": {"p": 0.01}, "c": {"p": 0.04}}, "b": {"a": {"p": 0.01}}, "c": {}}
    assert {frozenset(pair) for pair in correct(table)} == {frozenset("ab"), frozenset("ac")}
    assert (table["a"]["b"]["holm"], table["b"]["a"]["holm"], table["a"]["c"]["holm"]) == (0.02, 0.02, 0.04)


def test_variances_of_utterances_and_of_seeds_are_separated() -> None:
    """Known spread: utterances of about 4 points a seed, seeds of 3 points beyond."""
    rng, words = np.random.default_rng(3), np.full(50, 30)
    found = []
    for _ in range(60):
        rate = 0.3 + rng.normal(0, 0.03, 8)[:, None]
        errors = rng.binomial(30, np.clip(rate + rng.normal(0, 0.27, (8, 50)), 0.0, 1.0))
        comparison = Comparison({"a": errors}, {"a": range(8)}, words, resamples=300)
        found.append(variances(comparison.drawn["a"], comparison.each["a"]))
    within, luck, between = np.mean(found, axis=0)
    assert within == pytest.approx(luck, rel=0.1)  # seeds share nothing here
    assert within**0.5 == pytest.approx(3.6, abs=0.4) and between**0.5 == pytest.approx(2.8, abs=0.5)


@pytest.mark.parametrize(("seeds", "between"), [(1, 0.0), (3, 0.0), (3, 0.02)])
def test_the_smallest_difference_is_found_in_four_trials_of_five(seeds: int, between: float) -> None:
    rng = np.random.default_rng([seeds, round(100 * between)])

    def trial(delta: float) -> Comparison:
        words, hard = rng.integers(20, 40, 60), np.clip(rng.beta(3, 7, 60), 0.1, 0.8)
        rates = {n: np.clip(hard + shift + rng.normal(0, between, (seeds, 1)), 0.005, 0.995) for n, shift in (("a", 0.0), ("b", delta))}
        return Comparison({n: rng.binomial(words, r) for n, r in rates.items()}, dict.fromkeys(rates, range(seeds)), words, resamples=400)

    equal = []
    for _ in range(40):  # the variances of one trial say little, as in the docstring: of forty
        c = trial(0.0)
        drawn, each = c.drawn["a"] - c.drawn["b"], c.each["a"] - c.each["b"]
        equal.append((drawn.mean(axis=1).var(), *variances(drawn, each)[1:]))
    points = smallest_found(*np.mean(equal, axis=0), seeds)
    found = np.mean([trial(points / 100).versus("b", "a").p < 0.05 for _ in range(250)])
    assert 0.72 <= found <= 0.88  # 0.8 +- three standard errors


def test_with_one_seed_it_is_the_textbook_formula() -> None:
    assert smallest_found(4.0, 0.0, 0.0, 1) == pytest.approx((1.96 + 0.8416) * 2.0, rel=0.01)
    few, many = (smallest_found(1.0, 1.0, 4.0, seeds) for seeds in (3, 30))
    assert many == pytest.approx((2.045 + 0.8416) * (1.0 + 4.0 / 30) ** 0.5, rel=0.03) and few > 2 * many
    comparison = Comparison(*made_up(), resamples=200)
    assert comparison.detectable([("ce", "hmt"), ("one", "mtl")]) is None  # no pair has the same seeds
    assert comparison.detectable([("ce", "hmt"), ("ce", "mtl")]) == comparison.detectable([("mtl", "ce")])


def test_pooled_scales_are_one_point_for_all_or_an_error(tmp_path: Path) -> None:
    for wrong in ("both", "[own]"):
        with pytest.raises(UsageError, match="known are own, pooled"):
            make_plan(tmp_path / f"wrong{len(wrong)}", spec={**SPEC, "scales": wrong})
    own, pooled = (make_plan(tmp_path / scales, spec={**SPEC, "scales": scales}) for scales in ("own", "pooled"))
    none = make_plan(tmp_path / "none")
    assert own["plan.json"] == none["plan.json"] and own.keys() == none.keys() == pooled.keys() - {"pooled"}
    assert "hmt_1" in pooled["pooled"].decode().splitlines() and json.loads(pooled["plan.json"])["scales"] == "pooled"
    run = {"decode": "a", "scales": [{"lm_scale": 3.0}]}
    place = {"set": "dev", "lm": "loop", "first_pass_lm": "loop"}
    check_pooled({"ce": [{**place, "runs": [run]}], "mtl": [{**place, "lm": "3gram", "runs": [{**run, "scales": []}]}]})
    with pytest.raises(KdError, match="b was decoded at other pooled scales than a"):
        other = {"decode": "b", "scales": [{"lm_scale": 4.0}]}
        check_pooled({"ce": [{**place, "runs": [run]}], "mtl": [{**place, "runs": [other]}]})
