"""What Kaldi's own GMM code (the wheel kaldi-hmm-gmm) makes of given frames.  In: a .npz file.  Out: another one.

A program of its own: once kaldi-decoder has been imported, importing kaldi-hmm-gmm never returns.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


def gmms(given: Arrays, khg: Any) -> Any:
    """The model: means, variances (G, D), weights (G,), offsets (num_pdfs + 1,)."""
    model = khg.AmDiagGmm()
    for a, b in zip(given["offsets"][:-1], given["offsets"][1:], strict=True):
        one = khg.DiagGmm(nmix=int(b - a), dim=given["means"].shape[1])
        one.set_weights(given["weights"][a:b].astype(np.float32))
        one.set_invvars_and_means((1.0 / given["variances"][a:b]).astype(np.float32), given["means"][a:b].astype(np.float32))
        one.compute_gconsts()
        model.add_pdf(one)
    return model


def parameters(model: Any) -> dict[str, np.ndarray]:
    pdfs = [model.get_pdf(j) for j in range(model.num_pdfs)]
    return {
        "sizes": np.array([p.num_gauss for p in pdfs]), "weights": np.concatenate([np.array(p.weights).reshape(-1) for p in pdfs]),
        "means": np.concatenate([np.array(p.means) for p in pdfs]), "variances": np.concatenate([np.array(p.vars) for p in pdfs]),
    }  # fmt: skip


def statistics(given: Arrays, model: Any, khg: Any, two_views: bool) -> Any:
    """One E-step over frames x (T, D) aligned to pdf (T,), moments of `other` (T, D) if there are two views."""
    acc = khg.AccumAmDiagGmm()
    acc.init(model, khg.str_to_gmm_flags("mvw"))
    for x, other, pdf in zip(given["x"], given["other"], given["pdf"].tolist(), strict=True):
        if two_views:
            acc.accumulate_for_gmm_two_feats(model, x, other, pdf, 1.0)
        else:
            acc.accumulate_for_gmm(model, x, pdf, 1.0)
    return acc


def sums(acc: Any) -> dict[str, np.ndarray]:
    parts = [acc.get_acc(j) for j in range(acc.num_accs)]
    moments = [np.concatenate([p.variance_accumulator, p.mean_accumulator], axis=1) for p in parts]
    gamma = np.concatenate([np.array(p.occupancy).reshape(-1) for p in parts])
    return {"gamma": gamma, "moments": np.concatenate(moments), "loglike": np.array(acc.tot_log_like)}


def em(given: Arrays, khg: Any) -> dict[str, np.ndarray]:
    """Likelihoods, statistics, the updated model, and the given model with more Gaussians."""
    model = gmms(given, khg)
    out = {"scores": np.array([model.log_likelihood(j, x) for x, j in zip(given["x"], given["pdf"].tolist(), strict=True)])}
    acc = statistics(given, model, khg, two_views=False)
    out |= {f"stats.{n}": v for n, v in sums(acc).items()}
    out |= {f"two.{n}": v for n, v in sums(statistics(given, model, khg, two_views=True)).items()}
    options = khg.MleDiagGmmOptions(min_variance=float(given["floor"]))
    khg.mle_am_diag_gmm_update(options, acc, khg.str_to_gmm_flags("mvw"), model)
    out |= {f"updated.{n}": v for n, v in parameters(model).items()}
    more = gmms(given, khg)
    total, power, least = (given[n].item() for n in ("total", "power", "min_count"))
    more.split_by_count(given["occupancy"].astype(np.float32), int(total), 0.01, power, least)
    out |= {f"split.{n}": v for n, v in parameters(more).items()}
    return out | {"just_enough": np.array([ways(frames, power, khg) for frames in (100.0, 101.0)])}


def ways(frames: float, power: float, khg: Any) -> int:
    """The most Gaussians that a pdf gets, at 20 frames or more for each."""
    one = {"offsets": np.array([0, 1]), "weights": np.ones(1), "means": np.zeros((1, 2)), "variances": np.ones((1, 2))}
    model = gmms(one, khg)
    model.split_by_count(np.array([frames], np.float32), 50, 0.01, power, 20.0)
    return int(model.num_gauss)


def merges(phones: Sequence[int], clusters: Sequence[Any]) -> list[list[int]]:
    """The phone sets that bottom-up clustering makes, by the smallest loss in likelihood; two clusters are left."""
    sets, made = [([p], c) for p, c in zip(phones, clusters, strict=True)], []
    while len(sets) > 2:
        pairs = [(i, j) for i in range(len(sets)) for j in range(i + 1, len(sets))]
        i, j = min(pairs, key=lambda p: sets[p[0]][1].distance(sets[p[1]][1]))
        sets[i][1].add(sets[j][1])
        made.append(sorted(sets[i][0] + sets[j][0]))
        sets = [s for n, s in enumerate(sets) if n not in (i, j)] + [(made[-1], sets[i][1])]
    return made


def tree(given: Arrays, khg: Any) -> dict[str, np.ndarray]:
    """Statistics of each context (K, 4) from frames' keys (T, 4); each node's gain by each side and question, -inf where too few frames."""

    def cluster() -> Any:
        return khg.GaussClusterable(dim=given["x"].shape[1], var_floor=float(given["tree_floor"]))

    def joined(indices: np.ndarray) -> Any:
        whole = cluster()
        for n in indices:
            whole.add(contexts[n])
        return whole

    contexts = [cluster() for _ in given["contexts"]]
    for x, n in zip(given["x"].astype(np.float64), given["which"], strict=True):
        contexts[n].add_stats(x, 1.0)
    gains = np.full((len(given["nodes"]), 3, len(given["table"])), -np.inf)
    for node, rows in enumerate(given["nodes"]):
        inside = np.flatnonzero(rows)
        whole = joined(inside)
        for side, column in enumerate((0, 2, 1)):
            for q, members in enumerate(given["table"]):
                answer = members[given["contexts"][inside, column]]
                yes, no = joined(inside[answer]), joined(inside[~answer])
                if min(yes.count(), no.count()) >= given["leaf_count"]:
                    gains[node, side, q] = yes.objf() + no.objf() - whole.objf()
    phones = given["phones"].tolist()
    sets = merges(phones, [joined(np.flatnonzero(given["contexts"][:, 1] == p)) for p in phones])
    moments = [np.concatenate([np.array(c.x2_stats()).reshape(-1), np.array(c.x_stats()).reshape(-1)]) for c in contexts]
    member = np.array([[p in s for p in range(given["table"].shape[1])] for s in sets])
    return {"tree.moments": np.stack(moments), "tree.count": np.array([c.count() for c in contexts]),
            "tree.objf": np.array([c.objf() for c in contexts]), "tree.gains": gains, "tree.merges": member}  # fmt: skip


if __name__ == "__main__":
    import kaldi_hmm_gmm

    source = dict(np.load(sys.argv[1]))
    np.savez(sys.argv[2], **em(source, kaldi_hmm_gmm), **tree(source, kaldi_hmm_gmm))
