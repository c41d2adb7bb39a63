"""Word n-gram language models: LM text -> data/local_text -> data/lm_<n> (ARPA, KenLM binary, perplexity)."""
