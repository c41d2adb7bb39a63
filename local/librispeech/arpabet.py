"""espeak's phoneme mnemonics to ARPAbet.  In: the mnemonics of a word.  Out: phones of the CMU set, without stress.

The table covers the reference voice en-us only: another mnemonic is an error, not a guess.
"""

from collections.abc import Sequence

from kdtool.core.errors import KdError

MARKS = "',%="
# Rhotic vowels are one mnemonic in espeak and two phones in CMUdict; flaps and glottal stops are T there.
PHONES = {
    "0": "AA", "A:": "AA", "A@": "AA R", "a": "AE", "aa": "AE", "@": "AH", "@-": "AH", "@2": "AH", "@L": "AH L", "V": "AH", "a#": "AH",
    "O:": "AO", "O2": "AO", "O@": "AO R", "o@": "AO R", "aU": "AW", "aU@": "AW ER", "aU3": "AW ER", "aI": "AY", "aI3": "AY ER",
    "aI@": "AY AH", "E": "EH", "e@": "EH R", "3": "ER", "3:": "ER", "eI": "EY", "I": "IH", "I#": "IH", "I2": "IH", "i@": "IH R",
    "i@3": "IH R", "i": "IY", "i:": "IY", "oU": "OW", "OI": "OY", "U": "UH", "U@": "UH R", "u:": "UW",
    "b": "B", "tS": "CH", "d": "D", "D": "DH", "f": "F", "g": "G", "h": "HH", "dZ": "JH", "k": "K", "l": "L", "m": "M", "n": "N",
    "n-": "AH N", "N": "NG", "p": "P", "r": "R", "s": "S", "S": "SH", "t": "T", "t#": "T", "t2": "T", "?": "T", "T": "TH", "v": "V",
    "w": "W", "j": "Y", "z": "Z", "Z": "ZH",
    ";": "",  # marks palatal speech of the consonant before it
}  # fmt: skip


def to_arpabet(word: str, mnemonics: Sequence[str]) -> tuple[str, ...]:
    """Phones of a word; an r after a rhotic vowel belongs to it (furry: F ER IY). KdError for an unknown mnemonic, or no phone."""
    phones: list[str] = []
    for mnemonic in mnemonics:
        plain = mnemonic.lstrip(MARKS)
        if plain not in PHONES:
            raise KdError(f"espeak says {word!r} with {plain!r} ({' '.join(mnemonics)}), which has no ARPAbet phone in arpabet.py; "
                          "add it there, or pronounce the word in embedded.yaml")  # fmt: skip
        if plain == "r" and phones and phones[-1] in ("R", "ER"):
            continue
        phones.extend(PHONES[plain].split())
    if not phones:
        raise KdError(f"espeak says nothing for the word {word!r}; pronounce it in embedded.yaml")
    return tuple(phones)
