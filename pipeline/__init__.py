"""How an image becomes a row: find → shard → decode → predict → write."""
