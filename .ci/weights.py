"""The demo's small FINE, trained on planted data: a file that comes with the package, and its card.

Called by ``publish.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import finelib
from finelib.config import DataConfig
from finelib.paper import ablations
from finelib.runs import experiment
from finelib.runs.options import Options
from finelib.runs.pretrained import FOLDER

NAME = "fine-small-planted"
LARGEST = 4_000_000  # bytes
CARD = """# {name}

A small FINE ({parameters:,} numbers, {size:.1f} MB) for trying things out, trained on **planted data**: sequences that
were generated in the shape of CMU-MOSEI, with factors that are known. It has seen no person's words, voice or face and
is of no use for real recordings.

```python
import finelib

model = finelib.load_model("{name}")
corpus = {call}
predictions = finelib.predict(model, corpus.splits["test"])
```

- **Trained** as row FINE of Table 6's first planted block, seed {seed}; `./run_all.sh --only table6` does it again.
- **Reads** text, audio and video features of widths {widths}; **predicts** a number from {low:g} to {high:g}.
- **Run** `{id}`, configuration {config_hash}, code {code_hash}, revision {revision}.
- **Licence**: MIT, as the code; generated data carry no other.

Scores on the planted test split, {utterances:,} utterances:

| metric | value |
|---|---|
{scores}

A model of real recordings is not published. `data/README.md` lists what the sources of the public CMU-MOSI files state
of a licence, one of them "non-commercial use ONLY", and the recordings belong to those who made them. To make one for
yourself:

```python
corpus = finelib.load("mosi", "public")
finelib.save_model(finelib.fit("FINE", corpus), corpus, "mosi.safetensors")
```
"""


def publish(out: Path, folder: Path = FOLDER) -> None:
    """Write the model of a finished ``run_all.sh`` and its card.

    Raises:
        ValueError: the run is not there, or the file is too large.
    """
    options = Options(out=out)
    spec = ablations.blocks(6, options)[0].specs(options.seed_list)[ablations.FINE_ROW.name][0]
    if not experiment.is_trained(spec, out):
        raise ValueError(f"{out}: found no run of Table 6's FINE by the code as it is, expected that of run_all.sh")
    (record,) = experiment.run([spec], out, progress=False)
    corpus, path = experiment.load_corpus(spec.data), folder / f"{NAME}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    finelib.save_model(experiment.load_model(record, spec), corpus, partial)
    Path(f"{partial}.md").unlink()  # ``CARD`` says more
    if (size := partial.stat().st_size) > LARGEST:
        partial.unlink()
        raise ValueError(f"{NAME}: found {size / 1e6:.1f} MB, expected at most {LARGEST / 1e6:.0f} MB")
    partial.replace(path)
    usual = vars(DataConfig(spec.data.corpus))
    given = {k: v for k, v in vars(spec.data).items() if v != usual[k]}
    arguments = "".join(f", {k}={json.dumps(v)}" for k, v in given.items())
    path.with_suffix(".md").write_text(
        CARD.format(
            name=NAME,
            size=size / 1e6,
            call=f'finelib.load("{spec.data.corpus}"{arguments})',
            seed=spec.seed,
            widths=", ".join(str(width) for width in corpus.widths.values()),
            low=corpus.info.label_low,
            high=corpus.info.label_high,
            id=record.id,
            parameters=record.parameters,
            config_hash=record.config_hash[:12],
            code_hash=record.code_hash[:12],
            revision=record.git_revision[:12],
            utterances=record.sizes["test"],
            scores="\n".join(f"| {k} | {v:.4f} |" for k, v in record.test.items()),
        )
    )
    print(f"{path}: {size / 1e6:.1f} MB, test Corr {record.test['corr']:.3f} on planted data")
