"""Methods that solve for the image: sparse codes, total variation, subspace models."""
