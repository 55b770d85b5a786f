"""Containers: ``tree`` lays an image's layers over each other, ``oci`` reads them, ``unpack`` writes the outcome,
``bundle`` says how it runs, ``driver`` has a runtime run it.
"""
