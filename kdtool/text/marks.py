"""Marks in a text that are no words.  In: a line.  Out: the line without them, counted by kind; markup, which is refused.

Sentence marks: <s>, </s> (SRILM, Sphinx), !ENTER and the like (HTK), the utterance id behind them in Sphinx' transcripts. The
unknown word: <unk> in any case, HTK's !!UNK. Tags: [LAUGHTER], <noise>, ++BREATH++, !SIL as one token. Markup: HTML and XML tags,
entities, times of subtitles.
"""

import re
from html.entities import html5

from kdtool.text.clean import Counts, clean, said

UNKNOWN_WORD = "<UNK>"  # the toolkit's unknown word
SENTENCE, UNKNOWN, TAG = "sentence mark (<s> </s>) left out", "unknown word (<unk>)", "tag of a noise ([LAUGHTER], <noise>) left out"
UTTERANCE, NOT_SAID = "utterance id behind </s> left out", "token of punctuation alone left out"
MARKING = "<[+!"  # a mark has one of these
LONGEST_WORD = 100  # characters; longer ones are lines without blanks, or no text
TAGS = re.compile(r"<[^<>\s]*>|\[[^\[\]\s]*\]|\+\+[^+\s]+\+\+|!SIL|!NULL")
_SENTENCE = re.compile(r"</?s>|(?-i:!(?:SENT_START|SENT_END|ENTER|EXIT))", re.IGNORECASE)  # those with ! are HTK's
_UNKNOWN = re.compile(r"<unk>|\[unk\]|(?-i:!!UNK)", re.IGNORECASE)
_GLUED = re.compile(r"(<(?:/?s|unk)>)", re.IGNORECASE)
_SPHINX = re.compile(r"(\s*<s>.*</s>)\s*\([^()\s]+\)\s*", re.IGNORECASE)
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_ATTRIBUTES = r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s<>]+))*"
_TAG = re.compile(rf"<(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9]*)(?P<class>\.[\w.]+)?(?P<more>{_ATTRIBUTES})\s*(?P<self>/?)>")
_OTHER = re.compile(r"<\d\d:\d\d(:\d\d)?[.,]\d+>|\d\d:\d\d[.,]\d+\s*-->|<!--|<\?xml|<!DOCTYPE", re.IGNORECASE)
# Names that only HTML has, and those that may also be a noise (<b> breath, <p> pause) if alone.
_HTML = frozenset([
    "html", "head", "body", "title", "div", "span", "font", "br", "hr", "em", "strong", "big", "small", "sub", "sup", "table", "tr", "td",
    "th", "ul", "ol", "li", "img", "script", "style", "blockquote", "pre", "code", "center", "strike", "del", "ins", "ruby", "rt",
    "h1", "h2", "h3", "h4", "h5", "h6",
])  # fmt: skip
_MAY_BE_HTML = frozenset(["a", "b", "i", "u", "p", "q", "v", "c", "tt", "lang"])


def markup(text: str) -> str:
    """The first piece of markup in a text, '' if there is none: '<b>', '&amp;'.

    Tags with other names (<unk>, <noise>) are not markup, nor is a lone <b> or <p>, which transcribers write for breath and pause.
    """
    if "<" not in text and "&" not in text and "-->" not in text:
        return ""
    for entity in _ENTITY.finditer(text):
        if entity[1].startswith("#") or entity[1] + ";" in html5:
            return entity[0]
    if other := _OTHER.search(text):
        return other[0]
    for found in _TAG.finditer(text):
        name = found["name"].lower()
        beside = text[max(0, found.start() - 1) : found.start()] + text[found.end() : found.end() + 1]
        as_html = found["close"] or found["self"] or found["class"] or beside.strip()
        if found["more"] or name in _HTML or (name in _MAY_BE_HTML and as_html):
            return found[0]
    return ""


def sentence_mark(token: str) -> bool:
    """Whether a token is <s> or </s>."""
    return _SENTENCE.fullmatch(token) is not None


def without_marks(text: str, counts: Counts, *, unknown: str = "", tags: bool = False) -> str:
    """A line without sentence marks; single blanks. unknown: replacement of <unk>, '' to remove it; tags: also remove tags of noises and
    count them; False leaves them as words."""
    if not any(c in text for c in MARKING):
        return " ".join(text.split())
    if sphinx := _SPHINX.fullmatch(text):
        counts[UTTERANCE] += 1
        text = sphinx[1]
    kept = []
    for token in _GLUED.sub(r" \1 ", text).split():
        if sentence_mark(token):
            counts[SENTENCE] += 1
        elif _UNKNOWN.fullmatch(token):
            counts[UNKNOWN] += 1
            kept += [unknown] * bool(unknown)
        elif tags and TAGS.fullmatch(token):
            counts[TAG] += 1
        else:
            kept.append(token)
    return " ".join(kept)


def transcript(text: str, counts: Counts) -> str:
    """A transcript's words: clean, without sentence marks and unspoken tokens; <unk> becomes the toolkit's unknown word."""
    if text.isascii() and text.isprintable() and not any(c in text for c in MARKING):
        return spoken(text, counts)
    return spoken(without_marks(clean(text, counts), counts, unknown=UNKNOWN_WORD), counts)


def spoken(text: str, counts: Counts) -> str:
    """The line without tokens of punctuation only; single blanks."""
    tokens = text.split()
    kept = [t for t in tokens if said(t)]
    counts[NOT_SAID] += len(tokens) - len(kept)
    return " ".join(kept)


def words_fault(text: str) -> str:
    """What cannot be a word in a transcript, and what to do; '' for none."""
    if found := markup(text):
        return f"{text[:60]!r} holds markup ({found}); give the words alone, as plain text"
    if long := next((w for w in text.split() if len(w) > LONGEST_WORD), ""):
        return f"a word of {len(long)} characters ({long[:20]}..), more than {LONGEST_WORD}; put blanks between its words"
    return ""
