"""From a corpus's name and a source to the loaded corpus.

load("mosi")                    planted data, generated here
load("mosi", "public")          real CMU-MOSI features that anybody may download
load("mosi", FILE_OR_FOLDER)    the licensed feature files
"""

import logging
import os
from functools import partial
from pathlib import Path
from types import ModuleType

from finelib.data import conversion, store, ur_funny
from finelib.data.card import changes, describe
from finelib.data.corpora import CORPORA, CorpusInfo, nearest
from finelib.data.features import Corpus
from finelib.data.safe_pickle import DataError
from finelib.data.text import MINILM, encode_corpus

__all__ = ["DataError", "available", "load", "nearest"]

PUBLIC = ("public", "public-mfn")
SOURCES = ("planted", *PUBLIC)
PUBLIC_CORPUS = "mosi"
log = logging.getLogger(__name__)


def load(
    corpus: str,
    source: str | Path = "planted",
    *,
    text_encoder: str = "files",
    finetune_text: bool = False,
    scale: float = 1.0,
    seed: int = 0,
    design: str = "corpus",
    aligned: bool = False,
    context: bool = False,
    cache: Path | None = None,
) -> Corpus:
    """Load one corpus.

    Args:
        corpus: "mosi", "mosei", "ur_funny" or "ch_sims"; or the path of its files in place of a source: a text with a
            separator, or an existing file or folder that is no corpus's name.
        source: "planted" (generated here); for MOSI "public" (real text and audio) or "public-mfn" (real, three
            modalities, word-aligned); else a folder that holds the licensed files under their published paths
            (``CorpusInfo.files``), or one MMSA-format file.
        text_encoder: "files" for the text features of the source, or an encoder (``data.text``) that is run on
            its raw text. "public" has raw text only: "files" means all-MiniLM-L6-v2 there.
        finetune_text: token ids instead of features, for an encoder that is trained with the model.
        scale, seed, design: planted data only, see ``planted.generate``.
        aligned: MOSI and MOSEI folders: the word-aligned file instead of the unaligned one.
        context: UR-FUNNY folders: the context sentences before the punchline too.
        cache: where converted files are kept; default FINE_CACHE, or the user's cache folder.

    Returns:
        The corpus with its data card. Licensed files are converted once and memory-mapped after that. What reading
        altered, dropped or found missing stands in the card's notes and is logged as a warning, in one line.

    Raises:
        DataError: a file is missing or not what it should be.
        ValueError: an unknown name, or an option that does not apply.
        OSError: a file cannot be opened or the cache cannot be written.
    """
    if _is_path(corpus):
        if source != "planted":
            raise ValueError(f"load: found the path {str(corpus)!r} and source {str(source)!r}, expected one of them")
        corpus, source = _corpus_of(Path(corpus)), corpus
    info = _info(corpus)
    source = _source(info, source)
    _check_folder_options(info, source, aligned, context)
    if finetune_text and text_encoder == "files" and source != "public":
        raise ValueError("finetune_text: found text_encoder 'files', expected the name of an encoder to fine-tune")
    if source == "planted":
        from finelib.data import planted  # imported when used: scipy.stats takes half a second

        loaded = planted.generate(info, scale=scale, seed=seed, design=design)
    elif source in PUBLIC:
        loaded = _public(info, source, cache)
        text_encoder = MINILM if (source, text_encoder) == ("public", "files") else text_encoder
    else:
        loaded = _files(info, Path(source), aligned, context, cache)
    if source != "planted" and (altered := changes(loaded.card)):
        log.warning("%s from %s: %s", info.title, source, "; ".join(altered))
    return loaded if text_encoder == "files" else encode_corpus(loaded, text_encoder, finetune_text)


def available(
    corpus: str, source: str | Path, *, aligned: bool = False, context: bool = False, cache: Path | None = None
) -> str | None:
    """What is missing for ``load`` to read this source, as one sentence; None if nothing is.

    Public files are downloaded and verified, licensed files only looked for.

    Raises:
        ValueError: an unknown name, or an option that does not apply.
    """
    info = _info(corpus)
    try:
        source = _source(info, source)
        _check_folder_options(info, source, aligned, context)
        if source in PUBLIC:
            _public_module(source).paths(cache)
        elif source != "planted":
            _locate(info, Path(source), aligned)
    except (DataError, OSError) as error:
        return str(error)
    return None


def _is_path(corpus: str | Path) -> bool:
    name = str(corpus)
    return name not in CORPORA and (os.sep in name or "/" in name or Path(name).exists())


def _corpus_of(path: Path) -> str:
    """The corpus whose published files a path is, or holds.

    Raises:
        DataError: there is no such path, or it does not tell.
    """
    if not path.exists():
        raise DataError(f"{path}: found no such file or folder, expected a corpus's files")
    name = path.resolve().as_posix()
    files = [(corpus, file) for corpus, info in CORPORA.items() for file in info.files]
    matching = {corpus for corpus, file in files if name.endswith(f"/{file}") or (path / file).exists()}
    if len(matching) != 1:
        found = f"files of {', '.join(sorted(matching))}" if matching else "no file that is named as published"
        raise DataError(f"{path}: found {found}, expected those of one corpus; name it: load(CORPUS, {str(path)!r})")
    return matching.pop()


def _info(corpus: str) -> CorpusInfo:
    if corpus not in CORPORA:
        raise ValueError(f"corpus {corpus!r}: unknown, expected one of {', '.join(CORPORA)}{nearest(corpus, CORPORA)}")
    return CORPORA[corpus]


def _source(info: CorpusInfo, given: str | Path) -> str:
    """The source, if there is such a thing for this corpus."""
    source = str(given)
    if source in PUBLIC and info.name != PUBLIC_CORPUS:
        raise DataError(f"source {source!r}: there are no public features of {info.title}, only of CMU-MOSI")
    if source not in SOURCES and not Path(source).exists():
        hint = nearest(source, SOURCES)
        raise DataError(f"source {source!r}: found no such file or folder, expected one, or {', '.join(SOURCES)}{hint}")
    return source


def _check_folder_options(info: CorpusInfo, source: str, aligned: bool, context: bool) -> None:
    folder = source not in SOURCES
    if aligned and not (folder and any("/aligned" in name for name in info.files)):
        raise ValueError(f"aligned: {info.title} from {source} has no aligned file, only MOSI and MOSEI folders have")
    if context and not (folder and info.name == "ur_funny"):
        raise ValueError(f"context: {info.title} from {source} has no context sentences, only a UR-FUNNY folder has")


def _files(info: CorpusInfo, source: Path, aligned: bool, context: bool, cache: Path | None) -> Corpus:
    """A licensed corpus, through its store."""
    paths = _locate(info, source, aligned)
    sha256 = {path.name: store.file_sha256(path, cache) for path in paths}
    name = store.key(info.name, sha256, context=context)
    return store.open_or_convert(name, info, partial(conversion.convert, info, paths, sha256, name, context), cache)


def _locate(info: CorpusInfo, source: Path, aligned: bool) -> list[Path]:
    """The licensed files to read."""
    if info.name == "ur_funny":
        return ur_funny.files(source / Path(next(iter(info.files))).parent)
    if source.is_file():
        return [source]
    name = next(name for name in info.files if Path(name).name.startswith("aligned") == aligned)
    path = source / name
    if not path.is_file():
        folder = next(parent for parent in path.parents if parent.is_dir())
        listed = ", ".join(sorted(p.name for p in folder.iterdir())[:20]) or "nothing"
        looked = f"{info.title}: looked for {path}, found in {folder}: {listed}"
        raise DataError(f"{looked}; data/README.md says how to obtain it")
    return [path]


def _public(info: CorpusInfo, source: str, cache: Path | None) -> Corpus:
    module = _public_module(source)
    paths = module.paths(cache)
    sha256 = {name: store.file_sha256(path, cache) for name, path in paths.items()}
    splits, notes = module.read(paths, info)
    files = [{"name": name, "sha256": digest, "compared": "pinned"} for name, digest in sha256.items()]
    encoder = "GloVe" if source == "public-mfn" else ""
    return Corpus(info, "public", splits, store.key(source, sha256), encoder, describe(info, splits, files, notes))


def _public_module(source: str) -> ModuleType:
    # imported when used: pandas and h5py take longer to load than a converted corpus
    from finelib.data import public, public_mfn

    return public_mfn if source == "public-mfn" else public
