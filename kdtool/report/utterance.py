"""The section with the picture of one utterance.  In: the ablation, a data set with features and alignment.  Out: HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdtool.ablation.tables import System, place_name, result_at
from kdtool.core.errors import KdError
from kdtool.pictures.page import Table, folded, note
from kdtool.report.choice import RANKED, Shown, utterance
from kdtool.report.learnt import open_speech
from kdtool.results.collect import per_utterance

if TYPE_CHECKING:
    import numpy as np

    from kdtool.formats.alignment import Alignment
    from kdtool.report.posteriors import Map, Phones


def section(shown: Shown) -> str:
    """The heat maps of one utterance, or a note on what is missing."""
    cfg, systems = shown.cfg, [s for s in (shown.best, shown.reference) if s is not None]
    if lacking := [f"--{name}" for name in ("feats", "ali", "gmm", "lang") if getattr(cfg, name) is None]:
        return note(f"No picture: the report was made without {', '.join(lacking)}.")
    if not systems:
        return note("No picture: neither the reference nor a system that learns from a teacher is decoded yet.")
    from kdtool.formats.tree import Tree
    from kdtool.report.heat import picture
    from kdtool.report.posteriors import Phones

    speech = open_speech(cfg)
    assert speech and cfg.gmm
    (feats, ali, lang), tree = speech, Tree.load(cfg.gmm)
    if (other := ali.meta.get("tree_digest")) != tree.digest:
        raise KdError(f"{cfg.ali} was made with tree {other}, {cfg.gmm} has {tree.digest}; give the GMM that aligned it (--gmm)")
    known = set(feats.ids)
    lengths = {u: ali.get(u).num_frames for u in ali.ids if u in known}
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
        "so the auxiliary head learns nothing about silence either. Phones below 0.1 everywhere have no row."
    )
    return note(" ".join([about, *notes])) + _hypotheses(shown, systems, utt) + picture(ali.get(utt), maps, phones, sound)


def maps_of(shown: Shown, systems: Sequence[System], ali: Alignment, feats: np.ndarray, phones: Phones) -> tuple[list[Map], list[str]]:
    """Teacher, auxiliary head of the first system, main head of each (first seeds); and notes on missing ones."""
    from kdtool.report.posteriors import head_map, main_map, teacher_map

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

    from kdtool.audio.backend import use_in_lhotse
    from kdtool.audio.faults import AudioFault
    from kdtool.features.job import MAX_SECONDS_OFF

    use_in_lhotse(MAX_SECONDS_OFF)
    supervisions = [s for s in load_manifest(data / "supervisions.jsonl.gz") if s.id == utt]
    if not supervisions:
        raise KdError(f"{data} has no utterance {utt}; give the data set of the features (--data)")
    one = supervisions[0]
    recording = next(r for r in load_manifest(data / "recordings.jsonl.gz") if r.id == one.recording_id)
    try:
        samples = recording.load_audio(channels=one.channel, offset=one.start, duration=one.duration)
    except AudioFault as e:
        raise KdError(str(e).split("\n")[0]) from e  # Lhotse appends further lines
    except Exception as e:  # Lhotse raises any exception of its backends
        raise KdError(f"{data}: the audio of {utt} cannot be read ({type(e).__name__} {e}); fix it, or leave --data out") from e
    return samples[0], int(recording.sampling_rate)
