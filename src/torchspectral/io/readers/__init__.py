"""Readers, one file a format; `cards.yaml` lists them."""
