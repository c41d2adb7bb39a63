"""Bad input that the validators name: one case for each class of problem, with the folder otherwise sound."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from bad_input_changes import Case, Change, json_of, lines, put, remove, rows, tensors
from bad_input_data import spoil, write_audio

DATA = "data/train_clean_5"
SUP, REC = f"{DATA}/supervisions.jsonl.gz", f"{DATA}/recordings.jsonl.gz"
UTT = "11-7-0001"
AUDIO = f"corpus/train-clean-5/11/7/{UTT}.flac"


def field(name: str, key: str, value: Any, row: int = 1) -> Change:
    """A change: one field of one row."""
    return rows(name, lambda content: content[row].update({key: value}))


def source(**more: Any) -> Change:
    return rows(REC, lambda content: content[1]["sources"][0].update(more))


def index(edit: Any) -> Change:
    """A change of the feature folder's table."""
    return json_of("feats/index.json", lambda content: edit(content["utterances"]))


def other_audio(world: Path) -> None:
    write_audio(world / "a-longer-name-is-another-noise.flac")
    shutil.move(world / "a-longer-name-is-another-noise.flac", world / AUDIO)


DATA_CASES = [
    (
        "utterance twice",
        rows(SUP, lambda r: r.append(r[1])),
        [f"duplicate-id: 1 x an id that occurs more than once: {UTT} (2 times, expected once)"],
    ),
    ("id with a slash", field(SUP, "id", "a/b"), ["bad-id: 1 x", "'a/b'", "holds a slash"]),
    ("id that leads upwards", field(SUP, "id", ".."), ["bad-id: 1 x", "'..' begins with '.'"]),
    ("id that looks like an option", field(SUP, "id", "-rf"), ["bad-id: 1 x", "'-rf' begins with '-'"]),
    ("id with a tab", field(SUP, "id", "a\tb"), ["bad-id: 1 x", "blank or a control character"]),
    ("speaker with a line end", field(SUP, "speaker", "a\nb"), ["bad-id: 1 x", "speaker of 11-7-0001"]),
    (
        "utterance without its recording",
        field(SUP, "recording_id", "none"),
        ["no-recording: 1 x", f"{UTT} (recording none)", "utils/fix_data.sh"],
    ),
    (
        "utterance beyond its recording",
        field(SUP, "duration", 9.0),
        ["outside-recording: 1 x", f"{UTT} (0.000 to 9.000 s, expected within 0 to 1.000 s)"],
    ),
    ("duration that is no number", field(SUP, "duration", "long"), ["broken-manifest: 1 x", "line 2 (duration is str 'long')"]),
    ("duration that is NaN", field(SUP, "duration", float("nan")), ["broken-manifest: 1 x", "duration is nan"]),
    ("manifest without a field", rows(SUP, lambda r: r[1].pop("recording_id")), ["broken-manifest: 1 x", "no recording_id"]),
    (
        "manifest that is no manifest",
        rows(SUP, lambda r: r.insert(0, ["list"])),
        ["broken-manifest: 1 x", "line 1 (list instead of an object)"],
    ),
    ("cut manifest", lambda w: spoil(w / SUP, "cut"), ["broken-manifest: 1 x", "broken gzip file"]),
    ("flipped bit in a manifest", lambda w: spoil(w / SUP, "flipped"), ["broken-manifest: 1 x", "supervisions.jsonl.gz"]),
    ("missing manifest", remove(REC), ["broken-manifest: 1 x", "recordings.jsonl.gz: no such file", "no-recording: 4 x"]),
    ("no utterance", rows(SUP, lambda r: r.clear()), ["no-utterances: 1 x", "prepare the corpus again"]),
    ("empty transcript", field(SUP, "text", " "), [f"empty-transcript: 1 x an utterance without words: {UTT}"]),
    ("reserved word in a transcript", field(SUP, "text", "A <eps>"), ["transcript: 1 x", "the word <eps> is reserved"]),
    ("decomposed letter in a transcript", field(SUP, "text", "CAFE\u0301"), ["transcript: 1 x", "is not in composed form (NFC)"]),
    ("soft hyphen in a transcript", field(SUP, "text", "A\u00adB"), ["transcript: 1 x", "holds the character '\\xad'"]),
    ("markup in a transcript", field(SUP, "text", "<B>A</B>"), ["transcript: 1 x", "holds markup (<B>)"]),
    ("control character in a transcript", field(SUP, "text", "A\x1b[31mB"), ["transcript: 1 x", "holds the character '\\x1b'"]),
    ("recording of another length", field(REC, "duration", 0.5), ["recording-length: 1 x", "0.5 s, expected 16000 samples at 16000 Hz"]),
    ("audio gone", remove(AUDIO), ["audio-missing: 1 x", f"{UTT} (No such file or directory)"]),
    ("audio empty", put(AUDIO, ""), ["audio-missing: 1 x", f"{UTT} (0 bytes)"]),
    (
        "audio of another rate",
        lambda w: write_audio(w / AUDIO, rate=8000),
        ["audio-differs: 1 x", "8000 samples at 8000 Hz, expected 16000 at 16000 Hz"],
    ),
    ("audio cut", lambda w: (w / AUDIO).write_bytes((w / AUDIO).read_bytes()[:9000]), ["audio-broken: 1 x", UTT]),
    ("other audio of the same length", other_audio, ["audio-changed: 1 x", UTT]),
    (
        "feature folder with problems",
        lambda w: (shutil.copytree(w / "feats", w / DATA / "mfcc"), spoil(w / DATA / "mfcc/cmvn.safetensors", "cut")),
        ["features: 1 x", "mfcc (1 x unreadable)", "utils/validate_features.sh"],
    ),
]

FEATURE_CASES = [
    ("no features", remove("feats/index.json"), ["unreadable: 1 x", "index.json is missing"]),
    ("utterance twice", index(lambda u: u.append(u[0])), ["duplicate-id: 1 x", "s0-000 (2 times, expected once)"]),
    ("file outside of the folder", index(lambda u: u[1].update(file="../../etc/passwd")), ["outside-folder: 1 x", "s1-001"]),
    ("file gone", remove("feats/storage/s1-001.npy"), ["missing-file: 1 x", "s1-001 (No such file or directory)"]),
    ("file cut", lambda w: spoil(w / "feats/storage/s1-001.npy", "cut"), ["missing-file: 1 x", "bytes, expected"]),
    (
        "other length than the audio",
        rows("feats/cuts.jsonl.gz", lambda r: r[1].update(duration=9.0)),
        ["frames: 1 x", "expected 9.000 s of audio"],
    ),
    ("speaker without statistics", tensors("feats/cmvn.safetensors", lambda t: t.pop("s1.std")), ["speaker-statistics: 1 x", "s1 (none)"]),
    (
        "deviation of 0",
        tensors("feats/cmvn.safetensors", lambda t: t["s1.std"].fill(0)),
        ["speaker-statistics: 1 x", "expected finite, above 0"],
    ),
    (
        "NaN",
        lambda w: np.save(w / "feats/storage/s1-001.npy", np.load(w / "feats/storage/s1-001.npy") * np.nan),
        ["array: 1 x", "s1-001", "values are not finite"],
    ),
    (
        "pickle in place of an array",
        lambda w: np.save(w / "feats/storage/s1-001.npy", np.array([{}] * 500), allow_pickle=True),
        ["s1-001", "array: 1 x", "allow_pickle=False"],
    ),
]

LANG_CASES = [
    (
        "phone that is not in phones.txt",
        lines("t_lang/lexicon.txt", lambda t: t.append("BAT B XX")),
        ["unreadable: 1 x", "pronunciation: 1 x", "line 15 (BAT B XX)"],
    ),
    ("word without phones", lines("t_lang/lexicon.txt", lambda t: t.append("BAT")), ["pronunciation: 1 x", "line 15 (BAT)"]),
    (
        "word that is not in words.txt",
        lines("t_lang/lexicon.txt", lambda t: t.append("NEW B")),
        ["unknown-word: 1 x", "NEW", "prepare the lang again"],
    ),
    ("gap in the phone ids", lines("t_lang/phones.txt", lambda t: t.pop(3)), ["unreadable: 1 x", "without gaps"]),
    ("gap in the word ids", lines("t_lang/words.txt", lambda t: t.append("ZZ 99")), ["word-ids: ", "15 ("]),
    ("symbol twice", lines("t_lang/words.txt", lambda t: t.append(t[1])), ["unreadable: 1 x", "comes twice"]),
    ("no unknown word", lines("t_lang/oov.txt", lambda t: t.clear()), ["unreadable: 1 x", "has no pronunciation"]),
    ("no back-off symbol", lines("t_lang/words.txt", lambda t: t.remove("#0 12")), ["reserved: 1 x", "#0"]),
    (
        "phone without states",
        lines("t_lang/topo.txt", lambda t: t.pop()),
        ["unreadable: 1 x", "ZH is in one of topo.txt and phones.txt only"],
    ),
    (
        "probability above 1",
        put("t_lang/silprob.txt", "<s> 2\n</s>_s 1\n</s>_n 1\noverall 0.5\n"),
        ["probabilities: 1 x", "lexiconp_silprob.txt"],
    ),
    ("too many states", lines("t_lang/topo.txt", lambda t: t.__setitem__(3, "B 99")), ["topology: 1 x", "B (99, expected 1 to 20)"]),
    ("damaged sentencepiece model", lambda w: spoil(w / "t_lang/bpe.model", "cut"), ["subwords: ", "prepare the lang again"]),
    (
        "subwords of another model",
        lines("t_lang/subwords.txt", lambda t: t.__setitem__(3, "XX 3")),
        ["subwords: 2 x", "XX (3, expected none"],
    ),
]


def ali(name: str, frame: int, value: int) -> Change:
    """A change of one frame of the alignment."""
    return tensors("gmm/ali/ali.safetensors", lambda t: t[name].__setitem__(frame, value))


def nan_transform(world: Path) -> None:
    from kdtool.core.tensors import save_tensors

    save_tensors(world / "gmm/ali/transforms.safetensors", {"s1": np.full((2, 3), np.nan)})


ALI_CASES = [
    ("transform that is NaN", nan_transform, ["transform: 1 x", "s1 (6 of 6 values, expected finite)"]),
    ("senone outside of the tree", ali("pdf", 0, 999), ["senone: 1 x", "expected 0 to 17"]),
    ("state that is left out", ali("state", 0, 2), ["states: 1 x", "frame 0"]),
    ("senone of another phone", ali("pdf", 0, 5), ["tree: 1 x", "senone 5 at frame 0; 1 frames, expected 0"]),
    ("phone that its segment is not", ali("phone", 1, 3), ["phones: 1 x", "a frame's phone differs from its segment's"]),
    ("phones that do not rise", ali("phone_start", 1, 0), ["phones: 1 x", "phone starts must rise"]),
    ("words that overlap", lambda w: ali_index(w, lambda r: r[0]["words"].insert(0, ["X", 0, 900])), ["words: 1 x", "word X at 0+900"]),
    ("utterance of another length", index(lambda u: u[0].update(num_frames=3)), ["length: 1 x", "s0-000", "expected 3 in"]),
    ("utterance that got lost", lambda w: ali_index(w, lambda r: r[1].update(id="other")), ["unaccounted: 1 x", "s1-001 (no alignment"]),
    (
        "another tree",
        json_of("gmm/ali/meta.json", lambda m: m.update(tree_digest="0" * 64)),
        ["tree: 1 x", "meta.json (0000000000000000, expected"],
    ),
    (
        "another phone table",
        json_of("gmm/ali/meta.json", lambda m: m.update(phones_digest="0")),
        ["lang: 1 x", "other phones or HMM topology"],
    ),
    (
        "index of another alignment",
        lambda w: (w / "gmm/ali/index.jsonl").write_text((w / "gmm/ali/index.jsonl").read_text().replace("BAS", "BAX")),
        ["unreadable: 1 x", "digest is"],
    ),
    (
        "word that is said otherwise",
        lines("lang/lexicon.txt", lambda t: t.__setitem__(1, "ABBA K K")),
        ["pronunciation: ", "ABBA (AA B AA"],
    ),
]


def ali_index(world: Path, edit: Any) -> None:
    """Change the alignment's index, and the digest of it that the arrays carry."""
    from kdtool.core.tensors import file_digest, load_tensors, save_tensors

    rows("gmm/ali/index.jsonl", edit)(world)
    arrays = load_tensors(world / "gmm/ali/ali.safetensors")
    save_tensors(world / "gmm/ali/ali.safetensors", arrays, {"index": file_digest(world / "gmm/ali/index.jsonl")})


CASES = [
    *(Case("data folder", name, "validate data", change, words) for name, change, words in DATA_CASES),
    *(Case("features", name, "validate features", change, words) for name, change, words in FEATURE_CASES),
    *(Case("language", name, "validate lang", change, words) for name, change, words in LANG_CASES),
    *(Case("alignment", name, "validate ali", change, words) for name, change, words in ALI_CASES),
]
