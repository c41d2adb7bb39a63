"""The first N minutes of speech of a training set.  In: a feature folder, a number of minutes.  Out: the originals to train on.

Nested (10 minutes are part of 30), the same for every seed and system, and spread over the speakers: each gives one utterance
before any gives a second.
"""

import hashlib
import sys
from collections import Counter
from itertools import accumulate

from kdtool.core.errors import KdError
from kdtool.features.store import FRAME_SHIFT, FeatureSet


def first_minutes(features: FeatureSet, minutes: float) -> set[str]:
    """Ids of the originals that make up at most ``minutes`` of speech (at least one), in the order of ``spread_order``. Raises KdError: the
    set is shorter than that."""
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
    order = spread_order(speakers)
    fit = sum(used <= limit + 0.5 for used in accumulate(frames[utt] for utt in order))
    chosen = set(order[: max(1, fit)])
    used = sum(frames[u] for u in chosen)
    print(f"train_student: {len(chosen)} of {len(frames)} utterances, {len({speakers[u] for u in chosen})} speakers, "
          f"{used * FRAME_SHIFT / 60:.1f} of {total * FRAME_SHIFT / 60:.1f} minutes", file=sys.stderr)  # fmt: skip
    return chosen


def spread_order(speakers: dict[str, str]) -> list[str]:
    """All utterances (id -> speaker): every speaker's first, then every speaker's second, .., sorted by a hash of their ids."""
    drawn = sorted(speakers, key=lambda u: (hashlib.sha256(u.encode()).hexdigest(), u))
    turns: Counter[str] = Counter()
    ranks = {}
    for utt in drawn:
        ranks[utt] = turns[speakers[utt]]
        turns[speakers[utt]] += 1
    return sorted(drawn, key=ranks.__getitem__)
