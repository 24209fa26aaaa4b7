"""The pictures beside the tables of somebody's own corpus: differences to FINE, and what a score costs."""

from finelib.paper import own_corpus
from finelib.paper.own_corpus import PICTURES, SYSTEMS_TABLE
from finelib.paper.table import read
from finelib.runs import experiment
from finelib.runs.options import Options
from finelib.runs.records import read_record
from finelib.views import compare, forest, style


def write_pictures(options: Options) -> None:
    """Draw the tables that lie in ``options.figures``: NAME_forest.{png,pdf,html} and own_systems_cost.{png,pdf}.

    Raises:
        ValueError: a table or a run record that cannot be read.
    """
    corpus = experiment.load_corpus(own_corpus.data_config(options))
    for name in own_corpus.SUBJECTS:
        path = options.figures / f"{name}.json"
        if not path.exists():
            continue
        rows = read(path).rows
        forest.save_forest(rows, f"{name}_forest", options.figures)
        runs = [options.out / "runs" / run for row in rows for run in row.runs]
        if name == SYSTEMS_TABLE and len({row.name for row in rows if row.runs}) > 1:
            told = compare.frame([read_record(run) for run in runs])
            style.save(compare.against_cost(told, corpus), PICTURES[1], options.figures)
