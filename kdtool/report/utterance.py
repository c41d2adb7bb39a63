"""One utterance as a picture: sound, words and phones, and below them the posteriors of teacher, auxiliary head and main heads.

In: the ablation, a data set with features and alignment.  Out: HTML with one SVG; all parts have the same time axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdtool.ablation.tables import System, place_name, result_at
from kdtool.audio.backend import use_in_lhotse
from kdtool.audio.faults import AudioFault
from kdtool.core.errors import KdError
from kdtool.features.job import MAX_SECONDS_OFF
from kdtool.features.store import FRAME_SHIFT
from kdtool.formats.alignment import Alignment
from kdtool.formats.tree import Tree
from kdtool.lang.lang import Lang
from kdtool.pictures.page import Table, esc, folded, note
from kdtool.pictures.timeline import AXIS, SPECTRUM, TIER, WAVE, Mark, Timeline
from kdtool.report.choice import RANKED, Shown, utterance
from kdtool.report.learnt import open_speech
from kdtool.results.collect import per_utterance
from kdtool.student.heads import head_specs, load_with_heads
from kdtool.student.model import Student
from kdtool.teacher.base import read_meta
from kdtool.teacher.registry import load_teacher
from kdtool.units.segments import unit_segments
from kdtool.units.table import units_digest

LEFT, ROW, TITLE, LEAST = 52, 11, 24, 640  # pixels: phone names, a phone's row, a map's heading, smallest width
WIDEST, FASTEST, LONGEST = 1080, 400, 20.0  # pixels, pixels per second, seconds shown
SEEN = 0.1  # a phone below this in all maps that was not spoken has no row
GAMMA = 0.7  # of the greys, so that 0.1 differs visibly from 0


def section(shown: Shown) -> str:
    """The heat maps of one utterance, or a note on what is missing."""
    cfg, systems, speech = shown.cfg, [s for s in (shown.best, shown.reference) if s is not None], open_speech(shown.cfg)
    if speech is None or cfg.gmm is None:
        lacking = [f"--{name}" for name in ("feats", "ali", "gmm", "lang") if getattr(cfg, name) is None]
        return note(f"No picture: the report was made without {', '.join(lacking)}.")
    if not systems:
        return note("No picture: neither the reference nor a system that learns from a teacher is decoded yet.")
    (feats, ali, lang), tree = speech, Tree.load(cfg.gmm)
    if (other := ali.meta.get("tree_digest")) != tree.digest:
        raise KdError(f"{cfg.ali} was made with tree {other}, {cfg.gmm} has {tree.digest}; give the GMM that aligned it (--gmm)")
    with_features = set(feats.ids)
    lengths = {u: ali.get(u).num_frames for u in ali.ids if u in with_features}
    if not lengths:
        raise KdError(f"{cfg.ali} and {cfg.feats} have no utterance in common; give those of one data set")
    utt, phones = utterance(cfg.utterance, errors_by_utterance(shown, systems), lengths), Phones(lang, tree)
    maps, notes = maps_of(shown, systems, ali.get(utt), feats.get(utt), phones)
    sound = read_sound(cfg.data, utt) if cfg.data else None
    notes += [] if sound else ["Without its sound: --data was not given."]
    which = f", its {cfg.utterance} one by errors per word" if cfg.utterance in RANKED else ""
    about = (
        f"Utterance {utt} of {shown.name}{which}, {lengths[utt] / 100:.2f} s: {feats.info(utt).text}. White is probability "
        "0, black is 1; red frames: the alignment. In brackets: the mean probability of the aligned phone over the "
        "frames that are not silence. The teacher gives all frames of a phone the same distribution and none to silence (light grey); "
        f"so the auxiliary head learns nothing about silence either. Phones below {SEEN:g} everywhere have no row."
    )
    return note(" ".join([about, *notes])) + _hypotheses(shown, systems, utt) + picture(ali.get(utt), maps, phones, sound)


def errors_by_utterance(shown: Shown, systems: Sequence[System]) -> dict[str, tuple[int, int]]:
    """Utterance -> (errors, reference tokens), summed over the systems' seeds with the set's first graph."""
    sums: dict[str, tuple[int, int]] = {}
    for place in shown.places(shown.name, systems)[:1]:
        for run in (run for s in systems if (r := result_at(s, place)) for run in r["runs"]):
            for utt, row in per_utterance(shown.root / run["decode"]).items():
                errors, words = sums.get(utt, (0, 0))
                sums[utt] = (errors + row.errors, words + row.words)
    return sums


def _hypotheses(shown: Shown, systems: Sequence[System], utt: str) -> str:
    """Hypotheses of the systems' first seeds with each graph, in one table."""
    rows = []
    for system, r in ((s, r) for s in systems for r in s["results"] if r["set"] == shown.name):
        row = per_utterance(shown.root / r["runs"][0]["decode"]).get(utt)
        place = place_name((shown.name, r["lm"], r["first_pass_lm"], r["rate"]))
        rows.append([place, system["name"], row.hyp if row else "(not decoded)"])
    return folded("What was heard in it", Table(["graph", "system", "heard"], sorted(rows, key=lambda row: row[0])).html())


def read_sound(data: Path, utt: str) -> tuple[np.ndarray, int]:
    """The samples of one utterance, float32, and their rate, according to the manifests.

    Raises:
        KdError: the set has no such utterance, or its audio cannot be read.
    """
    from lhotse import load_manifest

    use_in_lhotse(MAX_SECONDS_OFF)
    one = next((s for s in load_manifest(data / "supervisions.jsonl.gz") if s.id == utt), None)
    if one is None:
        raise KdError(f"{data} has no utterance {utt}; give the data set of the features (--data)")
    recording = next(r for r in load_manifest(data / "recordings.jsonl.gz") if r.id == one.recording_id)
    try:
        samples = recording.load_audio(channels=one.channel, offset=one.start, duration=one.duration)
    except AudioFault as e:
        raise KdError(str(e).split("\n")[0]) from e  # Lhotse appends further lines
    except Exception as e:  # Lhotse raises any exception of its backends
        raise KdError(f"{data}: the audio of {utt} cannot be read ({type(e).__name__} {e}); fix it, or leave --data out") from e
    return samples[0], int(recording.sampling_rate)


class Phones:
    """The N names that are rows of the maps. ``row``: phone id -> index of its name, or -1.

    Phones that differ only by their position in the word are merged (Lang.plain_names); senones are summed to their phones.
    """

    def __init__(self, lang: Lang, tree: Tree) -> None:
        self.lang, self.tree = lang, tree
        self.names = list(dict.fromkeys(lang.plain_names[p] for p in sorted(lang.num_states)))
        self.row = np.full(len(lang.plain_names), -1, dtype=np.int64)
        for phone in lang.num_states:
            self.row[phone] = self.names.index(lang.plain_names[phone])
        self.silent = {int(self.row[phone]) for phone in lang.silence_ids}

    def sum(self, probs: np.ndarray, unit: str) -> np.ndarray:
        """Probabilities of phone ids (T, V) or of senones (T, num_pdfs) -> float32 (T, N)."""
        if unit == "senone" and probs.shape[1] != self.tree.num_pdfs:
            raise KdError(f"posteriors of {probs.shape[1]} senones, the tree has {self.tree.num_pdfs}; give the students' own (--gmm)")
        rows = self.row[self.tree.pdf_phone if unit == "senone" else np.arange(probs.shape[1])]
        return np.stack([probs[:, rows == n].sum(axis=1) for n in range(len(self.names))], axis=1).astype(np.float32)


@dataclass
class Map:
    """One heat map: ``probs`` float32 (T, N) over the N names, rows of NaN for frames without output (silence has no unit)."""

    title: str
    probs: np.ndarray

    def of_aligned(self, aligned: np.ndarray, spoken: np.ndarray) -> float:
        """Mean probability of the aligned phone (T,) over spoken frames with a row; NaN without any."""
        rows = np.flatnonzero(spoken & ~np.isnan(self.probs[:, 0]))
        return float(self.probs[rows, aligned[rows]].mean()) if len(rows) else float("nan")


def maps_of(shown: Shown, systems: Sequence[System], ali: Alignment, feats: np.ndarray, phones: Phones) -> tuple[list[Map], list[str]]:
    """Teacher, auxiliary head of the first system, main head of each (first seeds); and notes on missing ones."""
    folders = {s["name"]: shown.root / s["students"][0]["folder"] for s in systems}
    maps, notes, first = [], [], systems[0]["name"]
    name = systems[0]["teachers"].get("phone", "")
    teacher = shown.root / shown.content["teachers"].get(name, {"folder": ""})["folder"]
    if name and (teacher / "teacher.json").is_file():
        maps.append(teacher_map(teacher, ali, phones, teacher.name))
    else:
        notes.append("There is no phone teacher to show.")
    if (head := head_map(folders[first], feats, phones, first)) is not None:
        maps.append(head)
    else:
        notes.append(f"{first} has no auxiliary head over phones or senones.")
    return maps + [main_map(folder, feats, phones, system) for system, folder in folders.items()], notes


def teacher_map(folder: Path, ali: Alignment, phones: Phones, name: str) -> Map:
    """A phone teacher's distribution for each phone of the alignment given its true context, on all the phone's frames."""
    teacher = load_teacher(folder)
    if teacher.unit != "phone":
        raise KdError(f"{folder} is a teacher of {teacher.unit}s; the picture needs one of phones")
    if read_meta(folder)["units_digest"] != units_digest("phone", phones.lang, None):
        raise KdError(f"{folder} was trained with other phones than {phones.lang.folder}; train it again")
    segments = unit_segments(ali, "phone", phones.lang)
    probs = np.full((ali.num_frames, len(phones.names)), np.nan, dtype=np.float32)
    rows = phones.sum(np.exp(teacher.log_probs(segments.ids)), "phone")
    for row, start, length in zip(rows, segments.start, segments.length, strict=True):
        probs[start : start + length] = row
    return Map(f"{name}, given {'the phones before' if teacher.context == 'causal' else 'all other phones'}", probs)


def head_map(folder: Path, feats: np.ndarray, phones: Phones, name: str) -> Map | None:
    """A student's lowest auxiliary head over phones, else over senones; None if it has or kept neither."""
    specs = sorted((s for s in head_specs(folder) if s.unit in ("phone", "senone")), key=lambda s: (s.unit != "phone", s.layer))
    if not specs:
        return None
    spec = specs[0]
    probs = np.exp(load_with_heads(folder).log_posteriors(feats, spec.name))
    return Map(f"{name}, auxiliary {spec.unit} head on layer {spec.layer}, {spec.kind} targets", phones.sum(probs, spec.unit))


def main_map(folder: Path, feats: np.ndarray, phones: Phones, name: str) -> Map:
    """A student's main head, senones summed to phones."""
    return Map(f"{name}, main head, senones summed to phones", phones.sum(np.exp(Student.load(folder).log_posteriors(feats)), "senone"))


def picture(ali: Alignment, maps: Sequence[Map], phones: Phones, sound: tuple[np.ndarray, int] | None) -> str:
    """The whole picture; without ``sound`` (samples, rate) it begins with the alignment."""
    end = min(ali.num_frames * FRAME_SHIFT, LONGEST)
    line, frames = Timeline(end, min(FASTEST, WIDEST / end)), round(end / FRAME_SHIFT)
    top, parts = (WAVE + SPECTRUM, line.sound(*sound)) if sound else (0, [])
    segments = ali.phone_segments()
    units = [*zip(phones.row[segments.ids].tolist(), segments.start.tolist(), segments.length.tolist(), strict=True)]
    tiers = {"words": ([_mark(*word) for word in ali.words], "#c22"),
             "phones": ([_mark(phones.names[n], start, length, n in phones.silent) for n, start, length in units], "#27a")}  # fmt: skip
    for name, (marks, colour) in tiers.items():
        parts += [line.tier(marks, top, 0, colour), f'<text class="r s" x="-6" y="{top + 17}" fill="#555">{name}</text>']
        top += TIER
    parts.append(line.axis(top))
    top += AXIS + 4
    aligned = phones.row[ali.phone]
    spoken = ~np.isin(aligned, sorted(phones.silent)) & (np.arange(len(aligned)) < frames)
    largest = np.max([np.zeros(len(phones.names)), *(np.nan_to_num(m.probs[:frames]).max(axis=0) for m in maps)], axis=0)
    rows = [n for n in range(len(phones.names)) if n in aligned[:frames] or largest[n] >= SEEN]  # the same in all maps
    for one in maps:
        mean = one.of_aligned(aligned, spoken)
        parts.append(f'<text class="l b" x="0" y="{top + 17}">{esc(one.title)}{"" if np.isnan(mean) else f" ({mean:.2f})"}</text>')
        parts += _map(line, one.probs[:frames], {n: phones.names[n] for n in rows}, [u for u in units if u[1] < frames], top + TITLE)
        top += TITLE + ROW * len(rows) + 6
    parts.append(line.axis(top))
    return f'<div class="wide">{line.svg(parts, top + AXIS + 4, LEFT, LEAST)}</div>'


def _map(line: Timeline, probs: np.ndarray, names: dict[int, str], units: Sequence[Sequence[int]], top: int) -> list[str]:
    """One map with its rows (columns of ``probs``, and their names), and the aligned phones (column, start, length) as red frames."""
    rows = [*names]
    parts = [line.image(grey(probs[:, rows]), top, ROW * len(rows), crisp=True)]
    for n, name in enumerate(names.values()):
        parts.append(f'<text class="r" x="-6" y="{top + ROW * (n + 0.5) + 3.5:g}" style="font-size:10px">{esc(name)}</text>')
    for phone, start, length in units:
        values, n = probs[start : start + length, phone], rows.index(phone)
        first, last = start * FRAME_SHIFT, (start + len(values)) * FRAME_SHIFT
        about = f"{names[phone]} {first:.2f} to {last:.2f} s" + ("" if np.isnan(values).any() else f": {values.mean():.3f}")
        parts.append(
            f'<rect x="{first * line.scale:.1f}" y="{top + ROW * n}" width="{len(values) * FRAME_SHIFT * line.scale:.1f}" '
            f'height="{ROW}" fill="transparent" stroke="#e33" stroke-width=".8"><title>{esc(about)}</title></rect>'
        )
    parts.append(f'<rect x="0" y="{top}" width="{line.width}" height="{ROW * len(rows)}" fill="none" stroke="#888" stroke-width=".6"/>')
    return parts


def grey(probs: np.ndarray) -> np.ndarray:
    """Probabilities (T, N) -> uint8 (N, T): white is 0, black is 1, light grey for NaN."""
    level = 255.0 * (1.0 - np.clip(np.nan_to_num(probs), 0, 1) ** GAMMA)
    return np.where(np.isnan(probs), 225, np.round(level)).astype(np.uint8).T


def _mark(label: str, start: int, length: int, faint: bool = False) -> Mark:
    first, last = start * FRAME_SHIFT, (start + length) * FRAME_SHIFT
    return Mark(label, first, last, f"{label} {first:.2f} to {last:.2f} s", "#fff" if faint else "#eef4fa", faint)
