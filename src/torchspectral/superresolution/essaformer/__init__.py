"""ESSAformer: a transformer whose attention is linear in the number of pixels."""
