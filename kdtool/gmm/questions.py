"""Questions for the tree, derived from the data: sets of similar phones.

In: statistics of contexts. Out: a table of phone sets, from bottom-up clustering of the phones' Gaussians (each cluster on
the way from single phones to all of them is a question), as Kaldi's automatic questions do top-down.
"""

import numpy as np

from kdtool.gmm.em import mean_variance

VARIANCE_FLOOR = 0.01


def log_likelihood(count: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Log-likelihood (nats) of frames under their own ML diagonal Gaussian, from sums; any leading shape.

    count (...,), moments (..., 2 D) = sums of [x^2, x]. No frames: 0. Variances are floored at VARIANCE_FLOOR (features
    are normalised to variance 1). A floored variance v counts -1/2 per frame, where Kaldi has -v / (2 VARIANCE_FLOOR).
    """
    dim = moments.shape[-1] // 2
    var = np.maximum(mean_variance(count, moments)[1], VARIANCE_FLOOR)
    value = -0.5 * count * (dim * np.log(2 * np.pi) + dim + np.log(var).sum(axis=-1))
    return np.where(count > 0, value, 0.0)


def cluster_phones(count: np.ndarray, moments: np.ndarray, phones: list[int]) -> list[tuple[int, ...]]:
    """Merge the two clusters whose union loses least likelihood until one is left; every cluster met is a question.

    count (P,), moments (P, 2 D) by phone id; phones: the ids to cluster. Returns sorted phone sets, single phones first,
    without the full set.
    """
    sets: list[tuple[int, ...]] = [(p,) for p in phones]
    n, m = count[phones].astype(np.float64), moments[phones].astype(np.float64)
    found = list(sets)
    while len(sets) > 2:
        own = log_likelihood(n, m)
        together = log_likelihood(n[:, None] + n[None, :], m[:, None, :] + m[None, :, :])
        loss = own[:, None] + own[None, :] - together
        loss[np.tril_indices(len(sets))] = np.inf
        i, j = divmod(int(np.argmin(loss)), len(sets))
        merged = tuple(sorted(sets[i] + sets[j]))
        keep = [k for k in range(len(sets)) if k not in (i, j)]
        sets = [sets[k] for k in keep] + [merged]
        n = np.append(n[keep], n[i] + n[j])
        m = np.concatenate([m[keep], (m[i] + m[j])[None]])
        found.append(merged)
    return found


def question_table(sets: list[tuple[int, ...]], size: int, sil: int) -> np.ndarray:
    """Bool (Q, size): membership by phone id; 0, the utterance's edge, belongs to silence's sets. Duplicates are dropped."""
    rows: list[np.ndarray] = []
    for members in sets:
        row = np.zeros(size, bool)
        row[list(members)] = True
        row[0] = row[sil]
        if not any(np.array_equal(row, r) for r in rows):
            rows.append(row)
    return np.stack(rows)
