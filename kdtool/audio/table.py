"""The treatment of all kinds of audio files as one table.  In: nothing.  Out: the table of egs/kaldi_dir/README.md.

Each row is checked by a case of tests/unit/test_audio_table.py. `python -m kdtool.audio.table` prints the table.
"""

from __future__ import annotations

ROWS = {
    "integers of 8 (signed or not), 16, 24 or 32 bits": "read; full scale is 1.0",
    "float of 32 or 64 bits": "read as it is, above 1.0 with a note",
    "float with a peak above 16": "error: integers that were not scaled, with the command that scales them",
    "a sample that is NaN or infinite": "error: which sample, at what second, of which channel",
    "mu-law, A-law, ADPCM (IMA, Microsoft), GSM 6.10": "read; ADPCM and GSM in whole blocks",
    "WAV, RF64, W64, AIFF, CAF, AU, NIST sphere, FLAC, Ogg Vorbis, Opus, MP3, VOC, raw GSM, others of libsndfile": "read, by content, "
    "whatever the suffix",
    "a streamed header: length 0, about 2^31, 2^32 or 2^63 (pipes of sox, ffmpeg, arecord)": "read to the end of the file, without the "
    "chunks behind the audio",
    "a header that announces more than there is": "error with both lengths",
    "a header that announces less than there is": "a note with both lengths when zeros or less than 0.1 s are left over; else an error "
    "with both lengths and the commands that keep or cut off the rest",
    "FLAC that ends early": "error with both lengths",
    "FLAC whose encoder did not know the length (a pipe)": "read to its last frame",
    "Ogg that ends within a page, lacks pages, or has a damaged one": "error with what can be decoded and what is missing, or the page",
    "Ogg without an end mark": "read, with a note",
    "MP3 with a length (Xing, Info, VBRI) that ends early": "error with both lengths",
    "MP3 files joined": "error when their rates differ or the first one has a length, else read",
    "MP3 without a length": "all frames are counted and read; a note when the last one is cut",
    "PVF, PAF, IRCAM, which have no length": "read to the end of the file",
    "NIST sphere with Shorten": "error with the command `sph2pipe -f wav IN OUT.wav`",
    "M4A, MP4, AAC, WMA, AMR, WebM, video, Speex, FLAC in Ogg and the like": "error with the command "
    "`ffmpeg -i IN -ac 1 -ar 16000 OUT.wav`",
    "no header (.raw, .pcm, .vox)": "error with the command `sox -t raw -r RATE -e signed -b 16 -c 1 IN OUT.wav`",
    "text, a web page, an archive, a Git LFS pointer": "error that says what it is",
    "0 bytes, or a header and no samples": "error",
    "all samples equal": "error of import, aligner and `validate_data.sh --deep`",
    "less than 0.1 s (import) or 0.03 s (aligner)": "error",
    "a rate below 1 kHz or above 192 kHz": "error; import refuses less than 8 kHz",
    "several channels": "import: name one in `segments` or `wav.scp`; aligner: their mean, or `--channel N`",
}


def markdown() -> str:
    """The table."""
    return "\n".join(["| audio file | what is done |", "|---|---|", *(f"| {what} | {done} |" for what, done in ROWS.items())])


if __name__ == "__main__":
    print(markdown())
