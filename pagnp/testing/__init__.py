"""Checks that need no backend of their own: the exact oracle, the table of cases, and the run of one case.

Used by the tests, and by whoever checks a kernel of their own against the contract.
"""
