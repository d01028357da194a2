"""Smaller models: pruned, with shared weights, of low rank; and their file. Floor 3."""
