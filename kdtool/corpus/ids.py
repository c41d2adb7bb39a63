"""The rule for ids of utterances, recordings and speakers.  In: an id.  Out: what is wrong with it, '' for nothing.

Ids become file names (features), fields of tables (CTM, TSV, Kaldi's text files) and keys of tensors. An id that breaks one of
these is refused when the data is imported: nothing needs escaping later, and no id can lead out of a folder.
"""

from __future__ import annotations

MAX_BYTES = 200  # file systems allow 255 bytes for a name; suffixes such as '_sp0.9.npy' need room


def id_fault(name: object) -> str:
    """'' for a good id, else what is wrong with it in words."""
    if not isinstance(name, str) or not name:
        return f"{name!r} is no text"
    if "/" in name or "\\" in name:
        return f"{name!r} holds a slash, which no file name can"
    if any(c.isspace() or not c.isprintable() for c in name):
        return f"{name!r} holds a blank or a control character, which ends a field in tables"
    if name[0] in ".-":
        return f"{name!r} begins with '{name[0]}': as a file name it would be hidden, another folder, or an option"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"{name[:40]!r}.. has more than {MAX_BYTES} bytes, too many for a file name"
    return ""
