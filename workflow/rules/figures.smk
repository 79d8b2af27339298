# Figures of each experiment, and the queries that samplers disagree on.


rule draw_figure:
    input:
        metrics=rules.aggregate.output,
        curves=lambda wildcards: of_trainings("curve", wildcards),
        audits=lambda wildcards: of_trainings("audit", wildcards),
    output:
        report(
            "results/figures/{experiment}/{figure}.png",
            category="Figures",
            subcategory="{experiment}",
            labels={"figure": "{figure}"},
            caption="../report/figure.rst",
        ),
        "results/figures/{experiment}/{figure}.pdf",
        "results/figures/{experiment}/{figure}.svg",
    log:
        "logs/draw_figure/{experiment}/{figure}.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.figure_job(wildcards.experiment)),
        code=lambda wildcards: FIGURES.source_digest(wildcards.figure),
        stem="results/figures/{experiment}/{figure}",
    shell:
        "dfgs draw-figure --job {params.job:q} --figure {wildcards.figure:q} {input.metrics:q} {params.stem:q}"
        " {input.curves:q} 2> {log:q}"


# The features are no input: where `lean` has dropped them, the lists are left out and nothing is embedded again.
rule disagreements:
    input:
        lambda wildcards: of_contrasts("per_query", wildcards),
    output:
        "results/experiments/{experiment}/disagreements.json",
    log:
        "logs/disagreements/{experiment}.log",
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        job=lambda wildcards: as_json(GRID.disagreements_job(wildcards.experiment)),
    shell:
        "dfgs disagreements --job {params.job:q} --features results/features {output:q} {input:q} 2> {log:q}"
