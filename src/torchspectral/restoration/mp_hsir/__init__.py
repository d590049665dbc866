"""MP-HSIR: one network for many degradations, steered by prompts."""
