"""Language: lexicon, LM text and training transcripts -> data/lang (words, phones, pronunciations, topology, subwords)."""
