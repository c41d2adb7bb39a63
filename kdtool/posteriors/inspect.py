"""Describes a dump.  In: a dump, and names of its units.  Out: lines of text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from kdtool.core.errors import KdError
from kdtool.posteriors.dump import PosteriorDump


def unit_names(dump: PosteriorDump, lang: Path | None) -> list[str]:
    """A name per unit: the lang's, or its number (senones have no other).

    Raises:
        KdError: the lang's units are not the dump's.
    """
    names = [str(i) for i in range(dump.num_units)]
    if lang is None or dump.unit == "senone":
        return names
    from kdtool.lang.lang import Lang
    from kdtool.units.table import units_digest

    loaded = Lang.load(lang)
    if (own := units_digest(dump.unit, loaded, None)) != dump.meta["units_digest"]:
        made = dump.meta["units_digest"][:16]
        raise KdError(f"{dump.folder} is over {dump.unit}s {made}, {lang} has {own[:16]}; name the lang that it was made with")
    for name, number in (loaded.phones if dump.unit == "phone" else loaded.subwords).items():
        if number < len(names):
            names[number] = name
    return names


def describe(dump: PosteriorDump) -> list[str]:
    """The dump as a whole."""
    m = dump.meta
    units, frames = max(m["units"], 1), m.get("aligned_frames", m.get("frames", 0))
    row = "row" if dump.per_frame else "unit"
    rows = {
        "dump": f"{dump.folder} ({m['format']})",
        "teacher": f"{m.get('teacher_kind', '?')} over {dump.num_units} {dump.unit}s, {m.get('teacher_digest', '?')[:16]}",
        "alignment": f"{m['alignment_digest'][:16] or 'none'}, units {m['units_digest'][:16] or 'not named'}",
        "rows": f"one every {1000 * m.get('frame_shift', 0.01):g} ms, silence too" if dump.per_frame else "one per unit, silence has none",
        "temperature": f"{m.get('temperature', 1.0):g}",
        "size": f"{len(dump)} utterances, {m['units']} {row}s, {m['entries']} entries in {len(m['shards'])} shards",
        "kept": f"{m['entries'] / units:.1f} entries a {row}",
        "bytes": f"{m['bytes']}, {m['bytes'] / units:.1f} a {row} (shards {sum(s['bytes'] for s in m['shards'])}, "
                 f"coder {m['coder']['bytes']}, index {m['index']['bytes']})",
    }  # fmt: skip
    if "mean_mass_kept" in m:
        rows["kept"] += f", {m['mean_mass_kept']:.2%} of the mass, {m['nats_lost_per_unit']:.4f} nats per {row} lost"
        rows["perplexity"] = f"{math.exp(m['teacher_nats_per_unit']):.3f} ({m['unseen']} units unseen)"
    if dump.per_frame and "mean_mass_kept" in m:
        rows["labels"] = f"{m['teacher_nats_per_unit']:.4f} nats per row on average"
        del rows["perplexity"]
    if frames:
        speech = "speech" if "aligned_frames" in m or dump.per_frame else "speech without silence"
        rows["bytes"] += f"; {100.0 * m['bytes'] / frames:.0f} per second of {speech}"
    return [f"{name:12s}{text}" for name, text in rows.items()]


def describe_utterance(dump: PosteriorDump, utterance: str, names: list[str], top: int) -> list[str]:
    """One utterance, one line per unit: its frames, its posterior, the likeliest entries, and the mass of the rest."""
    post = dump.get(utterance)
    ids, logp = post.padded(top)
    what = f"rows over {dump.unit}s" if dump.per_frame else f"{dump.unit}s"
    own = "row's label" if dump.per_frame else "unit itself"
    lines = [f"{utterance}: {len(post)} {what}; frames of 10 ms, probability of the {own} (< where it was not kept)",
             f"{'label' if dump.per_frame else 'unit':>12s} {'start':>6s} {'frames':>6s} {'p':>7s}  expected"]  # fmt: skip
    for row in range(len(post)):
        kept = slice(post.offsets[row], post.offsets[row + 1])
        place = np.flatnonzero(post.ids[kept] == post.unit_ids[row])
        p = f"{np.exp(post.logp[kept][place[0]]):.3f}" if len(place) else f"<{np.exp(min(post.logp[kept].min(), post.rest_logp[row])):.3f}"
        likely = "  ".join(f"{names[i]} {np.exp(v):.3f}" for i, v in zip(ids[row], logp[row], strict=True) if v > -np.inf)
        more = f"  + {kept.stop - kept.start - top} more" if kept.stop - kept.start > top else ""
        lines.append(f"{names[post.unit_ids[row]]:>12s} {post.start[row]:6d} {post.length[row]:6d} {p:>7s}  {likely}{more}"
                     f"  rest {np.exp(post.rest_logp[row]):.3f}")  # fmt: skip
    return lines
