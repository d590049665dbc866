"""Abundances from a library: sparse regression, archetypes of it, and mixtures of bundles (MESMA)."""
