"""Operators on tensors that several rooms share: MTF, resizing, sums, noise, VCA, FCLS."""
