"""The checkpoints that hw1 ships, and the code that finds, checks, reads and writes them."""
