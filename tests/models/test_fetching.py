"""Fetching checkpoints: from a folder, and from a server that cuts, forgets, lies and fails."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from hw1.cli import main
from hw1.core.errors import EnvironmentFault, InputError, Refused
from hw1.models import fetching, shipped
from hw1.models.fetching import TRIES, fetch
from hw1.models.shipped import Indexed, fetched_folder, read_index
from hw1.models.store import Store

CONTENT = bytes(range(256)) * 40
WANTED = Indexed("vgg19_bn_3.safetensors", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``cut`` bytes a reply at most, where that isn't 0, of the first ``cuts``.

    ``unsatisfied``: 416 is the answer to each range, with the file's length where ``tells`` is set.
    """

    content = CONTENT
    cut = 0
    cuts = 1000
    ranges = True
    unsatisfied = False
    tells = False
    chunked = False
    status = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/weights"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        begin = self.headers["Range"]
        self.server.asked.append(begin)
        if self.server.status or not self.path.startswith("/weights/vgg19_bn_3"):
            self.send_error(self.server.status or 404)
            return
        start = int(begin.removeprefix("bytes=").rstrip("-")) if begin else 0
        total = len(self.server.content)
        if start and (self.server.unsatisfied or start >= total):
            self._refuse(total)
            return
        start = start if self.server.ranges else 0
        rest = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start and self.server.tells:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            rest = b"%x\r\n%s\r\n0\r\n\r\n" % (len(rest), rest)
        else:
            self.send_header("Content-Length", str(len(rest)))
        self.send_header("Connection", "close")
        self.end_headers()
        cut = self.server.cut if len(self.server.asked) <= self.server.cuts else 0
        self.wfile.write(rest[: cut or None])

    def _refuse(self, total: int) -> None:
        self.send_response(416)
        if self.server.tells:
            self.send_header("Content-Range", f"bytes */{total}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(source: object, folder: Path) -> tuple[Path, list[str]]:
    said: list[str] = []
    return fetch(WANTED, str(source), folder, said.append), said


def test_from_a_url_and_from_a_folder(server: Server, tmp_path: Path) -> None:
    path, said = get(server.url + "/", tmp_path / "a" / "b")
    assert path.read_bytes() == CONTENT
    assert said == []
    other, _ = get(path.parent, tmp_path / "c")
    assert other.read_bytes() == CONTENT
    assert [each.name for each in other.parent.iterdir()] == [WANTED.name]
    _, said = get(server.url, path.parent)
    assert said == [f"{path} is there"]
    assert server.asked == [None]


def test_a_connection_that_is_cut_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut = 4000
    path, said = get(server.url, tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-", "bytes=8000-"]
    assert "at 0.0 of 0.0 MB" in said[0]


def test_the_same_command_goes_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{WANTED.name}.part").write_bytes(CONTENT[:100])
    assert get(server.url, tmp_path)[0].read_bytes() == CONTENT
    assert server.asked == ["bytes=100-"]


def test_a_server_that_can_not_go_on_in_the_middle(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / f"{WANTED.name}.part").write_bytes(CONTENT[:100])
    assert get(server.url, tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 100, b"x" * 20_000])
def test_what_lay_there_may_be_of_another_file(left: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{WANTED.name}.part").write_bytes(left)
    assert get(server.url, tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"x" + CONTENT[1:], CONTENT + b"x", CONTENT[:-1]])
def test_wrong_bytes_are_not_kept(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / WANTED.name).write_bytes(content)
    with pytest.raises(InputError, match=r"has another vgg19_bn_3.*expected 10240 bytes"):
        get(source, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_wrong_bytes_of_a_server_are_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = b"x" * 20_000
    with pytest.raises(InputError, match="Nothing was kept"):
        get(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("left", [0, 100, 5000, 10_000])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_server_with_a_shorter_file(
    chunked: bool, left: int, tells: bool, server: Server, tmp_path: Path
) -> None:
    server.content, server.tells, server.chunked = CONTENT[:5000], tells, chunked
    if left:
        (tmp_path / f"{WANTED.name}.part").write_bytes(CONTENT[:left])
    with pytest.raises(InputError, match=r"has another .*expected 10240 bytes .*found 5000 bytes"):
        get(server.url, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) <= 3


@pytest.mark.parametrize("tells", [True, False])
def test_a_server_that_can_not_go_on_begins_again_once(
    tells: bool, server: Server, tmp_path: Path
) -> None:
    server.unsatisfied, server.tells, server.cut, server.cuts = True, tells, 4000, 1
    path, said = get(server.url, tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-", None]
    assert "begins again" in said[1]


def test_a_server_that_cuts_and_can_not_go_on(server: Server, tmp_path: Path) -> None:
    server.unsatisfied, server.cut = True, 4000
    with pytest.raises(EnvironmentFault, match=r"416.*5 times in a row"):
        get(server.url, tmp_path)


def test_a_server_that_fails_and_fails(server: Server, tmp_path: Path) -> None:
    server.status = 503
    (tmp_path / f"{WANTED.name}.part").write_bytes(CONTENT[:100])
    with pytest.raises(EnvironmentFault, match=r"503.*5 times in a row. What came is kept"):
        get(server.url, tmp_path)
    assert len(server.asked) == TRIES
    server.status = 0
    assert get(server.url, tmp_path)[0].read_bytes() == CONTENT


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="refused"):
        get("http://127.0.0.1:9/weights", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_scheme_in_capitals(server: Server, tmp_path: Path) -> None:
    path, _ = get(server.url.replace("http", "HTTP"), tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("below", ["", "more"])
def test_an_output_that_is_a_file(below: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file: expected a folder"):
        get(server.url, tmp_path / "file" / below)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{url}/other", "404"),
        ("ftp://example.org", "begins with http"),
        ("{folder}", "no file .*expected it in the folder of --from"),
        ("", "no source is known: give --from"),
    ],
)
def test_a_source_that_has_it_not(
    source: str, message: str, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        get(source.format(url=server.url, folder=tmp_path), tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_that_name_stays(server: Server, tmp_path: Path) -> None:
    (tmp_path / WANTED.name).write_bytes(b"my own")
    with pytest.raises(InputError, match="is another file: move it away"):
        get(server.url, tmp_path)
    assert (tmp_path / WANTED.name).read_bytes() == b"my own"


@pytest.mark.parametrize(
    "url", ["http://[x", f"http://{'a' * 70}/weights", "http://host:abc", "http://a b/"]
)
def test_what_is_no_url(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no URL"):
        get(url, tmp_path)


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", none)
    assert fetched_folder() is None
    assert Store.shipped().find("vgg19_bn_3") is None
    with pytest.raises(InputError, match="give --output DIR"):
        fetch(WANTED, "x", None, print)


def test_two_at_a_time(tmp_path: Path) -> None:
    with fetching._alone(tmp_path / f"{WANTED.name}.part"):  # noqa: SIM117
        with pytest.raises(Refused, match="another process fetches it"):
            get(tmp_path, tmp_path)


def test_what_was_fetched_is_found(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HW1_WEIGHTS_URL", server.url)
    monkeypatch.setattr(shipped, "INDEX", _index(tmp_path / "index.toml"))
    assert Store.shipped().find("vgg19_bn_3") is None
    done = CliRunner().invoke(main, ["models", "fetch", "vgg19_bn_3"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "hw1" / "weights" / WANTED.name)
    found = Store.shipped().find("vgg19_bn_3")
    assert found is not None
    assert found.read_bytes() == CONTENT
    listed = CliRunner().invoke(main, ["models", "fetch"])
    assert listed.stdout.split() == ["vgg19_bn_3", "0.0", "MB", WANTED.sha256[:12]]
    with pytest.raises(InputError, match="did you mean vgg19_bn_3"):
        fetching.find("vgg19")


def _index(path: Path) -> Path:
    path.write_text(f'["{WANTED.name}"]\nbytes = {WANTED.bytes}\nsha256 = "{WANTED.sha256}"\n')
    return path


def test_the_index_names_files_of_presets() -> None:
    for name, file in read_index().items():
        assert file.name == f"{name}.safetensors"
        assert len(file.sha256) == 64
        there = shipped.SHIPPED / file.name
        assert not there.is_file() or there.stat().st_size in (0, file.bytes)
