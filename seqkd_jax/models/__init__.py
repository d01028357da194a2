"""Models of one sentence pair, as tuples of pure functions. Floor 1."""
