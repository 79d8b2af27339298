"""`dfgs doctor` and `dfgs pack`: is a dataset on disk whole, what is odd about it, and all of it in one file."""
