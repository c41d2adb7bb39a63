"""The section with the picture of one utterance.  In: the ablation, a data set with features and alignment.  Out: HTML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtool.ablation.tables import result_at
from kdtool.core.errors import KdError
from kdtool.pictures.page import esc, table
from kdtool.report.choice import RANKED, System, place_name, places, utterance, words_of
from kdtool.report.config import PICTURE, Chosen, Config, phone_teacher

if TYPE_CHECKING:
    import numpy as np

    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.report.posteriors import Map, Phones


def section(root: Path, content: dict[str, Any], chosen: Chosen, cfg: Config) -> str:
    """The section with the heat maps of one utterance, or a note on what is missing."""
    title = '<h2 id="picture">One utterance, as teacher, auxiliary head and main head see it</h2>'
    if lacking := [f"--{n}" for n in PICTURE[1:] if getattr(cfg, n) is None]:
        return f'{title}<p class="note">No picture: the report was made without {esc(", ".join(lacking))}.</p>'
    systems = [s for s in (chosen.best, chosen.reference) if s is not None]
    if not systems:
        return f'{title}<p class="note">No picture: neither the reference nor a system that learns from a teacher is decoded yet.</p>'
    return title + _picture(root, content, chosen, cfg, systems)


def _picture(root: Path, content: dict[str, Any], chosen: Chosen, cfg: Config, systems: list[System]) -> str:
    from kdtool.report.heat import picture

    feats, ali, phones = open_all(cfg)
    there = set(feats.ids)
    lengths = {u: ali.get(u).num_frames for u in ali.ids if u in there}
    if not lengths:
        raise KdError(f"{cfg.ali} and {cfg.feats} have no utterance in common; give those of one data set")
    utt = utterance(cfg.utterance, errors_by_utterance(root, content, chosen, systems), lengths)
    one = ali.get(utt)
    maps, notes = maps_of(root, content, chosen, systems, (feats, ali, phones), utt)
    sound = read_sound(cfg.data, utt) if cfg.data else None
    notes += [] if sound else ["Without its sound: --data was not given."]
    which = f", its {cfg.utterance} one by errors per word" if cfg.utterance in RANKED else ""
    about = (
        f"Utterance {utt} of {chosen.name}{which}, {one.num_frames / 100:.2f} s: {feats.info(utt).text}. White is probability "
        f"0, black is 1; red frames: the alignment. In brackets: the mean probability of the aligned phone over the "
        f"frames that are no silence. The teacher says the same on all frames of a phone and nothing of silence (light grey), of which its "
        f"pupil, the auxiliary head, learns nothing either. Phones that nobody gives a tenth have no row."
    )
    text = f'<p class="note">{esc(" ".join([about, *notes]))}</p>'
    return text + _hypotheses(root, systems, chosen.name, utt) + picture(one, maps, phones, sound)


def open_all(cfg: Config) -> tuple[FeatureSet, AlignmentSet, Phones]:
    """Features, alignment and phones; KdError when alignment and tree do not match."""
    from kdtool.features.store import FeatureSet
    from kdtool.formats.alignment import AlignmentSet
    from kdtool.formats.tree import Tree
    from kdtool.lang.lang import Lang
    from kdtool.report.posteriors import Phones

    assert cfg.feats and cfg.ali and cfg.gmm and cfg.lang  # the section is left out otherwise
    feats, ali, tree = FeatureSet.open(cfg.feats), AlignmentSet.open(cfg.ali), Tree.load(cfg.gmm)
    if (other := ali.meta.get("tree_digest")) != tree.digest:
        raise KdError(f"{cfg.ali} was made with tree {other}, {cfg.gmm} has {tree.digest}; give the GMM that aligned it (--gmm)")
    return feats, ali, Phones(Lang.load(cfg.lang), tree)


def maps_of(
    root: Path, content: dict[str, Any], chosen: Chosen, systems: list[System], opened: tuple[FeatureSet, AlignmentSet, Phones], utt: str
) -> tuple[list[Map], list[str]]:
    """Teacher, auxiliary head of the first system, main head of each; and notes on missing ones."""
    from kdtool.report.posteriors import head_map, main_map, teacher_map

    (feats, ali, phones), maps, notes = opened, [], []
    if (teacher := phone_teacher(root, content, chosen)) is not None:
        maps.append(teacher_map(teacher, ali.get(utt), phones, teacher.name))
    else:
        notes.append("There is no phone teacher to show.")
    if (head := head_map(student(root, systems[0]), feats, utt, phones, systems[0]["name"])) is not None:
        maps.append(head)
    else:
        notes.append(f"{systems[0]['name']} has no auxiliary head over phones or senones.")
    return maps + [main_map(student(root, s), feats, utt, phones, s["name"]) for s in systems], notes


def student(root: Path, system: System) -> Path:
    """The folder of a system's first seed."""
    return Path(root / system["students"][0]["folder"])


def errors_by_utterance(root: Path, content: dict[str, Any], chosen: Chosen, systems: list[System]) -> dict[str, tuple[float, int]]:
    """Utterance -> (errors, reference tokens), summed over the systems' seeds with the set's first graph."""
    from kdtool.results.collect import per_utterance

    found: dict[str, tuple[float, int]] = {}
    place = next(iter(places(content, chosen.name, systems)), None)
    results = [r for s in systems if place and (r := result_at(s, place))]
    for run in (run for r in results for run in r["runs"]):
        for utt, (errors, words) in per_utterance(root / run["decode"] / "per_utt.tsv").items():
            before = found.get(utt, (0.0, 0))
            found[utt] = (before[0] + errors, before[1] + words)
    return found


def _hypotheses(root: Path, systems: list[System], name: str, utt: str) -> str:
    """Hypotheses of the systems' first seeds with each graph, in one table."""
    rows = []
    for s in systems:
        for r in s["results"]:
            if r["set"] == name:
                heard = words_of(root / r["runs"][0]["decode"] / "per_utt.tsv").get(utt, ([], ["(not decoded)"]))[1]
                rows.append([place_name((name, r["lm"], r["first_pass_lm"], r["rate"])), s["name"], " ".join(heard)])
    body = table(["graph", "system", "heard"], sorted(rows, key=lambda row: row[0]))
    return f'<details><summary>What was heard in it</summary><div class="scroll">{body}</div></details>' if rows else ""


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
