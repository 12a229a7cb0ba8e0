"""Training runs: images, augmentation, first weights, the loop, its state; ensembles, soups."""
