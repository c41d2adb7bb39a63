"""Steps that make the sets of a corpus.  In: its utterances by set.  Out: a data folder with Lhotse manifests per set."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdtool.core.cli import Common
from kdtool.core.errors import UsageError
from kdtool.core.ownership import check_unasked
from kdtool.core.step import run_step
from kdtool.corpus.manifests import choose, write_set
from kdtool.corpus.utterance import Limits, Utterance


@dataclasses.dataclass(frozen=True)
class CorpusSet:
    """One set: the data folder ``out`` from ``inputs``, at most ``count`` utterances (0: all), speakers in turn.

    ``scanned``: its utterances, and (id, reason) of those without audio or transcript. ``place``: folder of the corpus.
    """

    out: Path
    place: Path
    inputs: Mapping[str, Path]
    scanned: tuple[Sequence[Utterance], Sequence[tuple[str, str]]]
    count: int

    def make(self, limits: Limits, max_dropped: float, code: Sequence[str], common: Common) -> None:
        """Make the folder. A limited set reads only the chosen utterances; missing audio or text counts everywhere."""
        where, (utterances, faults) = f"corpus {self.out.name}", self.scanned
        chosen = choose(utterances, self.count)

        def body(work: Path) -> None:
            write_set(work, chosen, faults, limits, max_dropped=max_dropped, nj=common.nj, where=where)

        # The manifests name the audio by path, so the path counts beside the content.
        options = {**dataclasses.asdict(limits), "max_dropped": max_dropped, "count": self.count, "place": str(self.place)}
        run_step(where, out=self.out, inputs=self.inputs, options=options, code=("kdtool.corpus", *code), body=body, common=common)


def make_sets(sets: Sequence[CorpusSet], limits: Limits, max_dropped: float, code: Sequence[str], common: Common) -> None:
    """Make all sets; UsageError before the first one if a folder cannot be made or ``max_dropped`` is no share."""
    if not 0 <= max_dropped < 1:
        raise UsageError(f"--max-dropped {max_dropped}: a share from 0 to less than 1")
    for one in sets:
        check_unasked(one.out)
    for one in sets:
        one.make(limits, max_dropped, code, common)
