"""The ablation's report: one page with tables, charts and an utterance seen by teacher, heads and students."""
