"""Metrics, tables and figures of an experiment, as the workflow's rules ask for them."""

from pathlib import Path
from typing import Any

import click

from dfgs.cli.options import FILE, job_option


@click.command()
@click.option("--experiment", required=True)
@click.option("--target", "targets", multiple=True, required=True, help="A target of the experiment; can be repeated.")
@click.argument("output", type=FILE)
@click.argument("parts", type=FILE, nargs=-1, required=True)
def aggregate(experiment: str, targets: tuple[str, ...], output: Path, parts: tuple[Path, ...]) -> None:
    """Collect the metrics of an experiment's trials on its own targets; a shared trial may have more."""
    from dfgs.results import merge, write_metrics

    rows = merge(parts).assign(experiment=experiment)
    write_metrics(rows[rows["target"].isin(targets)], output)


@click.command()
@click.argument("output", type=FILE)
@click.argument("parts", type=FILE, nargs=-1, required=True)
def collect(output: Path, parts: tuple[Path, ...]) -> None:
    """Join the metrics of several experiments into one file."""
    from dfgs.results import merge, write_metrics

    write_metrics(merge(parts), output)


@click.command()
@job_option
@click.option("--metric", required=True)
@click.option("--verdict", type=FILE, help="What `dfgs judge` found; marks who beats whom.")
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
@click.argument("records", type=FILE, nargs=-1)
def tabulate(
    job: dict[str, Any], metric: str, verdict: Path | None, metrics: Path, stem: Path, records: tuple[Path, ...]
) -> None:
    """Compare an experiment's samplers in STEM.csv, .md, .tex and .html; RECORDS of trainings tell what they cost."""
    from dfgs.report import TableInputs, write_table

    write_table(job, metric, TableInputs(metrics, verdict, records), stem)


@click.command()
@job_option
@click.argument("metrics", type=FILE)
@click.argument("verdict", type=FILE)
@click.argument("folder", type=FILE)
def judge(job: dict[str, Any], metrics: Path, verdict: Path, folder: Path) -> None:
    """Judge the planned contrasts: VERDICT is a JSON file, FOLDER gets tables over trainings and over datasets."""
    from dfgs.report import write_verdict_tables

    write_verdict_tables(job, metrics, verdict, folder)


@click.command("tabulate-queries")
@job_option
@click.argument("stem", type=FILE)
@click.argument("metrics", type=FILE, nargs=-1, required=True)
def tabulate_queries(job: dict[str, Any], stem: Path, metrics: tuple[Path, ...]) -> None:
    """Compare pairs of trained models on their queries; METRICS are the trials', per_query.csv.gz lies beside each."""
    from dfgs.report import write_queries_table

    write_queries_table(job, metrics, stem)


@click.command("tabulate-published")
@job_option
@click.option("--published", type=FILE, help="Printed numbers; the checkout's config/published.csv unless told.")
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
def tabulate_published(job: dict[str, Any], published: Path | None, metrics: Path, stem: Path) -> None:
    """Put an experiment beside the printed table that it repeats."""
    from dfgs.config.files import DEFAULT
    from dfgs.report import write_published_table

    write_published_table(job, published or DEFAULT.with_name("published.csv"), metrics, stem)


@click.command()
@click.argument("config", type=FILE)
@click.option("--published", type=FILE, help="Printed numbers; published.csv beside CONFIG unless told.")
@click.option("--results", type=FILE, default=Path("results"), show_default=True, help="Where ours are, if any ran.")
def paper(config: Path, published: Path | None, results: Path) -> None:
    """Print CONFIG's experiments beside the printed tables that they repeat; cells that have not run say so.

    Needs neither results nor data: `dfgs paper config/protocol-1.yaml`.
    """
    from dfgs.report import paper_tables

    click.echo("\n".join(paper_tables(config, published or config.with_name("published.csv"), results)))


@click.command("tabulate-backbone")
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
def tabulate_backbone(metrics: Path, stem: Path) -> None:
    """Show the untuned backbone beside chance in STEM.csv, STEM.md and STEM.tex."""
    from dfgs.report import write_backbone_table

    write_backbone_table(metrics, stem)


@click.command("tabulate-selection")
@job_option
@click.option("--metric", default="mAP", show_default=True)
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
def tabulate_selection(job: dict[str, Any], metric: str, metrics: Path, stem: Path) -> None:
    """Show what choosing a model by validation, or by the target itself, would change in STEM.csv, .md and .tex."""
    from dfgs.report import write_selection_table

    write_selection_table(job, metric, metrics, stem)


@click.command("tabulate-audit")
@job_option
@click.argument("stem", type=FILE)
@click.argument("audits", type=FILE, nargs=-1, required=True)
def tabulate_audit(job: dict[str, Any], stem: Path, audits: tuple[Path, ...]) -> None:
    """Show what an experiment's batches held in STEM.csv, STEM.md and STEM.tex."""
    from dfgs.report import write_audit_table

    write_audit_table(job, audits, stem)


@click.command("draw-figure")
@job_option
@click.option("--figure", required=True)
@click.argument("metrics", type=FILE)
@click.argument("stem", type=FILE)
@click.argument("curves", type=FILE, nargs=-1)
def draw_figure(job: dict[str, Any], figure: str, metrics: Path, stem: Path, curves: tuple[Path, ...]) -> None:
    """Draw one figure of an experiment to STEM.png, STEM.pdf and STEM.svg."""
    from dfgs.report import write_figure

    write_figure(job, figure, metrics, curves, stem)


@click.command()
@job_option
@click.option("--features", type=FILE, required=True, help="Folder of all models' features; some may be dropped.")
@click.argument("output", type=FILE)
@click.argument("per_query", type=FILE, nargs=-1, required=True)
def disagreements(job: dict[str, Any], features: Path, output: Path, per_query: tuple[Path, ...]) -> None:
    """Find the queries that one sampler of a planned contrast ranks right and the other wrong, with their lists."""
    from dfgs.disagreements import write_disagreements

    write_disagreements(job, per_query, features, output)


COMMANDS = (
    *(aggregate, collect, tabulate, tabulate_backbone, tabulate_selection, tabulate_audit, draw_figure),
    *(judge, tabulate_queries, tabulate_published, paper, disagreements),
)
