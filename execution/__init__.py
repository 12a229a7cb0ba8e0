"""Moves shards through a job's work: the scheduler, its actors, the engines."""
