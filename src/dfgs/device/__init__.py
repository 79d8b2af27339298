"""Batches on a GPU: moved there one ahead of the training, and augmented there as the CPU would do it."""
