"""One file a section; a new task adds its own."""
