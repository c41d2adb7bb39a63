"""Perplexity of a teacher.  In: a teacher and unit sequences.  Out: perplexity and the amount of data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from kdtool.teacher.base import Teacher

# Measure of causal and masked teachers: its name in files and in words.
KEYS = {"causal": "ppl", "masked": "pseudo_ppl"}
NAMES = {"causal": "perplexity", "masked": "pseudo-perplexity"}


def perplexity(teacher: Teacher, sequences: Iterable[np.ndarray]) -> dict[str, Any]:
    """Perplexity per unit over whole sentences; of a masked teacher, pseudo-perplexity, which is not comparable with it.

    Returns:
        ppl or pseudo_ppl; nats_per_unit; tokens: number of scored units; unseen: units missing from the training text, which have no
        probability and are counted separately; sentences. Without any sentence the first two are None.
    """
    nats, tokens, unseen, sentences = 0.0, 0, 0, 0
    for ids in sequences:
        if len(ids) == 0:
            continue
        own = teacher.log_probs(ids)[np.arange(len(ids)), ids].astype(np.float64)
        known = own > -np.inf
        nats -= float(own[known].sum())
        tokens += int(known.sum())
        unseen += int((~known).sum())
        sentences += 1
    mean = nats / tokens if tokens else math.inf
    figures = (math.exp(mean), mean) if sentences else (None, None)  # JSON has no infinity
    names = (KEYS[teacher.context], "nats_per_unit")
    return {**dict(zip(names, figures, strict=True)), "tokens": tokens, "unseen": unseen, "sentences": sentences}
