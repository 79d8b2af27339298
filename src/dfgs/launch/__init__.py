"""`dfgs launch`: Snakemake on a cluster, one launch per folder, watched, and stopped and resumed cleanly."""
