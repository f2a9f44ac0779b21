"""All MongoDB code: one class per collection.

Databases, collections and fields have the names that the original system gave them, plus new ones. Writes are
acknowledged by a majority and journaled before they return. Times are UTC.
"""
