"""Recognises files by their first bytes.  In: bytes, the name.  Out: why it is not read and the command that helps, or ''."""

from pathlib import Path

from kdtool.audio.faults import CONVERT

# Suffixes that mark audio in a folder. The content decides the format.
AUDIO = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mpga", ".aiff", ".aif", ".aifc", ".au", ".snd", ".sph", ".nist",
    ".wv1", ".wv2", ".w64", ".rf64", ".caf", ".gsm", ".voc",
)  # fmt: skip
CONVERTED = (  # audio and video that must be converted first
    ".m4a", ".m4b", ".aac", ".mp4", ".m4v", ".mov", ".3gp", ".wma", ".wmv", ".asf", ".amr", ".awb", ".webm", ".mkv", ".mka", ".avi",
    ".flv", ".mpg", ".mpeg", ".ape", ".wv", ".tta", ".mpc", ".ac3", ".dts", ".ra", ".rm", ".spx", ".dsf", ".dff", ".qcp", ".sd2",
)  # fmt: skip
HEADERLESS = (".raw", ".pcm", ".sw", ".s16", ".s16le", ".vox", ".ul", ".al", ".ulaw", ".alaw")
RAW_COMMAND = "sox -t raw -r RATE -e signed -b 16 -c 1 IN OUT.wav"

# Bytes at the beginning, and what it is; bytes further on
FOREIGN = {
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "WMA or WMV (ASF)", b"#!AMR": "AMR", b"#!SILK": "SILK", b"\x02#!SILK": "SILK",
    b"\x1a\x45\xdf\xa3": "WebM or Matroska", b"FLV\x01": "Flash video", b"\x00\x00\x01\xba": "MPEG video", b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack", b"TTA1": "True Audio", b"MP+": "Musepack", b"MPCK": "Musepack", b"\x0b\x77": "AC-3", b"\x7f\xfe\x80\x01": "DTS",
    b".RMF": "RealAudio", b".ra\xfd": "RealAudio", b"ADIF": "AAC", b"\xf0\x7e": "a MIDI sample dump", b"DSD ": "DSD", b"FRM8": "DSD",
}  # fmt: skip
LATER = ((4, b"ftyp", "MP4, M4A or MOV (AAC)"), (4, b"moov", "MOV"), (4, b"mdat", "MOV"), (8, b"AVI ", "AVI video"), (8, b"QLCM", "QCELP"))
OGG = {b"\x7fFLAC": "FLAC in Ogg", b"Speex   ": "Speex", b"\x80theora": "Ogg video", b"fishead\0": "Ogg video", b"BBCD\0": "Ogg video"}
OTHER = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the audio; fetch it with: git lfs pull"),
    (b"\x1f\x8b", "is a gzip file; unpack it first: gunzip"),
    (b"BZh", "is a bzip2 file; unpack it first: bunzip2"),
    (b"\xfd7zXZ", "is an xz file; unpack it first: unxz"),
    (b"PK\x03\x04", "is a zip file; unpack it first: unzip"),
    (b"7z\xbc\xaf", "is a 7z file; unpack it first: 7z x"),
    (b"Rar!", "is a rar file; unpack it first: unrar x"),
    (b"MThd", "is a MIDI file: notes, no sound; use a recording"),
    (b"<", "is a web page or XML, not audio; fetch the audio again"),
    (b"%PDF", "is a PDF file, not audio; fetch the audio again"),
)


def foreign(head: bytes) -> str:
    """'is WMA, which is not read; convert it: ..' if the first bytes (64 or more) are of unsupported audio or video; else ''."""
    places = [*LATER, *((0, mark, name) for mark, name in FOREIGN.items())]
    places += [(28, mark, name) for mark, name in OGG.items() if head.startswith(b"OggS")]
    name = next((name for offset, mark, name in places if head.startswith(mark, offset)), "")
    if not name and len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        name = "AAC"
    return name and f"is {name}, which is not read; convert it: {CONVERT}"


def other(head: bytes) -> str:
    """'is a zip file; unpack it first' if the first bytes are of a known non-audio format; else ''."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((fault for mark, fault in OTHER if start.startswith(mark)), "")


def unknown(path: Path, head: bytes) -> str:
    """Message for an unknown format."""
    suffix = path.suffix.lower()
    if suffix in CONVERTED:
        return f"({suffix}) is not read; convert it: {CONVERT}"
    if suffix in HEADERLESS:
        return f"({suffix}) has no header that says its rate and coding; write it as WAV, if it is 16-bit: {RAW_COMMAND}"
    return (f"cannot be decoded: it begins with {head[:8].hex(' ')}, which no known audio format does; fetch it again, or convert it: "
            f"{CONVERT} (audio without a header: {RAW_COMMAND})")  # fmt: skip
