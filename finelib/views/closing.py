"""Claims, checklist and report: what is written when everything else is done; of an own corpus pictures, no claims."""

from finelib.data import store
from finelib.paper import checklist, claims, own_corpus
from finelib.runs import notebooks
from finelib.runs.code import closure, code_hash, data_files
from finelib.runs.kept import as_left, leave
from finelib.runs.options import Options
from finelib.runs.records import digest


def write_pages(options: Options) -> bool:
    """Write them, unless they and what they are made of are as they were; whether they were written."""
    modules = closure(
        ["finelib.paper.claims", "finelib.paper.checklist", "finelib.views.report", "finelib.views.own_pictures"]
    )
    names = "claims.json", "claims.md", "claims.html", "checklist.md", "report.html"
    drawn = [f"{name}.{form}" for name in own_corpus.PICTURES for form in ("png", "pdf", "html")]
    pages = [options.figures / name for name in (*names, *drawn)]
    shown = [path for path in options.figures.glob("*.*") if path not in pages and path.name[0] != "."]
    read = [*shown, *(options.out / "runs").glob("*/record.json"), *data_files(modules)]
    key = digest(
        {
            "options": {name: str(value) for name, value in vars(options).items()},
            "files": sorted((str(path), store.checksum(path)) for path in read),
            "notebooks": sorted(path.name for path in notebooks.executed(options).glob("*.ipynb")),
            "code": code_hash(*modules),
            "versions": notebooks.packages(),
        }
    )
    note = options.out / "runs" / "kept" / "pages.json"
    if as_left(note, key):
        return False
    from finelib.views import own_pictures, report  # draw, so slow to import; processes that train import this module

    if own_corpus.is_asked_for(options):
        own_pictures.write_pictures(options)
    else:
        print(f"claims: {claims.write_claims(options)}")
    print(f"checklist: {checklist.write_checklist(options)}")
    report.write_report(options)
    leave(note, key, [path for path in pages if path.exists()])
    return True
