from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from medgan.errors import ConfigError, DataError
from medgan.reader_study.application import check_answer, make_application, open_socket
from medgan.reader_study.store import AnswerStore

GOOD = {"confidence": 4, "realism": 2, "diagnosis": "NORMAL", "comment": "", "seconds": 3.5, "submission": "abcdefgh1"}


class Visitor:
    """A browser without a screen, which talks to the application directly."""

    def __init__(self, application, runner):
        transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
        self._runner = runner
        self.reader = ""

    def get(self, address, **options):
        return self._runner.run(self._client.get(address, **options))

    def send(self, address, values=None, **options):
        body = {**(values or {}), "reader": self.reader}
        return self._runner.run(self._client.post(address, **{"json": body, **options}))

    def open(self, study, name):
        page = self.get(f"/r/{study.tokens()[name]}")
        assert page.status_code == 200
        self.reader = re.search(r'data-reader="(\w+)"', page.text)[1]
        return page

    def begin(self, study, name):
        """Go through consent and training."""
        self.open(study, name)
        self.send("/consent", {"agreed": True})
        for position in range(len(study.training)):
            assert self.send(f"/training/{position}", GOOD).status_code == 200
        return self


@pytest.fixture
def visitor(study, store) -> Iterator[Visitor]:
    with asyncio.Runner() as runner:
        yield Visitor(make_application(study, store), runner)


def test_from_link_to_answer(study, store, visitor):
    reader = study.readers[1]
    page = visitor.open(study, reader.name)
    assert "definitely real" in page.text
    assert reader.name not in page.text
    assert visitor.get("/state").json() == {"stage": "consent", "trained": 0, "training": 2, "answered": 0, "total": 30}
    assert visitor.get("/case/0/image/0").status_code == 404
    assert visitor.get("/training/0/image/0").status_code == 404
    assert visitor.send("/case/0", GOOD).status_code == 409
    assert visitor.send("/consent", {"agreed": False}).status_code == 422
    assert visitor.send("/consent", {"agreed": True}).json()["stage"] == "training"
    for position, (_, synthetic) in enumerate(study.training):
        assert visitor.get(f"/training/{position + 1}/image/0").status_code == 404
        assert visitor.get(f"/training/{position}/image/0").status_code == 200
        assert visitor.send(f"/training/{position}", GOOD).json()["truth"] == int(synthetic[0])
    assert visitor.send("/case/0", GOOD).json()["answered"] == 1
    assert visitor.send("/case/0", GOOD).json()["answered"] == 1
    (stored,) = store.answers().values()
    assert len(stored) == 1
    assert (stored[0].confidence, stored[0].realism, stored[0].seconds) == (4, 2, 3.5)
    assert store.consents() == {reader.name: study.consent_sha256}


def test_images_come_at_their_turn_and_alike(study, visitor, key_of):
    reader = study.readers[0]
    visitor.begin(study, reader.name)
    kinds = key_of(study)
    seen = {}
    for position, shown in enumerate(reader.presentations):
        for other in {position + 1, position - 2, 29} - {position, position - 1, -1, -2}:
            assert visitor.get(f"/case/{other}/image/0").status_code == 404
        response = visitor.get(f"/case/{position}/image/0")
        assert response.content == study.image_file(shown.items[0]).read_bytes()
        seen.setdefault(kinds[shown.items[0]]["kind"], []).append(dict(response.headers))
        answered = visitor.send(f"/case/{position}", {**GOOD, "submission": f"submission{position}"})
        assert set(answered.json()) == {"stage", "trained", "training", "answered", "total"}
    assert visitor.get("/state").json()["stage"] == "done"
    headers = [tuple(sorted(each.items())) for each in seen["real"] + seen["synthetic"]]
    assert len(seen["real"]) == len(seen["synthetic"]) == 15
    assert len(set(headers)) == 1
    assert not {"last-modified", "etag", "content-disposition", "server"} & set(dict(headers[0]))


def test_no_response_holds_a_name_of_a_file_or_a_kind(study, visitor, key_of):
    key = key_of(study)
    visitor.begin(study, study.readers[0].name)
    texts = [visitor.get(address).text for address in ("/", "/state", "/study.js", "/study.css")]
    texts.append(visitor.send("/case/0", GOOD).text)
    for text in texts:
        assert not any(item in text or str(entry["seed"]) in text for item, entry in key.items() if entry["seed"])
    assert "key" not in json.dumps(visitor.send("/case/1", {**GOOD, "submission": "other0001"}).json())


def test_wrong_links_get_nowhere(study, visitor):
    token = study.tokens()[study.readers[0].name]
    wrong = [token[:-1], token + "x", token.swapcase(), "x", "é", "%00", "../study.json", "..%2fstudy.json", "a" * 5000]
    for each in wrong:
        response = visitor.get(f"/r/{each}")
        assert response.status_code == 404, each
        assert "set-cookie" not in response.headers
    for address in ("/", "/state", "/case/0/image/0", "/training/0/image/0"):
        assert visitor.get(address).status_code == 403
        assert visitor.get(address, headers={"cookie": f"medgan_reader={token[:-1]}"}).status_code == 403
    assert visitor.send("/case/0", GOOD).status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        "/key.json",
        "/study.json",
        "/readers.json",
        "/images/",
        "/../key.json",
        "/%2e%2e/key.json",
        "/case/0/image/../../key.json",
        "/case/..%2f..%2fkey.json/image/0",
        "/case/-1/image/0",
        "/case/0/image/1",
        "/case/0/image/-1",
        "/case/00000000000000000000000000000000099999999/image/0",
        "/static/../key.json",
        "/answers.sqlite",
        "/docs",
    ],
)
def test_paths_outside_get_nowhere(study, visitor, address):
    visitor.begin(study, study.readers[0].name)
    response = visitor.get(address)
    assert response.status_code == 404
    assert "items" not in response.text


def test_guessed_images_get_nowhere(study, visitor):
    visitor.begin(study, study.readers[0].name)
    for item in study.cases[0] + study.cases[5]:
        for address in (f"/images/{item}.png", f"/case/{item}/image/0", f"/{item}", f"/{item}.png"):
            assert visitor.get(address).status_code == 404


def test_headers_of_every_answer(study, visitor):
    visitor.open(study, study.readers[0].name)
    for response in (visitor.get("/"), visitor.get("/nothing"), visitor.get("/state"), visitor.send("/case/0", {})):
        assert response.headers["cache-control"] == "no-store"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
    cookie = visitor.open(study, study.readers[0].name).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_pages_need_no_other_server(study, visitor):
    page = visitor.open(study, study.readers[0].name).text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses == ["/study.css", "/study.js"]
    assert "<style" not in page
    assert not re.search(r"\son\w+=", page)
    assert not re.search(r"https?://|//[a-z]", re.sub(r"//.*", "", visitor.get("/study.js").text))


def test_texts_become_no_markup(draw, tmp_path):
    from medgan.reader_study import load_study

    study = draw(tmp_path / "s", title="<script>alert(1)</script>")
    values = json.loads((study.folder / "study.json").read_text(encoding="utf-8"))
    values["consent"] = ["<img src=x onerror=alert(1)>"]
    (study.folder / "study.json").write_text(json.dumps(values), encoding="utf-8")
    study = load_study(study.folder)
    with asyncio.Runner() as runner, AnswerStore(study) as store:
        visitor = Visitor(make_application(study, store), runner)
        for text in (visitor.open(study, study.readers[0].name).text, visitor.get("/r/x").text):
            assert "<script>alert" not in text
            assert "<img" not in text
            assert "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": 0}, "confidence"),
        ({"confidence": 6}, "confidence"),
        ({"confidence": True}, "confidence"),
        ({"confidence": "4"}, "confidence"),
        ({"confidence": 3.5}, "confidence"),
        ({"confidence": None}, "confidence"),
        ({"realism": 9}, "realism"),
        ({"diagnosis": "cancer"}, "diagnosis"),
        ({"diagnosis": ["NORMAL"]}, "diagnosis"),
        ({"comment": "x" * 1001}, "at most 1000"),
        ({"comment": 5}, "comment"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": "3"}, "seconds"),
        ({"seconds": None}, "seconds"),
    ],
)
def test_answers_that_are_none(study, change, message):
    with pytest.raises(DataError, match=message):
        check_answer({**GOOD, **change}, study)


def test_answers_that_are_refused_store_nothing(study, store, visitor):
    visitor.begin(study, study.readers[0].name)
    body = json.dumps({**GOOD, "reader": visitor.reader})
    typed = {"content-type": "application/json"}
    requests = [
        (422, {"values": {**GOOD, "confidence": 9}}),
        (422, {"values": {**GOOD, "submission": "short"}}),
        (422, {"values": {**GOOD, "submission": "a" * 65}}),
        (422, {"values": {**GOOD, "submission": "abcdefgh'--"}}),
        (413, {"values": {**GOOD, "comment": "x" * 20_000}}),
        (413, {"json": None, "content": b" " * 3_000_000, "headers": typed}),
        (400, {"json": None, "content": b"{", "headers": typed}),
        (400, {"json": None, "content": b"[" * 15_000, "headers": typed}),
        (400, {"json": None, "content": b"\xff\xfe", "headers": typed}),
        (400, {"json": [1]}),
        (415, {"json": None, "content": body, "headers": {"content-type": "text/plain"}}),
        (415, {"json": None, "data": {"confidence": 3}}),
        (403, {"values": GOOD, "headers": {"origin": "http://elsewhere.example"}}),
        (403, {"values": GOOD, "headers": {"origin": "null"}}),
        (409, {"json": {**GOOD, "reader": study.readers[1].id}}),
        (409, {"json": GOOD}),
    ]
    for status, options in requests:
        response = visitor.send("/case/0", **options)
        assert response.status_code == status, options
        assert "error" in response.json()
    assert visitor.send("/case/7", GOOD).status_code == 409
    assert visitor.get("/case/0").status_code == 405
    assert store.answers() == {}


def test_scripted_comments_are_text(study, store, visitor):
    visitor.begin(study, study.readers[0].name)
    comment = "<script>alert('x')</script>\n=HYPERLINK(1)\x00\x1b[31m\u202e"
    assert visitor.send("/case/0", {**GOOD, "comment": comment}).status_code == 200
    (stored,) = store.answers().values()
    assert stored[0].comment == "<script>alert('x')</script>\n=HYPERLINK(1)[31m"


def test_two_links_in_one_browser_do_not_mix(study, store, visitor):
    first, second = study.readers[:2]
    visitor.begin(study, first.name)
    visitor.begin(study, second.name)
    visitor.reader = first.id  # the page of the first one is still open
    response = visitor.send("/case/0", GOOD)
    assert response.status_code == 409
    assert "Another reader's link" in response.json()["error"]
    assert store.answers() == {}


def test_pauses_are_recorded(study, visitor):
    visitor.begin(study, study.readers[0].name)
    assert visitor.send("/pause", {"paused": True}).status_code == 200
    assert visitor.send("/pause", {"paused": False}).status_code == 200
    with sqlite3.connect(study.folder / "answers.sqlite") as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM medgan_events ORDER BY number")]
    connection.close()
    assert kinds == ["consent", "training", "training", "pause", "continue"]


def test_locked_database_is_said_and_nothing_is_acknowledged(study, capsys):
    with asyncio.Runner() as runner, AnswerStore(study, timeout=0.1) as store:
        visitor = Visitor(make_application(study, store), runner).begin(study, study.readers[0].name)
        other = sqlite3.connect(study.folder / "answers.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        response = visitor.send("/case/0", GOOD)
        other.close()
        assert response.status_code == 503
        assert "could not be stored" in response.json()["error"]
        assert "database is locked" in capsys.readouterr().err
        assert visitor.send("/case/0", GOOD).json()["answered"] == 1


def test_pairs(pair_study):
    with asyncio.Runner() as runner, AnswerStore(pair_study) as store:
        visitor = Visitor(make_application(pair_study, store), runner)
        reader = pair_study.readers[0]
        page = visitor.open(pair_study, reader.name)
        assert "Which image is synthetic?" in page.text
        visitor.send("/consent", {"agreed": True})
        for position, (_, synthetic) in enumerate(pair_study.training):
            answer = visitor.send(f"/training/{position}", {"choice": 0, "seconds": 1})
            assert synthetic[answer.json()["truth"]]
        for place in (0, 1):
            expected = pair_study.image_file(reader.presentations[0].items[place]).read_bytes()
            assert visitor.get(f"/case/0/image/{place}").content == expected
        assert visitor.get("/case/0/image/2").status_code == 404
        assert visitor.send("/case/0", {"choice": 2, "seconds": 1, "submission": "a" * 8}).status_code == 422
        assert visitor.send("/case/0", {"choice": 1, "seconds": 1, "submission": "a" * 8}).status_code == 200


def test_missing_image(study, store):
    study.image_file(study.cases[3][0]).unlink()
    with pytest.raises(DataError, match="1 images of the study are missing"):
        make_application(study, store)


def test_port_that_is_taken():
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen at 127.0.0.1, port {port}"):
            open_socket("127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"cannot listen at nowhere\.invalid"):
        open_socket("nowhere.invalid", 0)


def test_stopped_with_the_keyboard(study, serve):
    process, _, _ = serve(study)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in output
    assert f"Stopped. Analyse with: medgan study analyze {study.folder}" in output


def read_all(link):
    """Read as a reader does, over the network; return what was acknowledged, by position."""
    acknowledged = {}
    address, _, _ = link.partition("/r/")
    with contextlib.suppress(httpx.TransportError), httpx.Client(base_url=address, timeout=60) as client:
        identity = re.search(r'data-reader="(\w+)"', client.get(link).text)[1]
        state = client.get("/state").json()
        if state["stage"] == "consent":
            client.post("/consent", json={"agreed": True, "reader": identity}).raise_for_status()
        for position in range(state["trained"], state["training"]):
            client.post(f"/training/{position}", json={**GOOD, "reader": identity}).raise_for_status()
        rng = np.random.default_rng(int(identity, 16))
        for position in range(state["answered"], state["total"]):
            confidence = int(rng.integers(1, 6))
            values = {**GOOD, "confidence": confidence, "reader": identity, "submission": f"{identity}{position:08d}"}
            client.get(f"/case/{position}/image/0").raise_for_status()
            client.post(f"/case/{position}", json=values).raise_for_status()
            acknowledged[position] = confidence
    return acknowledged


@pytest.mark.slow
def test_twenty_readers_at_once_and_killed_in_between(draw, serve, tmp_path):
    names = tuple(f"reader-{number}" for number in range(20))
    study = draw(tmp_path / "s", readers=names, num=12, realism=True, diagnosis=True, comment=True)
    process, _, links = serve(study)
    with ThreadPoolExecutor(21) as pool:
        running = {name: pool.submit(read_all, link) for name, link in links.items()}
        with AnswerStore(study) as store:
            while len(store.answers()) < 60:
                time.sleep(0.02)
        process.kill()  # -9, in the middle of answers
        first = {name: future.result() for name, future in running.items()}
    with AnswerStore(study) as store:
        kept = store.answers()
    total = sum(len(acknowledged) for acknowledged in first.values())
    assert 0 < total < 20 * 13
    for name, acknowledged in first.items():
        for position, confidence in acknowledged.items():
            assert [answer.confidence for answer in kept[name, position]] == [confidence]
    # What was stored and not acknowledged, as the answer was on its way, is at most one for each reader.
    assert total <= len(kept) <= total + 20

    _, _, links = serve(study)
    with ThreadPoolExecutor(20) as pool:
        second = dict(zip(links, pool.map(read_all, links.values()), strict=True))
    with AnswerStore(study) as store:
        answers = store.answers()
    assert len(answers) == 20 * 13
    assert {len(attempts) for attempts in answers.values()} == {1}
    for name in names:
        for position, confidence in (first[name] | second[name]).items():
            assert answers[name, position][0].confidence == confidence
