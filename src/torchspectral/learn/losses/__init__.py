"""Losses of self-supervised training, as plain modules: one file a method."""
