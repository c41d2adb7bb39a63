"""kdtool: speech recognisers that learn from language models, as a Kaldi-style recipe toolkit."""

__version__ = "0.1.0"
