"""A Kaldi data folder.  In: wav.scp, text, utt2spk, and if present segments, spk2utt, reco2dur, utt2dur.  Out: its utterances.

The utterances are the union of all tables. One that is missing from a table is a fault with a reason; none is dropped
silently. spk2utt and the durations are redundant: they are checked against the other files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.names import is_utf8, printable
from kdtool.corpus.ids import id_fault
from kdtool.corpus.kaldi_tables import Table, read_table, seconds

NEEDED = ("wav.scp", "text", "utt2spk")
FOREIGN = ("wav.scp", "text")  # a value that is not UTF-8 is its utterance's fault
OPTIONAL = ("segments", "spk2utt", "reco2dur", "utt2dur")
SPEAKER_OF_ITS_OWN = "where speakers are not known, make each utterance its own: awk '{print $1, $1}' text > utt2spk"
Fault = tuple[str, str]


@dataclass(frozen=True)
class Span:
    """One utterance in the tables: a part of a recording, `end` None for its end, channel None for its only one."""

    id: str
    speaker: str
    text: str
    recording: str
    start: float
    end: float | None
    channel: int | None
    where: str


@dataclass
class KaldiDir:
    """The tables by name."""

    folder: Path
    tables: dict[str, Table]
    notes: list[str] = field(default_factory=list)

    def duration(self, name: str, key: str) -> float | None:
        """The duration of an id in reco2dur or utt2dur, None if it has none."""
        table = self.tables.get(name)
        return seconds(table.rows[key].value, table.where(key)) if table and key in table.rows else None


def read_dir(folder: Path) -> KaldiDir:
    """Read all tables.

    Raises:
        KdError: the folder or a table is missing or malformed (see read_table), or spk2utt contradicts utt2spk.
    """
    if not folder.is_dir():
        raise KdError(f"{folder}: no such folder; give a Kaldi data folder, which holds {', '.join(NEEDED)}")
    if not (folder / "utt2spk").exists() and (folder / "text").exists():
        raise KdError(f"{folder / 'utt2spk'}: no such file; {SPEAKER_OF_ITS_OWN}")
    names = [*NEEDED, *(n for n in OPTIONAL if (folder / n).exists())]
    kaldi = KaldiDir(folder, {name: read_table(folder / name, empty=name == "text", foreign=name in FOREIGN) for name in names})
    for table in kaldi.tables.values():
        kaldi.notes += table.notes
    if "spk2utt" in kaldi.tables:
        _check_speakers(kaldi.tables["spk2utt"], kaldi.tables["utt2spk"])
    return kaldi


def _check_speakers(spk2utt: Table, utt2spk: Table) -> None:
    """KdError unless both tables pair the same utterances and speakers."""
    pairs: dict[str, str] = {}
    for speaker, row in spk2utt.rows.items():
        for utt in row.value.split():
            if utt in pairs:
                raise KdError(f"{spk2utt.where(speaker)}: utterance {utt} has speaker {pairs[utt]} as well; it can have one")
            pairs[utt] = speaker
    remedy = "spk2utt follows from utt2spk: remove it, or fix the one that is wrong"
    for utt in sorted({*pairs, *utt2spk.rows}):
        one, other = pairs.get(utt), utt2spk.rows[utt].value if utt in utt2spk.rows else None
        if one != other:
            where = utt2spk.where(utt) if other else spk2utt.path
            raise KdError(f"{where}: utterance {utt} has speaker {other or 'none'} in utt2spk and {one or 'none'} in spk2utt; {remedy}")


def spans(kaldi: KaldiDir) -> tuple[list[Span], list[Fault]]:
    """All utterances sorted by id, and (id, reason) of those missing from a table."""
    tables = kaldi.tables
    parts = {utt: _segment(tables["segments"], utt) for utt in tables["segments"].rows} if "segments" in tables else None
    origin = "wav.scp" if parts is None else "segments"
    found, faults = [], []
    for utt in sorted({*tables["text"].rows, *tables["utt2spk"].rows, *tables[origin].rows}):
        lacking = [name for name in ("text", "utt2spk", origin) if utt not in tables[name].rows]
        if lacking:
            there = next(name for name in ("text", "utt2spk", origin) if name not in lacking)
            faults.append((utt, f"{tables[there].where(utt)} has it, {' and '.join(lacking)} not; add a line there, or remove it here"))
            continue
        text = tables["text"].rows[utt].value
        if not is_utf8(text):
            shown = printable(text)[:60]
            faults.append((utt, f"{tables['text'].where(utt)}: '{shown}' is not UTF-8, as the other lines are; write it in UTF-8"))
            continue
        recording, start, end, channel = parts[utt] if parts else (utt, 0.0, None, None)
        where = tables[origin].where(utt)
        if recording not in tables["wav.scp"].rows:
            faults.append((utt, f"{where}: its recording {recording} is not in wav.scp; add it there, or remove the line"))
            continue
        speaker = tables["utt2spk"].rows[utt].value
        if fault := id_fault(speaker):
            raise KdError(f"{tables['utt2spk'].where(utt)}: the speaker id {fault}; rename it")
        found.append(Span(utt, speaker, text, recording, start, end, channel, where))
    return found, faults


def _segment(table: Table, utt: str) -> tuple[str, float, float | None, int | None]:
    """(recording, start, end, channel) of 'utterance recording start end [channel]'; None for the end -1 and for no channel."""
    where, fields = table.where(utt), table.rows[utt].value.split()
    if len(fields) not in (3, 4) or (len(fields) == 4 and not fields[3].isdigit()):
        raise KdError(f"{where}: {' '.join([utt, *fields])!r} is not 'utterance recording start end [channel]'; fix the line")
    start, end = (seconds(f, where) for f in fields[1:3])
    return fields[0], start, None if end == -1 else end, int(fields[3]) if len(fields) == 4 else None
