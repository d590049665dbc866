"""io/writers"""
