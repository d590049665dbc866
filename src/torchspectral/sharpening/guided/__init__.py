"""Fusion with several guide bands of a finer sensor: `regress.Guided`, and how guides are brought together."""
