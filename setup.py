"""Package description; the recipes set PYTHONPATH themselves and do not need an installation."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="kdtool",
    version=next(line.split('"')[1] for line in Path("kdtool/__init__.py").read_text().splitlines() if "__version__" in line),
    description="Speech recognition recipes that distil language models into acoustic models",
    license="Apache-2.0",
    entry_points={"console_scripts": ["kdtool=kdtool.__main__:entry"]},
    packages=find_packages(include=["kdtool", "kdtool.*"]),
    package_data={"kdtool.graph": ["*.cc"], "kdtool.posteriors": ["*.cc"]},
    python_requires=">=3.10",
    # Language models of Hugging Face as teachers; from 4.48 on torch 2 is needed.
    extras_require={"hf": ["transformers>=4.40"]},
)
