"""Denoisers of eigen-images and of wavelet coefficients in units of the noise."""
