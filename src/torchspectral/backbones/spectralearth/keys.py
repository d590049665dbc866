"""Names under which the weights of this family are found."""

from __future__ import annotations

# The published DINO recipe stops its teacher after 10 of 100 epochs, so the student stands before the teacher.
PREFIXES = (
    "module.", "model.", "backbone.", "student_backbone.", "teacher_backbone.", "encoder.", "vit.", "spec_vit.",
)  # fmt: skip
VIT_RENAMES = {
    r"^.*patch_embed\.original_patch_embed\.": "vit_core.patch_embed.",
    r"^.*patch_embed\.spectral_adapter\.": "spectral_adapter.",
}
"""Masked autoencoders of the authors' training code wrap the patch embedding, and hold the encoder twice."""
