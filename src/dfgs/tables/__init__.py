"""Tables of an experiment: long rows, records and verdicts in, tables to be written out."""

from dfgs.rendering import Table
from dfgs.tables.backbone import backbone_table
from dfgs.tables.comparison import comparison

__all__ = ["Table", "backbone_table", "comparison"]
