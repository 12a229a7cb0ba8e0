"""Networks and their checkpoints: build, fold, pack; find, verify, read, write; ensembles."""
