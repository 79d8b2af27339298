# Metrics of each experiment, and the verdict on its planned contrasts.


rule aggregate:
    input:
        scores_of,
    output:
        "results/experiments/{experiment}/metrics.csv",
    log:
        "logs/aggregate/{experiment}.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        targets=lambda wildcards: [
            f"--target={name}"
            for name in GRID.config.experiments[wildcards.experiment].targets
        ],
    shell:
        "dfgs aggregate --experiment {wildcards.experiment:q} {params.targets:q} {output:q} {input:q} 2> {log:q}"


rule collect:
    input:
        expand(rules.aggregate.output, experiment=GRID.config.run),
    output:
        "results/metrics.csv",
    log:
        "logs/collect.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    shell:
        "dfgs collect {output:q} {input:q} 2> {log:q}"


rule judge:
    input:
        rules.aggregate.output,
    output:
        report(
            expand("results/tables/{{experiment}}/{level}.md", level=LEVELS),
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "verdict"},
            caption="../report/table-verdict.rst",
        ),
        expand(
            "results/tables/{{experiment}}/{level}.{kind}",
            level=LEVELS,
            kind=["csv", "tex", "html"],
        ),
        verdict="results/experiments/{experiment}/verdict.json",
    log:
        "logs/judge/{experiment}.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.verdict_job(wildcards.experiment)),
        folder="results/tables/{experiment}",
    shell:
        "dfgs judge --job {params.job:q} {input:q} {output.verdict:q} {params.folder:q} 2> {log:q}"
