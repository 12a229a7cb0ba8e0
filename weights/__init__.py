"""The checkpoints that hw1 ships, and ensemble.toml, which says how they vote. No code."""
