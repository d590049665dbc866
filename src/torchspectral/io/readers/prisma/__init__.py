"""PRISMA products of ASI."""
