"""One page that says what a grid proves, the commands that reproduce its numbers, and what re-checks its files."""
