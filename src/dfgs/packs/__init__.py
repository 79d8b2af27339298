"""A dataset in one file for parallel file systems, read as if it were its folder."""
