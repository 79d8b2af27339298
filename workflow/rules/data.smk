# Drawn datasets. The images are an undeclared folder beside the manifest: only the manifest decides what is done.


rule draw:
    output:
        "results/worlds/{dataset}.json",
    log:
        "logs/draw/{dataset}.log",
    conda:
        "../../envs/dfgs.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, threads, attempt: megabytes(1000, threads, attempt),
        runtime=lambda wildcards, attempt: attempt * 10,
    params:
        job=lambda wildcards: as_json(GRID.draw_job(wildcards.dataset)),
        folder="results/worlds/{dataset}",
    shell:
        "dfgs draw --job {params.job:q} {params.folder:q} {output:q} 2> {log:q}"
