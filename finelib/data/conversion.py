"""Licensed files are read in a process of their own, whose memory and time are bounded.

The reader runs nothing that a pickle names (``safe_pickle``), but a hostile pickle can still ask for all memory, or
nest so deeply that the interpreter crashes. That ends the reading process alone and becomes one sentence. Windows
offers none of these bounds and macOS none on memory; there the process is separate and no more.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from finelib.data import mmsa, outliers, own_files, raw_text, store, ur_funny
from finelib.data.card import compared, describe
from finelib.data.corpora import CORPORA, CorpusInfo
from finelib.data.features import Corpus
from finelib.data.identity import identify
from finelib.data.safe_pickle import DataError

try:
    import resource
except ImportError:  # Windows
    resource = None

MEMORY_PER_BYTE, MEMORY = 64, 2 << 30  # Python's floats and lists take many times the bytes of the file
CPU_SECONDS_PER_BYTE, CPU_SECONDS = 3e-6, 300


def convert(
    info: CorpusInfo, paths: list[Path], sha256: dict[str, str], name: str, context: bool, folder: Path
) -> None:
    """Read the file of a corpus, or UR-FUNNY's six, and write the store ``name`` into ``folder``, in another process.

    The data card will say the files' ``sha256``, by file name. Of ``context`` see ``ur_funny.read``.

    Raises:
        DataError: a file is not what it should be, or cannot be read within the bounds.
        OSError: a file cannot be opened, or the folder cannot be written.
    """
    _bounded("licensed", [info.name, _resolved(paths), sha256, name, context, str(folder.resolve())], paths)


def convert_own(
    paths: list[Path],
    sha256: dict[str, str],
    name: str,
    label_range: tuple[float, float] | None,
    seed: int,
    folder: Path,
) -> None:
    """``convert`` for somebody's own feature file, or the files of a folder (``own_files.write_store``)."""
    _bounded("own", [_resolved(paths), sha256, name, label_range, seed, str(folder.resolve())], paths)


def _resolved(paths: list[Path]) -> list[str]:
    return [str(path.resolve()) for path in paths]


def _bounded(reader: str, arguments: list, paths: list[Path]) -> None:
    """Run a reader in a process that is bounded by the sizes of ``paths``."""
    request = {"reader": reader, "arguments": arguments, "paths": _resolved(paths)}
    path = filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")))
    command = [sys.executable, "-c", "import sys; from finelib.data.conversion import main; sys.exit(main())"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        return
    source = paths[0] if len(paths) == 1 else paths[0].parent
    if done.returncode < 0:
        ended = f"reading it ended the process that did ({signal.Signals(-done.returncode).name})"
        found = "too deep a nest, or more memory or time asked for than a file of this size takes"
        raise DataError(f"{source}: {ended}: found {found}; expected a feature file")
    try:
        kind, sentence = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"{source}: the process that reads it failed: {done.stderr[-2000:]}") from None
    raise {"DataError": DataError, "OSError": OSError}[kind](sentence)


def _read(corpus: str, paths: list[str], sha256: dict[str, str], name: str, context: bool, folder: str) -> None:
    info, first = CORPORA[corpus], Path(paths[0])
    if corpus == "ur_funny":
        (splits, notes), encoder = ur_funny.read(first.parent, info, context), "GloVe 840B"
    else:
        (splits, notes), encoder = mmsa.read(first, info), info.bert
    splits = raw_text.mend(splits, notes)
    outliers.clip(splits, notes)
    files = [{"name": n, "sha256": digest, "compared": compared(info, digest)} for n, digest in sha256.items()]
    where = str(first if corpus != "ur_funny" else first.parent)
    kind, says = identify(info, splits, sha256.values(), where)
    card = describe(info, splits, files, notes) | {"identity": {"kind": kind, "says": says}}
    store.write(Path(folder), Corpus(info, kind, splits, name, encoder, card))


def _bound(size: int) -> None:
    """Bound this process's memory and CPU time, given the bytes of the files; does what the system can do."""
    if resource is None:
        return
    # counted from here: importing alone takes several seconds on a slow machine
    seconds = int(time.process_time() + CPU_SECONDS + CPU_SECONDS_PER_BYTE * size) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # macOS does not enforce a bound on the address space
        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY + MEMORY_PER_BYTE * size,) * 2)


def main() -> int:
    """The reading process: a request from standard input; exit status 0, or another with one sentence said."""
    request = json.loads(sys.stdin.read())
    _bound(sum(os.path.getsize(path) for path in request["paths"]))
    try:
        {"licensed": _read, "own": own_files.write_store}[request["reader"]](*request["arguments"])
        return 0
    except (DataError, OSError) as error:
        said = ["DataError" if isinstance(error, DataError) else "OSError", str(error)]
    except MemoryError:
        found = "found more memory asked for than a file of this size takes"
        said = ["DataError", f"{request['paths'][0]}: {found}, expected a feature file"]
    print(json.dumps(said))
    return 1
