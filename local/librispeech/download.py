"""Downloads mini_librispeech.  In: OpenSLR or a mirror of it.  Out: 'audio': <out>/LibriSpeech/<part>; 'lm': LM text and lexicon.

An interrupted download continues where it stopped. Every file is checked by its MD5 sum before it gets its name; an archive
is unpacked under another name and renamed, so the result is complete. The archives are removed after unpacking.
"""

from kdtool.core.cli import cli_main
from kdtool.corpus.archive import Downloads, Part

OPENSLR = "https://www.openslr.org/resources"
# The sums of 31 are from its md5sum.txt; 11 publishes none, these are of files downloaded by several projects.
PARTS = {
    "audio": [
        Part("31/train-clean-5.tar.gz", "5df7d4e78065366204ca6845bb08f490", "LibriSpeech/train-clean-5"),
        Part("31/dev-clean-2.tar.gz", "6d7ab67ac6a1d2c993d050e16d61080d", "LibriSpeech/dev-clean-2"),
    ],
    "lm": [
        Part("11/librispeech-lexicon.txt", "28f72663f6bfed7cd346283c064c315b"),
        Part("11/librispeech-lm-norm.txt.gz", "c83c64c726a1aedfe65f80aa311de402"),
    ],
}
COMMAND = Downloads("local/librispeech/download.sh", __doc__, OPENSLR, "KD_OPENSLR", PARTS, "audio (0.5 GB) or lm (1.5 GB)")
main, would_run, check_outputs = COMMAND.main, COMMAND.would_run, COMMAND.check_outputs

if __name__ == "__main__":
    cli_main(main)
