"""The only MongoDB: one class per collection. Databases, collections and field names are the original's, plus new ones.

Writes are acknowledged by a majority and journaled before they return. Times are UTC.
"""
