# One page that sums everything up, and the crate that lists the files behind it.


rule report:
    input:
        metrics=rules.collect.output,
        tables=tables_of_all,
        figures=figures_of_all,
        disagreements=disagreements_of_all,
        records=records_of_all,
    output:
        page="results/report.html",
        config="results/config.json",
        crate="results/ro-crate-metadata.json",
    log:
        "logs/report.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(used(GRID.config)),
    shell:
        "(dfgs ledger --no-audit && dfgs report --job {params.job:q}) > {log:q} 2>&1"
