"""The drawn re-ID world: people made of shapes, seen by made-up cameras, written to disk in Market-1501's layout.

Nothing here is a photograph. A result on this world says how samplers behave under known conditions, not how they
do on real people.
"""
