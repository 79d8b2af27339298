# The whole experiment: draw datasets, pre-train a small CLIP, learn prompts, fine-tune per sampler, score, report.
# All logic is in src/dfgs; a rule names files and calls one `dfgs` command.


# By the checkout, so that `--directory` can lead the results elsewhere.
configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/page.smk"


rule all:
    default_target: True
    input:
        rules.collect.output,
        rules.report.output,
        tables_of_all,
        figures_of_all,
        disagreements_of_all,
    localrule: True


# The same, and every model's features go as soon as they are scored.
rule lean:
    input:
        rules.collect.output,
        rules.report.output,
        tables_of_all,
        figures_of_all,
        disagreements_of_all,
        dropped_of_all,
    localrule: True


# Every attempt so far, its outcome and its cost, in results/ledger.csv; no rule, so that nothing runs because of it.
onsuccess:
    shell(write_ledger)


onerror:
    shell(write_ledger)
