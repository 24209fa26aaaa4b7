"""Every corpus from a local server that plays the public addresses: the same corpora as from the folder of files."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from finelib.data import public_sources, sources
from finelib.data.corpora import ALL_CORPORA
from finelib.data.download import PublicFile
from finelib.data.safe_pickle import DataError

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = ("public-full", "public-mfn", "public-text")  # their files are too large for a mirror


def files_of(corpus: str) -> dict[str, PublicFile]:
    """url -> file, of all sources of a corpus."""
    info = ALL_CORPORA[corpus]
    known = (public_sources.find(info, source) for source in public_sources.names(info) if source not in ELSEWHERE)
    return {file.url: file for source in known for file in source.files.values()}


@pytest.fixture(scope="module")
def mirror():
    folder = Path(os.environ.get("FINE_DATA_MIRROR") or ROOT.parent / "shared" / "data")
    if not (folder / "ch_sims" / "label.npz").is_file():
        pytest.skip("the public files are not here: set FINE_DATA_MIRROR")
    return folder


@pytest.fixture
def addresses(mirror, tmp_path, monkeypatch):
    """Requests to https://HOST/PATH are answered by a server of this machine.

    ``asked``: what was asked for, in order; ``gone``: addresses that it no longer knows.
    """
    place = {url: mirror / file.name for corpus in ALL_CORPORA for url, file in files_of(corpus).items()}
    known = SimpleNamespace(asked=[], gone=set())

    class Plays(BaseHTTPRequestHandler):
        def do_GET(self):
            url = f"https:/{self.path}"
            known.asked.append(url)
            if url not in place.keys() - known.gone:
                return self.send_error(404)
            content = place[url].read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Plays)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here, get = f"http://127.0.0.1:{server.server_port}/", requests.get
    monkeypatch.setattr(requests, "get", lambda url, **how: get(url.replace("https://", here), **how))
    monkeypatch.setenv("FINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FINE_DATA_MIRROR", raising=False)
    yield known
    server.shutdown()
    server.server_close()


def load(corpus: str):
    """As its raw text and features, nothing encoded."""
    info = ALL_CORPORA[corpus]
    return [
        public_sources.load(info, s) for s in public_sources.names(info) if s not in ELSEWHERE and "by-video" not in s
    ]


@pytest.mark.parametrize("corpus", ALL_CORPORA)
def test_from_its_addresses_a_corpus_is_the_one_of_the_mirror(corpus, addresses, mirror, monkeypatch):
    served = load(corpus)
    asked = set(addresses.asked)
    assert asked == files_of(corpus).keys() and len(addresses.asked) == len(asked)  # each file once
    load(corpus)
    assert len(addresses.asked) == len(asked)  # kept in the cache
    monkeypatch.setenv("FINE_DATA_MIRROR", str(mirror))
    assert [c.sha256 for c in served] == [c.sha256 for c in load(corpus)]
    assert len(addresses.asked) == len(asked)


def test_an_address_that_is_gone_is_one_sentence_and_the_other_corpora_go_on(addresses):
    addresses.gone.update(files_of("ict_mmmo"))
    said = sources.available("ict_mmmo", "public")
    assert "could not be downloaded (HTTPError)" in said and "set FINE_DATA_MIRROR" in said and "\n" not in said
    with pytest.raises(DataError, match="could not be downloaded"):
        load("ict_mmmo")
    assert load("ch_sims")
