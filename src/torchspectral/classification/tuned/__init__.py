"""A backbone with a head, tuned on labels."""
