"""Classifiers of single spectra that learn from labels: what everything else is compared with."""
