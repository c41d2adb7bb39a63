"""The ablation's report: one page with tables, charts and one utterance as seen by teacher, heads and students."""
