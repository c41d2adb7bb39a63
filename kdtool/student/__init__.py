"""Students: acoustic models (encoder and senone head) trained on alignments, with or without a teacher's posteriors."""
