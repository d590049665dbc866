"""Hyper-MAE of both papers on LESS ViT."""
