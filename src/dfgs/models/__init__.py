"""CLIP models for re-ID: image tower, prompts, architectures of our own."""
