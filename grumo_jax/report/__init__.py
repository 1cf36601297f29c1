"""From results files to tables, pictures and an HTML page."""

from grumo_jax.report.ablation import AblationSummary as AblationSummary
from grumo_jax.report.ablation import summarize_ablation as summarize_ablation
from grumo_jax.report.compare import Difference as Difference
from grumo_jax.report.compare import compare as compare
from grumo_jax.report.files import write_ablation as write_ablation
from grumo_jax.report.files import write_report as write_report
from grumo_jax.report.gain import gain_table as gain_table
from grumo_jax.report.html import make_html as make_html
from grumo_jax.report.summary import EstimatorSummary as EstimatorSummary
from grumo_jax.report.summary import PartSummary as PartSummary
from grumo_jax.report.summary import Summary as Summary
from grumo_jax.report.summary import summarize as summarize
from grumo_jax.report.table import Cell as Cell
from grumo_jax.report.table import Column as Column
from grumo_jax.report.table import Table as Table
from grumo_jax.report.tables import BASELINES as BASELINES
from grumo_jax.report.tables import Published as Published
from grumo_jax.report.tables import make_tables as make_tables
