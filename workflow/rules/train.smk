# Backbone, prompts (stage 1) and fine-tuning (stage 2). Prompts do not depend on the sampler under study.


rule pretrain:
    output:
        weights="results/backbones/{backbone}/weights.safetensors",
        report="results/backbones/{backbone}/report.json",
    log:
        "logs/pretrain/{backbone}.log",
    priority: 100
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: megabytes(3000, threads, attempt),
        runtime=lambda wildcards, attempt: attempt
        * DEMANDS.pretrain(wildcards.backbone),
    params:
        job=lambda wildcards: as_json(GRID.pretrain_job(wildcards.backbone)),
    shell:
        "dfgs pretrain --job {params.job:q} {output.weights:q} {output.report:q} 2> {log:q}"


rule learn_prompts:
    input:
        worlds=worlds_of_source,
        backbone=lambda wildcards: backbone_of(wildcards.model),
    output:
        "results/prompts/{source}/{model}/s{seed}.safetensors",
    log:
        "logs/learn_prompts/{source}/{model}/s{seed}.log",
    priority: 50
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: megabytes(4000, threads, attempt),
        runtime=lambda wildcards, attempt: (
            attempt * DEMANDS.learn_prompts(wildcards.source, wildcards.model)
        ),
    params:
        job=lambda wildcards: as_json(
            GRID.prompts_job(wildcards.source, wildcards.model, int(wildcards.seed))
        ),
        code=lambda wildcards: GRID.prior_digest(wildcards.model),
        backbone=lambda wildcards, input: [
            f"--backbone={path}" for path in input.backbone
        ],
    shell:
        "dfgs learn-prompts --workers=$(({threads} - 1)) --job {params.job:q} {params.backbone:q} {output:q} 2> {log:q}"


rule finetune:
    input:
        worlds=worlds_of_source,
        prompts=rules.learn_prompts.output,
    output:
        weights="results/runs/{source}/{model}/{sampler}/s{seed}/weights.safetensors",
        curve="results/runs/{source}/{model}/{sampler}/s{seed}/curve.csv",
        audit="results/runs/{source}/{model}/{sampler}/s{seed}/audit.csv",
        record="results/runs/{source}/{model}/{sampler}/s{seed}/record.json",
    log:
        "logs/finetune/{source}/{model}/{sampler}/s{seed}.log",
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: megabytes(6000, threads, attempt),
        runtime=lambda wildcards, attempt: attempt
        * DEMANDS.finetune(Trial.of(wildcards)),
    params:
        job=lambda wildcards: as_json(GRID.finetune_job(Trial.of(wildcards))),
        sampler_code=lambda wildcards: GRID.sampler_digest(wildcards.sampler),
        loss_code=lambda wildcards: GRID.loss_digest(wildcards.model),
    shell:
        "dfgs finetune --workers=$(({threads} - 1)) --job {params.job:q} {input.prompts:q} {output.weights:q} {output.curve:q}"
        " {output.audit:q} {output.record:q} 2> {log:q}"
