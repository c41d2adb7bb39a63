"""Bad input of the recipe's steps: corpus, text, lexicon, damaged files, wrong options.  Out: CASES, and the tables behind them."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

from bad_input_changes import Case, put
from bad_input_data import spoil, write_audio

UTT = "11-7-0001"
CHAPTER = "corpus/train-clean-5/11/7"
AUDIO, TEXT = f"{CHAPTER}/{UTT}.flac", f"{CHAPTER}/11-7.trans.txt"


def cut_audio(world: Path) -> None:
    (world / AUDIO).write_bytes((world / AUDIO).read_bytes()[:9000])


def second_place(world: Path, folder: str) -> None:
    (world / folder).mkdir(parents=True)
    shutil.copy(world / AUDIO, world / folder)


CORPUS = [
    ("missing folder", lambda w: shutil.rmtree(w / "corpus"), ["corpus: no such folder", "give the folder"]),
    ("missing part", lambda w: shutil.rmtree(w / "corpus/dev-clean-2"), ["no folder dev-clean-2", "--dev-part"]),
    ("truncated audio", cut_audio, [f"{UTT}: ", AUDIO, "fetch it again"]),
    ("empty audio", put(AUDIO, ""), [f"{UTT}: ", AUDIO, "empty (0 bytes)", "fetch it again"]),
    ("no audio at all", put(AUDIO, "text"), [f"{UTT}: ", AUDIO, "cannot be decoded"]),
    ("transcript for missing audio", lambda w: (w / AUDIO).unlink(), [UTT, f"{TEXT}, line 2", "fetch the audio or remove the line"]),
    ("audio without transcript", put(TEXT, "11-7-0000 HELLO\n"), [UTT, AUDIO, "add its transcript or remove the audio"]),
    ("empty transcript", put(TEXT, f"11-7-0000 HELLO\n{UTT} \n"), [f"{UTT}: ", "transcript is empty", "add the words"]),
    ("transcript twice", put(TEXT, f"11-7-0000 A\n{UTT} B\n{UTT} C\n"), [f"{TEXT}, line 3", UTT, "remove one"]),
    ("audio twice", lambda w: second_place(w, "corpus/train-clean-5/11/8"), [UTT, "two audio files", "remove one"]),
    ("8 kHz", lambda w: write_audio(w / AUDIO, rate=8000), [UTT, AUDIO, "8000 Hz and 1 channel", "convert it"]),
    ("stereo", lambda w: write_audio(w / AUDIO, channels=2), [UTT, AUDIO, "16000 Hz and 2 channels", "convert it"]),
    ("too long a transcript", put(TEXT, f"11-7-0000 A\n{UTT} {'WORD ' * 12}\n"), [f"{UTT}: 59 characters", "1.00 s", AUDIO]),
    ("not UTF-8", put(TEXT, b"11-7-0000 A\n11-7-0001 caf\xe9\n"), [f"{TEXT}, line 2", "iconv"]),
]

def transcripts(data: str, content: bytes) -> Callable[[Path], object]:
    """A data folder of another program's, whose supervisions are these lines."""

    def change(world: Path) -> None:
        put(f"data/{data}/supervisions.jsonl.gz", gzip.compress(content))(world)
        (world / f"data/{data}/.done.json").unlink()

    return change


LONG = "\n".join(f"{w} {p}" for w, p in zip(["ONE", "TWO"], ["W AH N", "T UW"], strict=True))
LANGUAGE = [
    ("missing LM text", "lm text", lambda w: (w / "lm.txt").unlink(), [], ["lm.txt: missing; check the path"]),
    ("empty LM text", "lm text", put("lm.txt", ""), [], ["lm.txt: no sentence is left of 0 lines", "name a text"]),
    ("LM text without words", "lm text", put("lm.txt", "12\n\n"), [], ["lm.txt: no sentence is left of 2 lines"]),
    ("LM text of another encoding", "lm text", put("lm.txt", b"A\xff"), [],
     ["lm.txt, line 1: not UTF-8 (byte 0xff at position 1)", "iconv"]),
    ("LM text in UTF-16", "lm text", put("lm.txt", "HELLO\n".encode("utf-16")), [],
     ["lm.txt: not UTF-8 but UTF-16", "iconv -f UTF-16 -t UTF-8"]),
    ("LM text in UTF-16 without its mark", "lm text", put("lm.txt", "HELLO\n".encode("utf-16-le")), [],
     ["lm.txt, line 1: holds NUL bytes: UTF-16LE"]),
    ("LM text that is subtitles", "lm text", put("lm.txt", "1\n00:00:01,000 --> 00:00:02,000\nHELLO\n"), [],
     ["lm.txt: a subtitle file (SRT), not plain text", "give the words alone"]),
    ("LM text that is labels", "lm text", put("lm.txt", "0 3600000 sil\n3600000 5300000 hello\n"), [], ["lm.txt: an HTK label file"]),
    ("LM text of markup", "lm text", put("lm.txt", "<b>A</b>\nR &amp; B\n"), [],
     ["dropped for markup, the first is", "lm.txt, line 1 (<b>)", "no sentence is left of 2 lines"]),
    ("LM text of marks alone", "lm text", put("lm.txt", "<s> <unk> [LAUGHTER] </s>\n"), [],
     ["2 x sentence mark", "1 x unknown word", "1 x tag of a noise", "no sentence is left of 1 lines"]),
    ("empty LM text, language", "lang", put("lm_text/text.gz", gzip.compress(b"")), [], ["lm_text: changed", "run its stage again"]),
    ("empty LM text, n-grams", "ngram", put("lm_text/text.gz", gzip.compress(b"")), [], ["lm_text: changed", "run its stage again"]),
    ("cut LM text", "lang", lambda w: spoil(w / "lm_text/text.gz", "cut"), [], ["lm_text: changed since it was made (text.gz has"]),
    ("missing lexicon", "lang", lambda w: (w / "lexicon.txt").unlink(), [], ["lexicon.txt: missing; check the path"]),
    ("empty lexicon", "lang", put("lexicon.txt", ""), [], ["lexicon.txt: no pronunciations in it"]),
    ("malformed lexicon", "lang", put("lexicon.txt", "HELLO\n"), [], ["lexicon.txt, line 1: 'HELLO'", "fix or remove"]),
    ("lexicon with and without numbers", "lang", put("lexicon.txt", "HELLO 0.5 HH AH\nWORLD W ER\n"), [],
     ["lexicon.txt: line 1 has 1 numeric column", "line 2 has 0", "give all lines the same"]),
    ("lexicon whose phone is a number", "lang", put("lexicon.txt", "HELLO HH 9 L\n"), [],
     ["lexicon.txt, line 1: 'HELLO HH 9 L': the phone 9 is a number", "rename it"]),
    ("lexicon with numbers alone", "lang", put("lexicon.txt", "HELLO 0.5 1\n"), [],
     ["lexicon.txt, line 1: 'HELLO 0.5 1': numbers, but no phones"]),
    ("lexicon with three numeric columns", "lang", put("lexicon.txt", "HELLO 1 1 1 HH\n"), [],
     ["lexicon.txt, line 1: 'HELLO 1 1 1 HH': 3 numeric columns", "known are 1"]),
    ("lexicon of IPA phones", "lang", put("lexicon.txt", "HELLO\t0.9\t0.1\t1.0\t1.0\th \u0259 l\n"), [],
     ["1 of 1 lines hold phones outside ARPAbet", "--phone-set any"]),
    ("lexicon in UTF-16", "lang", put("lexicon.txt", "HELLO HH\n".encode("utf-16")), [], ["lexicon.txt: not UTF-8 but UTF-16", "iconv"]),
    ("words outside the lexicon", "lang", put("lexicon.txt", "WORLD W ER L D\n"), ["--g2p", "false"],
     ["50.0% of the words in the training transcripts", "training word HELLO is <UNK>", "add them to the lexicon"]),
    ("another language's lexicon", "lang", put("lexicon.txt", LONG), ["--g2p", "false"], ["no word of the vocabulary", "lexicon.txt"]),
    ("too small a lexicon for G2P", "lang", put("lexicon.txt", "HELLO HH AH L OW\n"), [],
     ["G2P could not learn from the lexicon's 1 words", "larger lexicon", "--g2p false"]),
    ("dev set without words", "ngram", lambda w: (w / "data/dev_clean_2/supervisions.jsonl.gz").unlink(), [],
     ["supervisions.jsonl.gz: missing"]),
    ("transcript that is a number", "lang", transcripts("train_clean_5", b'{"id": "a", "text": "A"}\n{"id": "b", "text": 3}\n'), [],
     ["supervisions.jsonl.gz, line 2: text is int '3'", "utils/validate_data.sh"]),
    ("dev set that is no manifest", "ngram", transcripts("dev_clean_2", b"[]\n"), [],
     ["supervisions.jsonl.gz, line 1: list instead of an object", "prepare the corpus again"]),
    ("no features there", "align", lambda w: shutil.rmtree(w / "feats"), [], ["feats: missing", "run the stage"]),
    ("no GMM there", "align", lambda w: [p.unlink() for p in (w / "gmm").glob("gmm.*")], [], ["gmm: changed since it was made (gmm.safet"]),
    ("other phones", "align", put("lang/phones.txt", "<eps> 0\nSIL 1\nSPN 2\n"), [], ["lexicon.txt, line 2", "prepare the lang again"]),
]  # fmt: skip

ALL = ("cut", "flipped", "empty")
CORRUPT = [
    ("align", "gmm/gmm.safetensors", ALL), ("align", "gmm/tree.safetensors", ALL), ("align", "feats/cmvn.safetensors", ALL),
    ("align", "feats/index.json", ("cut", "empty")), ("tri", "gmm/ali/ali.safetensors", ALL), ("phone graph", "gmm/ali/index.jsonl", ALL),
    ("dump", "teacher/model.safetensors", ALL), ("student", "posts/shard-00000.safetensors", ALL), ("student", "posts/index.jsonl.gz", ALL),
    ("student", "posts/meta.json", ("cut", "empty")), ("student", "ali/ali.safetensors", ALL), ("decode", "student/model.safetensors", ALL),
    ("decode with a GMM", "gmm/graph/graph.safetensors", ("flipped",)),
]  # fmt: skip

NESTED = [
    ("output in a model without a record", "decode in the model", lambda w: (w / "student/.done.json").unlink(missing_ok=True),
     ["student/decode_dev lies inside", "student, the input model, which has no record", "give an output folder outside of it"]),
]  # fmt: skip

STUDENTS = [
    ("a device that is none", ["--device", "gpu"], 2, ["device gpu: auto, cpu, cuda or cuda:N"]),
    ("a device that is not there", ["--device", "cuda:99"], 2, ["device cuda:99: torch", "CUDA devices; give --device cpu"]),
    ("a kind that is none", ["--kind", "rnnt"], 2, ["no kind of student 'rnnt'; there are: hybrid"]),
    ("a head whose dump was not given", ["--heads", '[{"unit": "phone", "layer": 1, "weight": 0.3, "posts": "lattice"}]'], 1,
     ["the dump 'lattice' that a head learns from was not given", "--posts lattice=DIR"]),
    ("LF-MMI without its denominator", ["--kind", "lfmmi"], 2, ["kind lfmmi needs a denominator graph", "steps/make_denominator.sh"]),
    ("first weights of two students", ["--init", "a", "--init-encoder", "b"], 2, ["init a and init_encoder b", "give one of them"]),
    ("more than all chunks without an upper band", ["--band-limit", "2"], 2, ["band_limit 2.0, band_lowest 4000.0: a share from 0 to 1"]),
    ("an upper band that the features do not have", ["--band-limit", "0.5", "--band-lowest", "9000"], 1,
     ["band_lowest 9000.0: the features (16 kHz fbank) end at 7600 Hz", "choose a lower frequency"]),
    ("an essence that keeps no mass", ["--heads", "[{unit: phone, layer: 1, weight: 0.3, options: {essence: {top_p: 0}}}]"], 2,
     ["objective 'soft' of an auxiliary head", "top_p 0, threshold 0.0"]),
    ("first weights from nowhere", ["--init", "nowhere"], 1, ["nowhere: missing"]),
]  # fmt: skip

FEATURES = [
    ("a band above half the rate", ["--high-freq", "9000"], 2, ["--high-freq 9000: from 3000 to 8000 Hz for features at 16000 Hz"]),
    ("a band with too few bins of the spectrum", ["--high-freq", "800"], 2, ["--high-freq 800: from 3000 to 8000 Hz"]),
]  # fmt: skip

DECODES = [
    ("scales from nowhere", ["--scales-from", "nowhere"], 1, ["--scales-from nowhere: no scales.json there"]),
    ("limits on k2's active states that cross", ["--engine", "k2", "--max-active", "30"], 2,
     ["--min-active 30, --max-active 30: k2 needs a beam above 0 and --min-active below --max-active"]),
    ("candidates from nowhere", ["--candidates-from", "nowhere"], 1, ["nowhere: missing; check the path"]),
]

FRAMES = [
    ("a teacher of frames that there is not", ["--kind", "crowd"], 2, ["--kind crowd", "kinds are ensemble, lattice"]),
    ("lattices without a graph", ["--kind", "lattice"], 2, ["give --graph DIR"]),
    ("phones without the tree", ["--unit", "phone"], 2, ["--unit phone: give --tree"]),
    ("training speakers from nowhere", ["--trained-on", "nowhere"], 1, ["nowhere: missing; check the path"]),
]  # fmt: skip

TEST_SETS = [
    ("test set that is not there", ["--test", "nowhere"], 1, ["--test nowhere: no such folder", "LibriSpeech's layout"]),
]

USAGE = [
    (["--no-such-option"], 2, ["unknown option --no-such-option", "--help"]),
    (["--stage", "0"], 2, ["--stage 0: no such stage", "known are 1 to 16"]),
    (["--stage", "17"], 2, ["--stage 17: no such stage"]),
    (["--stage", "-1"], 2, ["--stage -1: no such stage"]),
    (["--stage", "decode", "--stop-stage", "lang"], 2, ["--stage 13 comes after --stop-stage 2"]),
    (["--stage", "lang", "--stop-stage", "lang"], 1, ["source/lm_text: missing", "run stage corpus first"]),
    (["--stage", "align", "--stop-stage", "align"], 1, ["mfcc: missing", "run the stage that makes it first"]),
    (["--stop-stage", "1", "--corpus", "nowhere", "--lm-text", "a", "--lexicon", "b"], 1, ["--corpus", "nowhere: no such file or folder"]),
]

HOW = {"cut": "cut in half", "flipped": "with one flipped bit", "empty": "emptied"}
CASES = [
    *(Case("corpus", name, "corpus", change, words) for name, change, words in CORPUS),
    *(Case("text and lexicon", name, step, change, words, options) for name, step, change, options, words in LANGUAGE),
    *(
        Case("damaged file", f"{name}, {HOW[how]}", step, lambda w, n=name, h=how: spoil(w / n, h), [name.rpartition("/")[0], "again"])
        for step, name, hows in CORRUPT for how in hows
    ),
    *(Case("output inside an input", name, step, change, words, status=2) for name, step, change, words in NESTED),
    *(Case("student", name, "student", lambda w: None, words, argv, status) for name, argv, status, words in STUDENTS),
    *(Case("corpus", name, "corpus", lambda w: None, words, argv, status) for name, argv, status, words in TEST_SETS),
    *(Case("decode", name, "decode", lambda w: None, words, argv, status) for name, argv, status, words in DECODES),
    *(Case("frame dump", name, "dump frames", lambda w: None, words, argv, status) for name, argv, status, words in FRAMES),
    *(Case("features", name, "features", lambda w: None, words, argv, status) for name, argv, status, words in FEATURES),
    *(Case("usage", " ".join(argv), "recipe", lambda w: None, words, argv, status) for argv, status, words in USAGE),
]  # fmt: skip
