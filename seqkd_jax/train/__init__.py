"""Training: state, steps, devices, checkpoints, the loop. Floor 3."""
