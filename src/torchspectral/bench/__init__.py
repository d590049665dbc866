"""The field's comparison tables, a module a room."""
