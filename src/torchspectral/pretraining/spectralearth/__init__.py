"""The recipes of SpectralEarth: DINO, MoCo-v2 and masked autoencoders.

References
----------
Braham et al., "SpectralEarth: Training Hyperspectral Foundation Models at Scale", IEEE JSTARS (2025).
"""
