"""Reading data/lang.  In: the folder made by kdtool.lang.prepare.  Out: phones, words, pronunciations, topology, subwords."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kdtool.core.digest import combine
from kdtool.core.errors import KdError
from kdtool.core.tables import read_lines, read_table
from kdtool.core.tensors import file_digest
from kdtool.lang.positions import MARKS, POSITIONS_FILE, plain_name, read_positions
from kdtool.lang.probs import LEXICON_PROBS, SILENCE_PROBS, LexiconProbs

Prons = dict[str, list[tuple[int, ...]]]


@dataclass
class Lang:
    """A language folder in memory.

    Attributes:
        phones, words, subwords: symbol -> id (phones and words: <eps> is 0; subwords: sentencepiece's ids); phone_names: symbol by id.
        prons: the decoding lexicon: word -> pronunciations as phone ids, <UNK> included; oov: the word for those outside it.
        sil, spn, silence_ids: the silence and spoken-noise phones.
        num_states: HMM states of each phone id (strict left-to-right, self-loop on each).
    """

    folder: Path
    phones: dict[str, int]
    phone_names: list[str]
    prons: Prons
    words: dict[str, int]
    sil: int
    spn: int
    silence_ids: set[int]
    num_states: dict[int, int]
    oov: str
    subwords: dict[str, int]

    @classmethod
    def load(cls, folder: Path | str) -> "Lang":
        """Read and check a language folder. Raises KdError: it is no language folder, or its tables contradict each other; names file
        and line."""
        folder = Path(folder)
        if not (folder / "phones.txt").is_file():
            raise KdError(f"{folder}: no language folder (phones.txt is missing); run steps/prepare_lang.sh first")
        phones, words = read_table(folder / "phones.txt"), read_table(folder / "words.txt")
        names = sorted(phones, key=phones.__getitem__)
        if [phones[n] for n in names] != list(range(len(names))) or names[:1] != ["<eps>"]:
            raise KdError(f"{folder}/phones.txt: ids must be 0 (<eps>), 1, 2 .. without gaps; prepare the lang again")
        silence = [line.strip() for line in read_lines(folder / "silence_phones.txt") if line.strip()]
        if missing := [p for p in silence if p not in phones]:
            raise KdError(f"{folder}/silence_phones.txt: {missing[0]} is not in phones.txt; prepare the lang again")
        if len(silence) < 2:
            raise KdError(f"{folder}/silence_phones.txt: {len(silence)} phones, expected are silence and noise; prepare the lang again")
        oov = "".join(read_lines(folder / "oov.txt")[:1]).strip()
        prons = read_prons(folder / "lexicon.txt", phones)
        if strange := [w for w in prons if w not in words]:
            raise KdError(f"{folder}/lexicon.txt: {strange[0]} is not in words.txt; prepare the lang again")
        if oov not in prons:
            raise KdError(f"{folder}/lexicon.txt: {oov} of oov.txt has no pronunciation; prepare the lang again")
        topo = read_table_any(folder / "topo.txt")
        if strange := sorted(({*phones} - {"<eps>"}) ^ {*topo}):
            raise KdError(f"{folder}/topo.txt: {strange[0]} is in one of topo.txt and phones.txt only; prepare the lang again")
        states = {phones[p]: n for p, n in topo.items()}
        return cls(
            folder, phones, names, prons, words, phones[silence[0]], phones[silence[1]], {phones[p] for p in silence},
            states, oov, read_table(folder / "subwords.txt"),
        )  # fmt: skip

    @cached_property
    def text_prons(self) -> Prons:
        """Pronunciations of all words of the LM text that have one: `prons` and the words beyond the vocabulary. For LMs over phones or
        senones, which would lose most sentences if one rare word removed the whole sentence."""
        return {**read_prons(self.folder / "text_lexicon.txt", self.phones), **self.prons}

    @cached_property
    def positions(self) -> dict[str, str]:
        """Each phone's position in words (see `kdtool.lang.positions`); empty where phones have none."""
        return read_positions(self.folder, self.phones)

    @cached_property
    def plain_names(self) -> list[str]:
        """Phone symbol by id, without the position in the word."""
        return [plain_name(p, self.positions) for p in self.phone_names]

    @cached_property
    def family(self) -> dict[int, int]:
        """Phone id -> the smallest id with the same plain phone; itself if phones have no positions. Raises KdError: phones of one
        family with different numbers of HMM states."""
        first: dict[str, int] = {}
        family = {p: first.setdefault(self.plain_names[p], p) for p in sorted(self.num_states)}
        if odd := [p for p, head in family.items() if self.num_states[p] != self.num_states[head]]:
            raise KdError(f"{self.folder}/topo.txt: {self.phone_names[odd[0]]} and {self.phone_names[family[odd[0]]]} differ in their "
                          "numbers of states, but share them in trees; make them equal")  # fmt: skip
        return family

    @property
    def position_sets(self) -> list[tuple[int, ...]]:
        """Phone ids of each position: questions for a tree. Empty if phones have no positions."""
        return [tuple(self.phones[p] for p, kind in self.positions.items() if kind == m) for m in MARKS if self.positions]

    @cached_property
    def probs(self) -> LexiconProbs | None:
        """Pronunciation and silence probabilities; None if not estimated."""
        return LexiconProbs.load(self.folder, self.phones, self.prons)

    @cached_property
    def bpe(self) -> Any:
        """The sentencepiece processor (sentencepiece is imported on first use)."""
        import sentencepiece

        path = self.folder / "bpe.model"
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except (OSError, RuntimeError) as e:
            raise KdError(f"{path}: unreadable sentencepiece model ({e}); delete {self.folder} and prepare the lang again") from e

    @cached_property
    def digest(self) -> str:
        """Digest of the content: phones, words, pronunciations with their probabilities, topology and subwords."""
        names = ["phones.txt", "words.txt", "lexicon.txt", "topo.txt", "silence_phones.txt", "oov.txt", "bpe.model"]
        names += [LEXICON_PROBS, SILENCE_PROBS] if self.probs else []
        names += [POSITIONS_FILE] if self.positions else []
        return combine(file_digest(self.folder / name) for name in names)


def read_prons(path: Path, phones: dict[str, int]) -> Prons:
    """'WORD P1 P2 ..' lines -> phone ids; KdError names the line of a phone that is not in the table."""
    prons: Prons = {}
    for number, line, word, ids in pron_lines(path, phones):
        if ids is None:
            raise KdError(f"{path}, line {number}: {line!r} is not 'WORD PHONE ..' with phones of phones.txt; prepare the lang again")
        prons.setdefault(word, []).append(ids)
    return prons


def pron_lines(path: Path, phones: dict[str, int]) -> Iterator[tuple[int, str, str, tuple[int, ...] | None]]:
    """(line number, line, word, phone ids) of a lexicon's lines; ids are None if the line is not 'WORD PHONE ..'."""
    for number, line in enumerate(read_lines(path), 1):
        word, *names = line.split() or [""]
        good = word and names and all(n in phones for n in names)
        yield number, line, word, tuple(phones[n] for n in names) if good else None


def read_table_any(path: Path) -> dict[str, int]:
    """'symbol number' lines where numbers may repeat (topo.txt)."""
    table: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdigit() or fields[0] in table:
            raise KdError(f"{path}, line {number}: {line!r} is not 'phone states'; prepare the lang again")
        table[fields[0]] = int(fields[1])
    return table
