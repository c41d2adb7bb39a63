"""Subset: the first N minutes of speech of a training set.

In: a feature folder and a number of minutes.  Out: the original utterances to train on.

Nested (10 minutes are part of 30), the same for every seed and system, and spread over the speakers: each gives one utterance
before any gives a second.
"""

from __future__ import annotations

import hashlib
import sys

from kdtool.core.errors import KdError
from kdtool.features.store import FRAME_SHIFT, FeatureSet


def first_minutes(features: FeatureSet, minutes: float) -> set[str]:
    """Ids of the originals that make up at most ``minutes`` of speech (at least one), in the order of ``spread_order``.

    Raises:
        KdError: the set is shorter than that.
    """
    frames: dict[str, float] = {}
    speakers: dict[str, str] = {}
    for utt in features.ids:
        info = features.info(utt)
        if info.source_id not in frames or info.speed == 1.0:
            frames[info.source_id] = info.num_frames * info.speed
        speakers[info.source_id] = info.speaker
    total, limit = sum(frames.values()), minutes * 60 / FRAME_SHIFT
    if total < limit - 0.5:
        raise KdError(f"{features.folder}: {total * FRAME_SHIFT / 60:.1f} minutes of speech, minutes {minutes:g} were asked for; ask for "
                      "fewer, or leave it out")  # fmt: skip
    chosen: set[str] = set()
    used = 0.0
    for utt in spread_order(speakers):
        used += frames[utt]
        if chosen and used > limit + 0.5:
            break
        chosen.add(utt)
    used = sum(frames[u] for u in chosen)
    print(f"train_student: {len(chosen)} of {len(frames)} utterances, {len({speakers[u] for u in chosen})} speakers, "
          f"{used * FRAME_SHIFT / 60:.1f} of {total * FRAME_SHIFT / 60:.1f} minutes", file=sys.stderr)  # fmt: skip
    return chosen


def spread_order(speakers: dict[str, str]) -> list[str]:
    """All utterances (id -> speaker): every speaker's first, then every speaker's second, .., sorted by a hash of their ids."""
    drawn = sorted(speakers, key=lambda u: (hashlib.sha256(u.encode()).hexdigest(), u))
    turn: dict[str, int] = {}
    ranks = {}
    for utt in drawn:
        ranks[utt] = turn.get(speakers[utt], 0)
        turn[speakers[utt]] = ranks[utt] + 1
    return sorted(drawn, key=ranks.__getitem__)
