"""Held-out speakers: no speaker on both sides, nothing lost, drawn the same way each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtool.core.errors import KdError, UsageError
from kdtool.core.tables import open_text, read_jsonl, read_lines, write_jsonl
from kdtool.corpus import split
from kdtool.lm import text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty speakers, three utterances each; one recording per utterance."""
    data, ids = tmp_path / "all", [(f"s{s:02d}", f"s{s:02d}-{n}") for s in range(20) for n in range(3)]
    data.mkdir()
    write_jsonl(data / "recordings.jsonl.gz", ({"id": utt, "sources": []} for _, utt in ids))
    write_jsonl(data / "supervisions.jsonl.gz", (
        {"id": utt, "recording_id": utt, "speaker": s, "start": 0.0, "duration": 1.5, "text": f"WORD {'GO' * (n % 3 + 1)}"}
        for n, (s, utt) in enumerate(ids)
    ))  # fmt: skip
    with open_text(data / "audio.tsv", "w") as f:
        f.writelines(f"{utt}\tdigest\n" for _, utt in ids)
    return data


def run(data: Path, *options: str) -> tuple[list[dict], list[dict]]:
    rest, held = data.parent / "train", data.parent / "dev"
    split.main([*options, str(data), str(rest), str(held)])
    return list(read_jsonl(rest / "supervisions.jsonl.gz")), list(read_jsonl(held / "supervisions.jsonl.gz"))


def test_speakers_are_apart_and_nothing_is_lost(data: Path) -> None:
    rest, held = run(data, "--share", "0.2")
    assert len({r["speaker"] for r in held}) == 4 and len(held) == 12
    assert not {r["speaker"] for r in held} & {r["speaker"] for r in rest}
    assert sorted(r["id"] for r in rest + held) == sorted(r["id"] for r in read_jsonl(data / "supervisions.jsonl.gz"))
    for side, rows in (("train", rest), ("dev", held)):
        ids = [r["id"] for r in rows]
        assert [r["id"] for r in read_jsonl(data.parent / side / "recordings.jsonl.gz")] == ids
        assert [line.split("\t")[0] for line in read_lines(data.parent / side / "audio.tsv")] == ids


def test_the_draw_repeats_differs_by_seed_and_can_be_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, first = run(data)
    capsys.readouterr()
    assert run(data)[1] == first and capsys.readouterr().out.count("up to date") == 2
    assert {r["speaker"] for r in run(data, "--seed", "7")[1]} != {r["speaker"] for r in first}
    assert {r["speaker"] for r in run(data, "--speakers", "[s03, s11]")[1]} == {"s03", "s11"}


def test_refusals(data: Path) -> None:
    with pytest.raises(KdError, match="speaker s99 is not there"):
        run(data, "--speakers", "[s99]")
    with pytest.raises(KdError, match="leaves none"):
        run(data, "--share", "0.99")
    with pytest.raises(UsageError, match="share above 0"):
        run(data, "--share", "1")
    rows = list(read_jsonl(data / "supervisions.jsonl.gz"))
    write_jsonl(data / "supervisions.jsonl.gz", [*rows[:2], {**rows[2], "speaker": 7}])
    with pytest.raises(KdError, match=r"supervisions.jsonl.gz, line 3: speaker is int '7'; prepare the corpus again"):
        run(data)
    (data / "recordings.jsonl.gz").unlink()
    with pytest.raises(KdError, match=r"recordings.jsonl.gz is missing"):
        run(data)


def test_transcripts_of_a_data_folder_are_lm_text(data: Path, tmp_path: Path) -> None:
    text.main([str(data), str(tmp_path / "lm")])
    assert read_lines(tmp_path / "lm/text.gz")[:3] == ["WORD GO", "WORD GOGO", "WORD GOGOGO"]
    with pytest.raises(KdError, match="a folder without supervisions"):
        text.main([str(tmp_path), str(tmp_path / "lm2")])
