"""Downloads AN4.  In: its site or a mirror.  Out: <out>/an4 with etc and wav (sphere files), 64 MB.

An interrupted download continues where it stopped; the archive is checked by its SHA256 and unpacked under another name, so
the result is complete.
"""

from kdtool.core.cli import cli_main
from kdtool.corpus.archive import Downloads, Part

SITE = "http://www.speech.cs.cmu.edu/databases/an4"
# The site publishes no checksum; this one is from a public training recipe.
PARTS = {"": [Part("an4_sphere.tar.gz", "a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12", "an4", "an4/etc")]}
COMMAND = Downloads("local/an4/download.sh", __doc__, SITE, "KD_AN4", PARTS)
main, would_run, check_outputs = COMMAND.main, COMMAND.would_run, COMMAND.check_outputs

if __name__ == "__main__":
    cli_main(main)
