"""Figures of one set of features: ranked lists, similarities, CMC curves, an embedding; drawn by `dfgs show`."""
