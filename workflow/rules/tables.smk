# Tables of each experiment.


rule tabulate_queries:
    input:
        metrics=lambda wildcards: of_contrasts("metrics", wildcards),
        per_query=lambda wildcards: of_contrasts("per_query", wildcards),
    output:
        report(
            "results/tables/{experiment}/queries.md",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "queries"},
            caption="../report/table-verdict.rst",
        ),
        "results/tables/{experiment}/queries.csv",
        "results/tables/{experiment}/queries.tex",
        "results/tables/{experiment}/queries.html",
    log:
        "logs/tabulate/{experiment}/queries.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.verdict_job(wildcards.experiment)),
        stem="results/tables/{experiment}/queries",
    shell:
        "dfgs tabulate-queries --job {params.job:q} {params.stem:q} {input.metrics:q} 2> {log:q}"


rule tabulate_published:
    input:
        metrics=rules.aggregate.output,
    output:
        report(
            "results/tables/{experiment}/published.md",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "published"},
            caption="../report/table-published.rst",
        ),
        "results/tables/{experiment}/published.csv",
        "results/tables/{experiment}/published.tex",
        "results/tables/{experiment}/published.html",
    log:
        "logs/tabulate/{experiment}/published.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.published_job(wildcards.experiment)),
        printed=digest_file(PUBLISHED),
        stem="results/tables/{experiment}/published",
    shell:
        "dfgs tabulate-published --job {params.job:q} {input.metrics:q} {params.stem:q} 2> {log:q}"


rule tabulate:
    input:
        metrics=rules.aggregate.output,
        verdict=lambda wildcards: verdict_of(wildcards.experiment),
        records=lambda wildcards: of_trainings("record", wildcards),
    output:
        report(
            "results/tables/{experiment}/{metric}.md",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "{metric}"},
            caption="../report/table-comparison.rst",
        ),
        "results/tables/{experiment}/{metric}.csv",
        "results/tables/{experiment}/{metric}.tex",
        "results/tables/{experiment}/{metric}.html",
    log:
        "logs/tabulate/{experiment}/{metric}.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.report_job(wildcards.experiment)),
        verdict=lambda wildcards, input: [f"--verdict={path}" for path in input.verdict],
        stem="results/tables/{experiment}/{metric}",
    shell:
        "dfgs tabulate --job {params.job:q} --metric {wildcards.metric:q} {params.verdict:q} {input.metrics:q}"
        " {params.stem:q} {input.records:q} 2> {log:q}"


rule tabulate_backbone:
    input:
        rules.aggregate.output,
    output:
        report(
            "results/tables/{experiment}/backbone.md",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "backbone"},
            caption="../report/table-backbone.rst",
        ),
        "results/tables/{experiment}/backbone.csv",
        "results/tables/{experiment}/backbone.tex",
        "results/tables/{experiment}/backbone.html",
    log:
        "logs/tabulate/{experiment}/backbone.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        stem="results/tables/{experiment}/backbone",
    shell:
        "dfgs tabulate-backbone {input:q} {params.stem:q} 2> {log:q}"


rule tabulate_selection:
    input:
        rules.aggregate.output,
    output:
        report(
            "results/tables/{experiment}/selection.md",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "selection"},
            caption="../report/table-selection.rst",
        ),
        "results/tables/{experiment}/selection.csv",
        "results/tables/{experiment}/selection.tex",
        "results/tables/{experiment}/selection.html",
    log:
        "logs/tabulate/{experiment}/selection.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.report_job(wildcards.experiment)),
        stem="results/tables/{experiment}/selection",
    shell:
        "dfgs tabulate-selection --job {params.job:q} {input:q} {params.stem:q} 2> {log:q}"


rule tabulate_audit:
    input:
        lambda wildcards: of_trainings("audit", wildcards),
    output:
        report(
            "results/tables/{experiment}/audit.md",
            category="Tables",
            subcategory="{experiment}",
            labels={"table": "audit"},
            caption="../report/table-audit.rst",
        ),
        "results/tables/{experiment}/audit.csv",
        "results/tables/{experiment}/audit.tex",
        "results/tables/{experiment}/audit.html",
    log:
        "logs/tabulate/{experiment}/audit.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.report_job(wildcards.experiment)),
        stem="results/tables/{experiment}/audit",
    shell:
        "dfgs tabulate-audit --job {params.job:q} {params.stem:q} {input:q} 2> {log:q}"
