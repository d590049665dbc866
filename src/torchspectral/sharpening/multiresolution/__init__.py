"""Multiresolution analysis: the detail of the PAN is what a low-pass filter takes from it."""
