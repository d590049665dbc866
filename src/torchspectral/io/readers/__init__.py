"""io/readers"""
