"""The audit of a sampler: what its batches hold, and whether its graph joins look-alikes."""
