"""Figures: t-SNE, learning curves, masks side by side, scores."""
