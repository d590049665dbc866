"""Heads on backbones, as plain modules: classes of an image, classes of pixels, values, projections."""
