"""Does this batch sampler really help? Controlled sampler experiments for generalizable person re-identification."""
