"""Units that language models predict: senones, phones, subwords; from alignments and from text."""
