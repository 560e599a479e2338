"""A recorded run told as text, or as a flat table. No torch: a laptop explains what a cluster ran."""

from steadygrad.report.csv_file import write_csv
from steadygrad.report.judging import judge, readings
from steadygrad.report.parquet_file import write_parquet
from steadygrad.report.story import Story

__all__ = ["Story", "judge", "readings", "write_csv", "write_parquet"]
