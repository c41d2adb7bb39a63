"""Subword units.  In: LM text.  Out: a sentencepiece BPE model and its table, byte-identical on every run."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

from kdtool.core.errors import KdError
from kdtool.core.tables import open_text, write_table


def sample_sentences(text: Path, total: int, count: int, seed: int) -> Iterator[str]:
    """`count` of the `total` lines of a text (plain or .gz), drawn at random, in their order; all if `count` is 0."""
    chosen = None if count <= 0 or count >= total else set(random.Random(seed).sample(range(total), count))
    with open_text(text) as lines:
        for number, line in enumerate(lines):
            if chosen is None or number in chosen:
                yield line.rstrip("\n")


def train_bpe(text: Path, size: int, sentences: int, seed: int) -> bytes:
    """Train a byte-pair model of `size` pieces on a sample of the text; one thread, for reproducibility. Raises KdError: the text is
    too small for `size` pieces."""
    import sentencepiece

    model = io.BytesIO()
    with open_text(text) as lines:
        total = sum(1 for _ in lines)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sample_sentences(text, total, sentences, seed), model_writer=model, model_type="bpe", vocab_size=size,
            character_coverage=1.0, normalization_rule_name="identity", num_threads=1, minloglevel=2,
        )  # fmt: skip
    except (RuntimeError, OSError) as e:
        raise KdError(f"{text}: no BPE model of {size} pieces can be made of it ({e}); lower --bpe-size") from e
    return model.getvalue()


def write_bpe(folder: Path, model: bytes) -> int:
    """Write bpe.model and subwords.txt ('piece id'); returns the number of pieces."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    (folder / "bpe.model").write_bytes(model)
    write_table(folder / "subwords.txt", {processor.id_to_piece(i): i for i in range(len(processor))})
    return len(processor)
