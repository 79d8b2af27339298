# One process embeds all targets of a model; scoring is a separate, light stage, the only one that reads target labels.


rule embed:
    input:
        worlds=worlds_of_targets,
        backbone=lambda wildcards: backbone_of(wildcards.model),
        trained=lambda wildcards: of_training("weights", wildcards),
    output:
        "results/features/{source}/{model}/{sampler}/s{seed}/index.json",
    log:
        "logs/embed/{source}/{model}/{sampler}/s{seed}.log",
    priority: 10
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: megabytes(4000, threads, attempt),
        runtime=lambda wildcards, attempt: attempt * DEMANDS.embed(Trial.of(wildcards)),
    params:
        job=lambda wildcards: as_json(GRID.embed_job(Trial.of(wildcards))),
        weights=lambda wildcards, input: [
            *(f"--backbone={path}" for path in input.backbone),
            *(f"--trained={path}" for path in input.trained),
        ],
    shell:
        "dfgs embed --workers=$(({threads} - 1)) --job {params.job:q} {params.weights:q} {output:q} 2> {log:q}"


rule score:
    input:
        worlds=worlds_of_targets,
        index=rules.embed.output,
        record=lambda wildcards: of_training("record", wildcards),
    output:
        metrics="results/scores/{source}/{model}/{sampler}/s{seed}/metrics.csv",
        per_query="results/scores/{source}/{model}/{sampler}/s{seed}/per_query.csv.gz",
    log:
        "logs/score/{source}/{model}/{sampler}/s{seed}.log",
    priority: 20
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: megabytes(2000, threads, attempt),
        runtime=lambda wildcards, attempt: attempt * DEMANDS.score(Trial.of(wildcards)),
    params:
        job=lambda wildcards: as_json(GRID.score_job(Trial.of(wildcards))),
        record=lambda wildcards, input: [f"--record={path}" for path in input.record],
    shell:
        "dfgs score-trial --job {params.job:q} {params.record:q} {input.index:q} {output.metrics:q} {output.per_query:q} 2> {log:q}"


# Only for the target `lean`. The features are no output: what still needs them finds the index gone and embeds again.
rule drop_features:
    input:
        rules.score.output.metrics,
    output:
        "results/features/{source}/{model}/{sampler}/s{seed}/dropped.txt",
    log:
        "logs/drop_features/{source}/{model}/{sampler}/s{seed}.log",
    priority: 30
    localrule: True
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    params:
        index=rules.embed.output[0],
    shell:
        "(test ! -e {params.index:q} || dfgs drop-features {params.index:q}) > {output:q} 2> {log:q}"
