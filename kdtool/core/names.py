"""Escapes foreign names for tables and messages.  In: any file name.  Out: one line of valid UTF-8.

A file name may hold every byte except '/' and NUL: tabs and newlines, which end a field or a row, terminal escape sequences,
and bytes that are not UTF-8 (Python represents those as lone surrogates).
"""

import unicodedata

SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
ENDING = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, surrogates, ends of a line or paragraph
TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # change the direction of the following text


def is_plain(char: str) -> bool:
    """Whether a character is safe in a table and on a terminal."""
    return unicodedata.category(char) not in ENDING and char not in TURNING


def escaped(name: str) -> str:
    """The name with \\t, \\n, \\xe9 (a byte that is not UTF-8) or \\u2028 for characters that are not plain, and \\\\ for a backslash."""
    return printable(name.replace("\\", "\\\\"))


def printable(text: str) -> str:
    """The same for messages: backslashes stay as they are."""
    return text if text.isprintable() else "".join(c if is_plain(c) else _code(c) for c in text)


def _code(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return SHORT.get(char) or (f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}")


def is_utf8(name: str) -> bool:
    """Whether a name can be written to a UTF-8 file unchanged."""
    return not any("\ud800" <= c <= "\udfff" for c in name)
