"""A synthetic corpus whose correct alignment is known: each HMM state of each phone sounds like itself and nothing else.

Out: a lang folder, a feature folder, and the true alignment of every utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdtool.core.tables import write_json, write_jsonl
from kdtool.core.tensors import save_tensors

PHONES = {"<eps>": 0, "SIL": 1, "SPN": 2, "AA": 3, "B": 4, "K": 5, "S": 6}
LEXICON = {"ABBA": ["AA B AA"], "BAS": ["B AA S", "S AA B"], "KA": ["K AA"], "SSK": ["S S K"], "<UNK>": ["SPN"]}
DIM = 6


@dataclass
class Truth:
    """True pdf (monophone numbering), phone start frames and words of one utterance."""

    pdf: np.ndarray
    phone_start: np.ndarray
    words: list[tuple[str, int, int]]


def state_mean(phone: int, state: int) -> np.ndarray:
    """Where an HMM state lies in feature space: far from all others."""
    return 3.0 * np.random.default_rng(100 * phone + state).standard_normal(DIM)


def write_lang(folder: Path, extra_phone: bool = False) -> None:
    folder.mkdir(parents=True)
    phones = {**PHONES, **({"ZZ": 7} if extra_phone else {})}
    words = ["<eps>", *sorted(LEXICON), "#0", "<s>", "</s>"]
    files = {
        "phones.txt": [f"{p} {i}" for p, i in phones.items()],
        "words.txt": [f"{w} {i}" for i, w in enumerate(words)],
        "lexicon.txt": [f"{w} {p}" for w, ps in sorted(LEXICON.items()) for p in ps],
        "text_lexicon.txt": [],
        "topo.txt": [f"{p} 3" for p, i in phones.items() if i],
        "silence_phones.txt": ["SIL", "SPN"],
        "oov.txt": ["<UNK>"],
        "subwords.txt": ["<unk> 0"],
        "bpe.model": ["none"],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(line + "\n" for line in lines))


def speak(rng: np.random.Generator, text: str) -> tuple[np.ndarray, Truth]:
    """Features (T, DIM) and the truth: silence at the edges and now and then between words, a random variant each."""
    pdfs: list[int] = []
    starts: list[int] = []
    spans: list[tuple[str, int, int]] = []

    def say(phone: int) -> None:
        starts.append(len(pdfs))
        for state in range(3):
            pdfs.extend([3 * (phone - 1) + state] * int(rng.integers(2, 5)))

    say(1)
    for word in text.split():
        first = len(pdfs)
        variants = LEXICON.get(word, ["SPN"])
        for p in variants[int(rng.integers(len(variants)))].split():
            say(PHONES[p])
        spans.append((word, first, len(pdfs) - first))
        if rng.random() < 0.4:
            say(1)
    means = np.stack([state_mean(p // 3 + 1, p % 3) for p in pdfs])
    feats = (means + 0.4 * rng.standard_normal(means.shape)).astype(np.float32)
    return feats, Truth(np.array(pdfs), np.array(starts), spans)


def write_features(
    folder: Path, count: int, seed: int = 0, too_short: int = 0, more: Sequence[tuple[str, str]] = ()
) -> dict[str, Truth]:
    """A feature folder of `count` utterances of 5 words, and `too_short` ones of 4 frames. Returns the truth by id.

    more: (id, text) of further utterances; the id begins with the speaker's, 'x-0'.
    """
    rng = np.random.default_rng(seed)
    (folder / "storage").mkdir(parents=True)
    rows, cuts, truth = [], [], {}
    for n in range(count + too_short + len(more)):
        if n < count + too_short:
            utt, text = f"s{n % 3}-{n:03d}", " ".join(rng.choice(sorted(set(LEXICON) - {"<UNK>"}), 5))
        else:
            utt, text = more[n - count - too_short]
        speaker = utt.split("-")[0]
        if n == 0:
            text += " STRANGE"
        feats, truth[utt] = speak(rng, text)
        feats = feats[:4] if count <= n < count + too_short else feats
        np.save(folder / "storage" / f"{utt}.npy", feats)
        # The audio ends within the last frame, as real audio does.
        seconds = round(len(feats) * 0.01 - 0.004, 4)
        rows.append({"id": utt, "source_id": utt, "speaker": speaker, "text": text, "speed": 1.0,
                     "num_frames": len(feats), "file": f"storage/{utt}.npy"})  # fmt: skip
        supervision = {"id": utt, "recording_id": utt, "start": 0.0, "duration": seconds, "channel": 0, "text": text,
                       "speaker": speaker}  # fmt: skip
        source = {"type": "file", "channels": [0], "source": f"{utt}.wav"}
        recording = {"id": utt, "sources": [source], "sampling_rate": 16000, "num_samples": round(seconds * 16000), "duration": seconds}
        cuts.append({"id": utt, "start": 0.0, "duration": seconds, "channel": 0, "supervisions": [supervision],
                     "features": {"storage_path": "storage"}, "recording": recording, "type": "MonoCut"})  # fmt: skip
    speakers = dict.fromkeys([*(f"s{k}" for k in range(3)), *(row["speaker"] for row in rows)])
    plain = {"mean": np.zeros(DIM, np.float32), "std": np.ones(DIM, np.float32)}
    save_tensors(folder / "cmvn.safetensors", {f"{s}.{name}": v for s in speakers for name, v in plain.items()})
    write_json(folder / "index.json", {"kind": "mfcc", "sample_rate": 16000, "dim": DIM, "utterances": rows})
    write_jsonl(folder / "cuts.jsonl.gz", cuts)
    return truth
