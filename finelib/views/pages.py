"""What the repository's own pages show of published results: README's findings and small table, all of RESULTS.md.

Everything is made from figures/published, which ``.ci/publish.py`` fills; nothing is trained.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from finelib.paper import objective
from finelib.paper.findings import FINETUNED, IN_SHORT, PUBLIC, findings, in_short
from finelib.paper.verdict import VERDICTS
from finelib.runs.records import write_atomically
from finelib.views import style
from finelib.views.banner import write_banners

PUBLISHED = "figures/published"
EXECUTED = (f"{PUBLISHED}/notebooks", "notebooks")  # where a notebook with its outputs lies, if one is published
BLOCK = re.compile(r"<!-- (\w+) -->\n.*?<!-- end -->", re.DOTALL)
# code revision -> what must be known of what it measured, until that is measured again
REMARKS = {"361f3b59c215": "It averaged L_MI over pairs, which FINE now sums."}


@dataclass(frozen=True)
class Part:
    """A part of RESULTS.md: heading, what must be known first, and names in figures/published in their order."""

    title: str
    names: tuple[str, ...]
    intro: str = ""

    @property
    def anchor(self) -> str:
        """The heading's anchor, as GitHub makes it."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


PARTS = (
    Part(
        "Tables 1 to 4: FINE and other systems",
        ("table1", "table2", "table3", "table4"),
        "Which systems are not above ridge on planted data stands below a table. Why they are not was looked into: "
        "[benchmarks](benchmarks/README.md#below-ridge-on-planted-data).",
    ),
    Part(
        "Real corpora: text, labels and splits that anybody may download",
        tuple(f"{PUBLIC}{number}" for number in range(1, 7)),
        "FINE, its frozen text encoder alone with a linear head, linear models, and the compared systems that can do "
        "with a corpus's modalities, with their published settings (on CMU-MOSEI their own most epochs or three, by "
        "dev); more seeds than in the tables above. Rates made for an encoder that is trained too are low here: some "
        "systems end at the limit of epochs before they have learned, so a low row is no verdict on a method. Why FINE "
        "is not above a linear model on UR-FUNNY and CH-SIMS was looked into: "
        "[benchmarks](benchmarks/README.md#where-fine-is-not-above-a-linear-model). The printed rows have another text "
        "encoder (BERT-base, fine-tuned) and three modalities, so no sentence compares the two. Made by `./run_all.sh "
        "--source public --seeds N --only tableK` (N: 5, 3, 5, 5, 5, 3); most runs of Table 1 and some of the others "
        "on a machine with a GPU and 16 cores.",
    ),
    Part(
        "Real CMU-MOSI: four settings of every system",
        ("tuned_table1",),
        "Each system has the best of four settings on dev: its published one and three drawn from its space "
        "(`finelib/runs/tuning.py`; every one with its dev score in `figures/published/tuning.json`). FINE's first "
        "setting was itself chosen on these data, so it has had more looks than the others. Made by `./run_all.sh "
        "--source public --seeds 5 --tune 4 --only table1`.",
    ),
    Part(
        "Real corpora, the text encoder trained with each system",
        tuple(f"{FINETUNED}{number}" for number in range(1, 5)),
        "all-MiniLM-L6-v2, fine-tuned; of the compared systems those whose authors fine-tune theirs, with their "
        "published settings. Trained on one NVIDIA H100. Made by `./run_all.sh --source public --finetune-text --seeds "
        "5 --only table1`, CMU-MOSEI by `--seeds 3 --systems none --only table2`. UR-FUNNY and CH-SIMS have *not been "
        "run*.",
    ),
    Part("Table 5 on real CMU-MOSI", ("real_mosi_modalities",)),
    Part("Table 5: which modalities", ("table5", "table5_forest")),
    Part("Table 6: which components", ("table6_forest", "table6_components", "table6")),
    Part(
        "The terms of L_MI",
        ("objective_in_short",),
        "Every row of Table 6 that leaves terms of L_MI out was trained in four forms of L_MI: summed or averaged over "
        "pairs, with critics at the model's rate or at five times that. "
        "Made by `./run_all.sh --only objective`.",
    ),
    Part(
        "Do STR and UTR hold what they should?",
        ("identifiability_factors", "identifiability", "subset_codes", "subset_codes_more"),
        "The factors of planted data are known. A score is 0 if the branches do not divide them and 1 if they divide "
        "them perfectly; by a linear probe / by one with a hidden layer. *FINE with subset codes* is ours "
        "(`finelib/baselines/subset_codes.py`): it has one number for every set of modalities. The first two pictures "
        "are of one world, which the variant's settings were tried on (generator seed 0, means over seeds); the third "
        "and the tables of six that nothing was tried on: there both systems have the same epochs and rates, and of "
        "each the better of two starts. A goal is reached if the whole 95 % interval over worlds lies above it, not if "
        "it lies below, else it is open. Made by `./run_all.sh --only subset_codes`. Whether Corr is lost the six "
        "left open, so 48 others, one seed each, were fixed and run: `./run_all.sh --only subset_codes_more`. "
        "The seconds of the two tables are of different days and are not to be compared.",
    ),
    Part(
        "How far FINE with subset codes goes",
        ("subset_codes_further", "subset_codes_real"),
        "Goals beyond the six worlds above. One is reached if the whole 95 % interval over planted worlds lies above"
        " it, not if it lies below, else it is open. Both systems have the same epochs, rates and starts; scores as "
        "above. Made by `./run_all.sh --only subset_codes_further`. Then real corpora: FINE as in the tables of real"
        " corpora, the variant with the settings that it has everywhere, of which none was chosen there. Their "
        "intervals are over seeds, those of differences over seeds and test utterances. Made by `./run_all.sh --only"
        " subset_codes_real`.",
    ),
    Part(
        "When data are missing",
        ("missing", "missing_subsets", "missing_trained"),
        "Planted data: every system of Table 1 when frames, or whole modalities, are taken out of the test utterances. "
        "A triangle marks a system that is shown to predict better without a modality.",
    ),
    Part(
        "Home worlds",
        ("home_worlds", "home_worlds_at_home"),
        "Planted data: for each compared system a world in which its own idea is what is needed. Test Corr as a share "
        "of the way from a constant to the oracle; a frame marks each system's home. Who misses the rule, and why: "
        "[home worlds](docs/home_worlds.md). Made by `./run_all.sh --only home_worlds --seeds 5`.",
    ),
    Part("Figure 3: where the information lies", ("figure3",)),
    Part("Figure 5: the features in three dimensions", ("figure5",)),
)
ALT = {
    "table5_forest": "Differences of the subsets of Table 5 to all modalities",
    "table6_forest": "Differences of the rows of Table 6 to FINE",
    "table6_components": "FINE without one component, on planted data made for that component",
    "identifiability": "Three scores of several models on planted data",
    "identifiability_factors": "Which group of features holds which planted factor",
    "subset_codes": "The three scores of FINE and of FINE with subset codes over planted worlds",
    "missing": "Test Corr of every system against the share of frames that is lost",
    "missing_subsets": "Test Corr of every system with what is left when whole modalities are missing",
    "home_worlds": "How far every system comes towards the oracle in every home world",
    "home_worlds_at_home": "Each system at home, without its defining part, and ridge",
    "figure3": "Where the information about the label lies, in nats",
    "figure5": "STR and UTR features in three dimensions, and the planted factors in each group",
}


def write(root: Path) -> None:
    """Make the banner, RESULTS.md, and the blocks of README and of docs/ again from figures/published."""
    write_banners(root / PUBLISHED)
    write_atomically(root / "RESULTS.md", results(root))
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        text = page.read_text()
        if (made := filled(text, root)) != text:
            write_atomically(page, made)


def filled(text: str, root: Path) -> str:
    """A page with each ``<!-- NAME -->`` ... ``<!-- end -->`` block made again.

    Raises:
        FileNotFoundError: nothing of that name is published.
    """
    made = {"findings": findings_block, "in_short": in_short_block}

    def block(match: re.Match) -> str:
        name = match[1]
        content = made[name](root) if name in made else (root / PUBLISHED / f"{name}.md").read_text()
        return f"<!-- {name} -->\n{content.strip()}\n<!-- end -->"

    return BLOCK.sub(block, text)


def findings_block(root: Path, figures: str = PUBLISHED) -> str:
    """The findings as a numbered list, each title a link to its executed notebook; ``figures`` as in ``results``."""
    lines = [
        f"{i}. [**{found.title}.**]({executed(found.notebook, root)}) {found.says}"
        for i, found in enumerate(findings(root / figures), 1)
    ]
    return "\n".join(lines)


def executed(notebook: str, root: Path) -> str:
    """Path of a notebook from the root, with its outputs where such a copy is published."""
    places = [f"{folder}/{notebook}.ipynb" for folder in EXECUTED]
    return next((place for place in places if (root / place).exists()), places[-1])


def in_short_block(root: Path) -> str:
    """README's small table."""
    lines = [IN_SHORT, *in_short(root / PUBLISHED)]
    lines.insert(1, ["---", "---:", "---", "---", "---:"])
    return _together("\n".join(f"| {' | '.join(line)} |" for line in lines))


def results(root: Path, figures: str = PUBLISHED) -> str:
    """RESULTS.md: every table and picture; a table that no part names stands in a part at the end.

    Args:
        root: folder of the page.
        figures: where the tables lie, as a path from there.
    """
    folder = root / figures
    named = {name for part in PARTS for name in part.names} | {objective.NAME}
    tables = {path.stem for path in folder.glob("*.json") if path.with_suffix(".tex").exists()}
    parts = [*PARTS, Part("More tables", tuple(sorted(tables - named)))]
    shown = [(part, [text for name in part.names if (text := _shown(name, folder, figures))]) for part in parts]
    shown = [(part, [part.intro] * bool(part.intro) + texts) for part, texts in shown if texts]
    values = {"parts": shown, "counts": _verdicts(folder), "verdicts": VERDICTS, "at": figures}
    return style.render("results.md", findings=findings_block(root, figures), **values)


def _verdicts(folder: Path) -> dict[str, list[int]]:
    """Kind of evidence -> how many claims got each of ``VERDICTS``; empty if there is no claims.json."""
    path = folder / "claims.json"
    content = json.loads(path.read_text()) if path.exists() else {"columns": {}}
    given = {title: [c["verdicts"][kind] for c in content["claims"]] for kind, title in content["columns"].items()}
    return {title: [each.count(verdict) for verdict in VERDICTS] for title, each in given.items()}


def _shown(name: str, folder: Path, figures: str) -> str:
    """A published picture and what is written with it, "" if nothing of that name is published."""
    files = {form: folder / f"{name}.{form}" for form in ("png", "md", "json")}
    texts = [f"![{ALT[name]}]({figures}/{name}.png)"] if files["png"].exists() else []
    texts += [_together(files["md"].read_text().strip())] if files["md"].exists() else []
    content = json.loads(files["json"].read_text()) if files["json"].exists() else {}
    revision = content.get("provenance", {}).get("git_revision", "")[:12]
    if revision:
        source = f"Code revision {revision}; seeds, intervals and run ids in [{name}.json]({figures}/{name}.json)."
        texts.append(f"*{' '.join([source, *([REMARKS[revision]] if revision in REMARKS else [])])}*")
    return "\n\n".join(texts)


def _together(text: str) -> str:
    """With no line break after a ± or within an interval, which narrow columns would get."""
    return re.sub(r"(?<=±) |(?<=\d,) (?=[-+\d.]+\])", "\u00a0", text)
