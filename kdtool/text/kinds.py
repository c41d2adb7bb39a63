"""Recognises files that are no plain text despite their name.  In: a file's text.  Out: what it is and what to do, or ''.

Subtitles (SRT, WebVTT, SubStation, LRC), labels with times (HTK, MLF, Audacity, TextGrid, CTM, STM, RTTM, ELAN), and JSON,
XML, RTF, ARPA. A transcript with numbers is not mistaken for these: every line has to match, with ascending times.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from kdtool.core.encoding import other_encoding
from kdtool.core.errors import KdError
from kdtool.core.tables import first_lines
from kdtool.text.marks import words_fault

_CUE = re.compile(r"^\s*(\d+:)?\d{1,2}:\d{2}[,.]\d{1,3}\s*-->\s*(\d+:)?\d{1,2}:\d{2}[,.]\d{1,3}", re.MULTILINE)
_LRC = re.compile(r"\[\d{1,3}:\d{2}([.:]\d{1,3})?\].*|\[[a-z]+:.*\]")
_NUMBER = r"\d+(?:\.\d+)?"
_SECONDS = re.compile(r"(\d+\.\d+)\s+(\d+\.\d+)(\s.*)?")
_CTM = re.compile(rf"\S+\s+\S{{1,2}}\s+\d+\.\d+\s+{_NUMBER}\s+\S+(\s+[\d.eE+-]+(\s+\S+){{0,2}})?")
_STM = re.compile(rf"\S+\s+\S{{1,2}}\s+\S+\s+\d+\.\d+\s+{_NUMBER}(\s+<[^<>]*>)?\s.*")
_RTTM = re.compile(r"(SPEAKER|SPKR-INFO|LEXEME) \s*\S+\s+\d+\s+\S+\s+\S+\s+\S+\s+\S+\s+\S+(\s+\S+){0,2}")
_HTK = re.compile(r"(\d+)\s+(\d+)\s+\S.*")
_SHORTEST = 100_000  # HTK counts in 100 ns: a file that ends before 10 ms is a text with numbers
ADVICE = "give the words alone, as plain text"


def file_kind(text: str) -> str:
    """The kind of a text file, with what to do; '' for plain text."""
    start = text.lstrip("\ufeff \t\r\n").replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in start.split("\n") if line.strip()]
    kind = _by_start(start) or _by_lines(lines)
    return f"{kind}, not plain text; {ADVICE}" if kind else ""


def plain_fault(path: Path, text: str) -> str:
    """Describe non-plain content of a transcript file, with file and line, and what to do; '' for none."""
    if kind := file_kind(text):
        return f"{path}: {kind}"
    lines = enumerate(text.split("\n"), 1)
    return next((f"{path}, line {n}: {fault}" for n, line in lines if (fault := words_fault(line))), "")


def check_plain(path: Path) -> None:
    """Check the beginning of a large text, plain or .gz. Raises KdError: another encoding, or no plain text; says what it looks like."""
    data = first_lines(path, 1 << 16)
    if fault := other_encoding(path, data):
        raise KdError(fault)
    if kind := file_kind(data.decode("utf-8")):
        raise KdError(f"{path}: {kind}")


def _by_start(text: str) -> str:
    """The kind by the first characters, with which no transcript begins."""
    low = text[:200].lower()
    if "ootextfile" in low or re.match(r'"?praat', low):
        return "a Praat TextGrid or other Praat file"
    for start, kind in (
        ("webvtt", "a subtitle file (WebVTT)"), ("[script info]", "a subtitle file (SubStation Alpha)"),
        ("#!mlf!#", "an HTK master label file"),
        ("<?xml", "an XML file (ELAN, Transcriber, TTML ..)"), ("<!doctype", "an HTML page"), ("<html", "an HTML page"),
        ("{\\rtf", "a rich-text file (RTF)"), ("\\data\\", "a language model (ARPA)"), ("%pdf-", "a PDF file"),
    ):  # fmt: skip
        if low.startswith(start):
            return kind
    return "a JSON file" if _json(text) else ""


def _json(text: str) -> bool:
    if not (text.startswith("{") and text.rstrip().endswith("}")) and not text.startswith(('["', "[{")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _by_lines(lines: Sequence[str]) -> str:
    if cue := _CUE.search("\n".join(lines)):
        return "a subtitle file (SRT)" if "," in cue[0] else "a subtitle file (WebVTT)"
    if _rising(lines, _HTK, _SHORTEST):
        return "an HTK label file (start and end in 100 ns, label)"
    if _rising(lines, _SECONDS, 0):
        return "a label file in seconds (start, end, label, as of Audacity)"
    table = [line for line in lines if not line.startswith(";;")]
    # Start times have a decimal point: a sentence may hold other numbers.
    kinds = {"a subtitle file (LRC lyrics)": _LRC, "an STM file": _STM, "a CTM file (word times)": _CTM, "an RTTM file": _RTTM}
    return next((kind for kind, form in kinds.items() if table and all(map(form.fullmatch, table))), "")


def _rising(lines: Sequence[str], form: re.Pattern[str], shortest: float) -> bool:
    """Whether all lines are consecutive segments that end at `shortest` or later. A single one must begin at 0: a sentence may begin with
    two numbers."""
    first, last = -1.0, 0.0
    for line in lines:
        if not (match := form.fullmatch(line)):
            return False
        start, end = float(match[1]), float(match[2])
        if not last <= start <= end:
            return False
        first, last = start if first < 0 else first, end
    return bool(lines) and last >= shortest and (len(lines) > 1 or first == 0)
