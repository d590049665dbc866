"""Unmixing networks that are trained on the scene itself."""
