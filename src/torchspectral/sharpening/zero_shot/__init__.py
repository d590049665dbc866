"""Methods that learn on the scene itself, at full resolution, without a truth."""
