"""Pre-training, prompts (stage 1) and fine-tuning (stage 2)."""
