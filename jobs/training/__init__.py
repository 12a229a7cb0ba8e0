"""The parts of a training run: images, augmentation, first weights, the loop, its state."""
