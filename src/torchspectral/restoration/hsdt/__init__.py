"""HSDT: hybrid spectral denoising transformer."""
