"""Spectral mixup: a group-wise network with an auxiliary RGB task and a semi-supervised schedule."""
