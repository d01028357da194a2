"""Sequence-level distillation: a map over the corpus. Floor 3."""
