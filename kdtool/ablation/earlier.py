"""Errors of single utterances, as ablation.json keeps them, so that students that are gone can still be compared with.

In: per-utterance errors of decodes, and an earlier ablation.json.  Out: the same with what was taken over from it.
"""

from __future__ import annotations

from typing import Any

from kdtool.core.errors import KdError

Results = dict[str, list[dict[str, Any]]]


class Scored:
    """The utterances and reference words of each set and rate ("per" counts phones), the same for all decodes of it."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str], tuple[str, list[str], list[int]]] = {}

    def errors(self, name: str, rate: str, decode: str, own: dict[str, tuple[int, int]]) -> str:
        """A decode's errors, utterances sorted, space-separated; KdError unless it scores what the others of that set do.

        own: utterance -> (errors, reference words).
        """
        ids = sorted(own)
        words = [own[u][1] for u in ids]
        first, known, counts = self.places.setdefault((name, rate), (decode, ids, words))
        if (ids, words) != (known, counts):
            raise KdError(f"{decode} and {first} score other utterances or references ({len(ids)} and {len(known)}); decode both "
                          "again on the same set")  # fmt: skip
        return " ".join(str(own[u][0]) for u in ids)

    def words(self, name: str, rate: str) -> list[int]:
        """Reference words of each utterance."""
        return self.places[name, rate][2]

    def as_json(self) -> dict[str, dict[str, str]]:
        """"SET RATE" -> {ids, words}, space-separated."""
        return {f"{name} {rate}": {"ids": " ".join(ids), "words": " ".join(map(str, words))}
                for (name, rate), (_, ids, words) in sorted(self.places.items())}  # fmt: skip


def take_over(
    old: dict[str, Any], path: str, planned: dict[str, set[str]], made: dict[str, list[dict[str, Any]]], results: Results, scored: Scored
) -> list[str]:
    """Add to ``made`` and ``results`` the students of an earlier ablation.json that are not there; returns their SYSTEM_SEED names.

    Args:
        planned: system -> digests of the options that it may have; an earlier student with others is left where it is.

    Raises:
        KdError: it was collected before errors were kept, or it scores other utterances of a set that is decoded here.
    """
    if "scored" not in old:
        raise KdError(f"{path}: it has no errors of single utterances, an older kdtool made it; leave --earlier out, or collect it again")
    taken = []
    for system in old["systems"]:
        name = system["name"]
        there = {student["seed"] for student in made.get(name, [])}
        new = [st for st in system["students"] if st["seed"] not in there and st["options"] in planned.get(name, set())]
        for student in new:
            made[name] = sorted([*made[name], student], key=lambda st: int(st["seed"]))
            taken.append(f"{name}_{student['seed']}")
            for result in system["results"]:
                for run in (run for run in result["runs"] if run["seed"] == student["seed"]):
                    _add(results[name], result, run, scored, old["scored"][f"{result['set']} {result['rate']}"], path)
    return sorted(taken)


def _add(own: list[dict[str, Any]], result: dict[str, Any], run: dict[str, Any], scored: Scored, place: dict[str, str], path: str) -> None:
    """One run of an earlier result into this one's results of its system."""
    errors = [int(n) for n in run["errors"].split()]
    words = map(int, place["words"].split())
    table = {u: (n, count) for u, n, count in zip(place["ids"].split(), errors, words, strict=True)}
    scored.errors(result["set"], result["rate"], f"{path}: {run['decode']}", table)
    key = ("set", "lm", "first_pass_lm")
    same = next((r for r in own if all(r[k] == result[k] for k in key)), None)
    if same is None:
        same = {k: result[k] for k in (*key, "rate", "words", "utterances")} | {"runs": []}
        own.append(same)
        own.sort(key=lambda r: tuple(r[k] for k in key))
    same["runs"] = sorted([*same["runs"], run], key=lambda r: int(r["seed"]))
