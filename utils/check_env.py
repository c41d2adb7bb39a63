"""Check an environment.  In: the Python that runs this, the folder of KenLM's programs.  Out: exit status 1 and what is missing."""

import importlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

MODULES = ("torch", "k2", "lhotse", "numpy", "scipy", "yaml", "urllib3", "soundfile", "sentencepiece", "safetensors", "kaldilm",
           "kaldifst", "kaldi_decoder", "kaldialign", "kenlm", "phonetisaurus", "espeakng_loader")  # fmt: skip
# Packages with another name than their module.
PACKAGES = {"k2": "k2, built for the torch that is installed", "yaml": "PyYAML", "kaldi_decoder": "kaldi-decoder",
            "espeakng_loader": "espeakng-loader"}  # fmt: skip


def module_faults() -> list[str]:
    version = platform.python_version()
    faults = [] if tuple(map(int, version.split(".")[:2])) >= (3, 10) else [f"Python is {version}, at least 3.10 is needed"]
    for module in MODULES:
        try:
            importlib.import_module(module)
        except Exception as e:  # a broken binary may raise anything
            reason = str(e).splitlines()[0] if str(e) else ""
            faults.append(f"import {module}: {type(e).__name__}: {reason} (package {PACKAGES.get(module, module)})")
    return faults


def kenlm_faults(folder: Path) -> list[str]:
    """Run both programs on two words; an existing file may still lack its libraries."""
    with tempfile.TemporaryDirectory() as scratch:
        arpa = Path(scratch) / "a.arpa"
        try:
            subprocess.run(
                [folder / "lmplz", "-o", "2", "--discount_fallback", "--arpa", arpa, "-S", "200M", "-T", scratch],
                input=b"A B\nA C\n", check=True, capture_output=True,
            )  # fmt: skip
            subprocess.run([folder / "build_binary", arpa, Path(scratch) / "a.bin"], check=True, capture_output=True)
        except FileNotFoundError as e:
            return [f"{e.filename}: not there; build KenLM with its CMakeLists.txt and name its bin folder by KD_KENLM_BIN"]
        except (OSError, subprocess.CalledProcessError) as e:
            detail = getattr(e, "stderr", b"") or b""
            return [f"{folder}: KenLM does not run: {detail.decode(errors='replace').strip()[-200:] or e}"]
    return []


def main() -> None:
    faults = module_faults() + kenlm_faults(Path(sys.argv[1]))
    if faults:
        print(f"error: {sys.executable} lacks what the toolkit needs:", *faults, sep="\n  ", file=sys.stderr)
        print("install these there, or unset KD_PYTHON_ENV to have an environment made", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
