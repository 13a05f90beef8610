"""The web application that readers use: pages, images and answers, and nothing that betrays what an image is.

- A reader comes by a personal link, ``/r/SECRET``, which sets a cookie that no script can read. Every answer names the
  reader whom its page belongs to, so that two links opened in one browser do not mix their readers up.
- An image is asked for by its place in the reader's order, and given only where it is the reader's turn. No name of a
  file is ever part of an address. All images of a study are files of one length, sent without a date.
- The key is not opened. Of the training cases alone the answer is known here.
- Pages run no script but their own, from this server, and no page can be put into another. Answers are JSON of a
  bounded size, and are acknowledged when they are on the disk.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import math
import socket
import sys
import unicodedata
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medgan.errors import ConfigError, DataError
from medgan.reader_study.folder import Reader, ReaderStudy
from medgan.reader_study.store import Answer, AnswerStore, ReaderProgress, StoreError, WrongCaseError

__all__ = ["COMMENT_CHARACTERS", "check_answer", "make_application", "open_socket", "run_server"]

COMMENT_CHARACTERS = 1000
"""Of a comment, at most."""

CANNOT_TELL = "cannot tell"
"""The diagnosis of a reader who has none."""

_LARGEST_BODY = 16 * 1024
_LONGEST_SECONDS = 24 * 3600.0
_COOKIE = "medgan_reader"
_WORDS = ("Definitely real", "Probably real", "Cannot tell", "Probably synthetic", "Definitely synthetic")
_REALISM_WORDS = ("Not at all", "Hardly", "Fairly", "Mostly", "Entirely")

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


class _RefusedError(Exception):
    """A request that gets nowhere."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_answer(values: Any, study: ReaderStudy) -> Answer:
    """Return an answer as it may be stored.

    Args:
        values: What a page sent, from JSON.
        study: Whose questions they answer.

    Raises:
        DataError: If something is missing, of another type, or outside of its range.
    """
    if not isinstance(values, dict):
        raise DataError("An answer must be an object.")

    def scale(name: str, largest: int, *, least: int = 1) -> int:
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= largest:
            raise DataError(f"{name} must be a whole number from {least} to {largest}.")
        return value

    config = study.config
    forced = config.mode == "forced-choice"
    diagnosis, comment, seconds = "", "", values.get("seconds")
    if config.diagnosis:
        diagnosis = values.get("diagnosis", "")
        if diagnosis not in (*study.classes, CANNOT_TELL):
            raise DataError("diagnosis must be one of those that can be chosen.")
    if config.comment:
        given = values.get("comment", "")
        if not isinstance(given, str) or len(given) > COMMENT_CHARACTERS:
            raise DataError(f"comment must be text of at most {COMMENT_CHARACTERS} characters.")
        comment = "".join(sign for sign in given if sign == "\n" or unicodedata.category(sign)[0] != "C").strip()
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        raise DataError("seconds must be a number of at least 0.")
    return Answer(
        confidence=None if forced else scale("confidence", 5),
        choice=scale("choice", 1, least=0) if forced else None,
        realism=scale("realism", 5) if config.realism else None,
        diagnosis=diagnosis,
        comment=comment,
        seconds=min(float(seconds), _LONGEST_SECONDS),
    )


def make_application(study: ReaderStudy, store: AnswerStore) -> ASGIApp:
    """Return the application.

    Args:
        study: The study.
        store: Where its answers go.

    Raises:
        DataError: If a file of the study is missing.
    """
    pages = _Pages(study, store)
    application = Starlette(
        routes=[
            Route("/", pages.start),
            Route("/r/{token}", pages.link),
            Route("/study.css", pages.style),
            Route("/study.js", pages.script),
            Route("/state", pages.state),
            Route("/consent", pages.consent, methods=["POST"]),
            Route("/pause", pages.pause, methods=["POST"]),
            Route("/training/{position:int}/image/{place:int}", pages.training_image),
            Route("/training/{position:int}", pages.training, methods=["POST"]),
            Route("/case/{position:int}/image/{place:int}", pages.case_image),
            Route("/case/{position:int}", pages.case, methods=["POST"]),
        ],
        exception_handlers={
            _RefusedError: _refuse,
            StoreError: _store_failed,
            WrongCaseError: lambda _, error: JSONResponse({"error": str(error)}, 409),
            DataError: lambda _, error: JSONResponse({"error": str(error)}, 422),
            404: lambda request, _: pages.message(request, 404, "There is nothing here."),
        },
    )
    return _protect(application)


def open_socket(host: str, port: int) -> socket.socket:
    """Take a port, so that a mistake is told before anything else happens.

    Args:
        host: Address to listen at.
        port: 0 for any that is free.

    Raises:
        ConfigError: If it cannot be had.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"The server cannot listen at {host}, port {port} ({reason}). Name another --port, or --port 0 for any."
        ) from error


def run_server(application: ASGIApp, listener: socket.socket) -> None:
    """Serve until it is interrupted.

    Args:
        application: From `make_application`.
        listener: From `open_socket`.
    """
    import uvicorn

    # Addresses hold the readers' secrets, so that no line is written for each request.
    config = uvicorn.Config(application, access_log=False, server_header=False, log_level="warning", lifespan="off")
    with contextlib.suppress(KeyboardInterrupt):  # raised again when all requests have been answered
        uvicorn.Server(config).run(sockets=[listener])


def _protect(application: ASGIApp) -> ASGIApp:
    """Return an application whose every answer, errors included, has the headers that protect it."""

    async def protected(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await application(scope, receive, send_protected if scope["type"] == "http" else send)

    return protected


class _Pages:
    """What there is to ask for."""

    def __init__(self, study: ReaderStudy, store: AnswerStore) -> None:
        self.study = study
        self.store = store
        secrets = study.tokens()
        self._readers = [(secrets[reader.name].encode(), reader) for reader in study.readers]
        self._by_name = {reader.name: reader for reader in study.readers}
        missing = [item for case in study.cases for item in case if not study.image_file(item).is_file()]
        if missing:
            raise DataError(f"{len(missing)} images of the study are missing, such as {study.image_file(missing[0])}.")
        environment: Any = Environment(
            loader=PackageLoader("medgan.reader_study", "pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._page = environment.get_template("study.html.j2")
        self._message = environment.get_template("message.html.j2")
        folder = files("medgan.reader_study") / "pages"
        self._style = (folder / "study.css").read_bytes()
        self._script = (folder / "study.js").read_bytes()

    # -------------------------------------------------------------------------------------- pages

    async def link(self, request: Request) -> Response:
        """Recognise a reader by the personal link."""
        reader = self._find(request.path_params["token"])
        if reader is None:
            return self.message(
                request, 404, "This link is not known. Open the link that you were sent, to its last sign."
            )
        response = self._show(reader)
        response.set_cookie(
            _COOKIE,
            request.path_params["token"],
            max_age=180 * 24 * 3600,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def start(self, request: Request) -> Response:
        """Go on where the reader was."""
        reader = self._find(request.cookies.get(_COOKIE, ""))
        if reader is None:
            return self.message(request, 403, "Open the personal link that you were sent.")
        return self._show(reader)

    async def style(self, _: Request) -> Response:
        return Response(self._style, media_type="text/css")

    async def script(self, _: Request) -> Response:
        return Response(self._script, media_type="text/javascript")

    def message(self, request: Request, status: int, text: str) -> Response:
        """Return a page that says one thing."""
        if request.method != "GET":
            return JSONResponse({"error": text}, status)
        return Response(self._message.render(title=self.study.config.title, text=text), status, media_type="text/html")

    def _show(self, reader: Reader) -> Response:
        html = self._page.render(
            study=self.study,
            config=self.study.config,
            reader=reader,
            confidence=_WORDS,
            realism=_REALISM_WORDS,
            diagnoses=[*self.study.classes, CANNOT_TELL],
            longest=COMMENT_CHARACTERS,
        )
        return Response(html, media_type="text/html")

    # ------------------------------------------------------------------------------------ readers

    def _find(self, token: str) -> Reader | None:
        """Return whose secret it is; takes as long whoever it is."""
        given, found = token.encode(), None
        for secret, reader in self._readers:
            if hmac.compare_digest(secret, given):
                found = reader
        return found

    def _reader(self, request: Request) -> Reader:
        reader = self._find(request.cookies.get(_COOKIE, ""))
        if reader is None:
            raise _RefusedError(403, "Open the personal link that you were sent.")
        return reader

    async def _sent(self, request: Request) -> tuple[Reader, dict[str, Any]]:
        """Return who sent what; refuses what is too large, of another kind, or from another page."""
        reader = self._reader(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise _RefusedError(415, "Answers must be JSON.")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise _RefusedError(403, "Answers must come from the study's own page.")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST_BODY:
                raise _RefusedError(413, f"That is more than an answer may have, {_LARGEST_BODY:,} bytes.")
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            raise _RefusedError(400, "Answers must be JSON.") from None
        if not isinstance(values, dict):
            raise _RefusedError(400, "An answer must be an object.")
        if values.get("reader") != reader.id:
            raise _RefusedError(409, "Another reader's link was opened in this browser. Open your own link again.")
        return reader, values

    # ------------------------------------------------------------------------------------- states

    def _state(self, reader: Reader, progress: ReaderProgress) -> dict[str, Any]:
        total, training = len(reader.presentations), len(self.study.training)
        if not progress.consented:
            stage = "consent"
        elif progress.trained < training:
            stage = "training"
        else:
            stage = "cases" if progress.answered < total else "done"
        return {
            "stage": stage,
            "trained": progress.trained,
            "training": training,
            "answered": progress.answered,
            "total": total,
        }

    async def state(self, request: Request) -> Response:
        """Say how far the reader is."""
        reader = self._reader(request)
        return JSONResponse(self._state(reader, await run_in_threadpool(self.store.progress, reader)))

    async def consent(self, request: Request) -> Response:
        """Record that the reader agrees to this very text."""
        reader, values = await self._sent(request)
        if values.get("agreed") is not True:
            raise _RefusedError(422, "The consent was not given.")
        progress = await run_in_threadpool(self.store.progress, reader)
        if not progress.consented:
            await run_in_threadpool(self.store.record, reader, "consent", self.study.consent_sha256)
            progress = ReaderProgress(True, progress.trained, progress.answered)
        return JSONResponse(self._state(reader, progress))

    async def pause(self, request: Request) -> Response:
        """Record a pause, or its end."""
        reader, values = await self._sent(request)
        kind = "pause" if values.get("paused") is True else "continue"
        await run_in_threadpool(self.store.record, reader, kind)
        return JSONResponse({})

    # ------------------------------------------------------------------------------------- images

    async def training_image(self, request: Request) -> Response:
        """Give an image of the training case that is on."""
        reader, position = self._reader(request), request.path_params["position"]
        progress = await run_in_threadpool(self.store.progress, reader)
        # The last one stays in sight while its answer is told.
        if not progress.consented or not progress.trained - 1 <= position <= progress.trained:
            raise _RefusedError(404, "There is nothing here.")
        if not 0 <= position < len(self.study.training):
            raise _RefusedError(404, "There is nothing here.")
        return await self._image(self.study.training[position][0], request)

    async def case_image(self, request: Request) -> Response:
        """Give an image of the case that is on, or of the one before, which can be answered anew."""
        reader, position = self._reader(request), request.path_params["position"]
        progress = await run_in_threadpool(self.store.progress, reader)
        ready = progress.consented and progress.trained >= len(self.study.training)
        if not ready or not progress.answered - 1 <= position <= progress.answered:
            raise _RefusedError(404, "There is nothing here.")
        if not 0 <= position < len(reader.presentations):
            raise _RefusedError(404, "There is nothing here.")
        return await self._image(reader.presentations[position].items, request)

    async def _image(self, items: tuple[str, ...], request: Request) -> Response:
        place = request.path_params["place"]
        if not 0 <= place < len(items):
            raise _RefusedError(404, "There is nothing here.")
        content = await run_in_threadpool(self.study.image_file(items[place]).read_bytes)
        return Response(content, media_type="image/png")

    # ------------------------------------------------------------------------------------ answers

    async def training(self, request: Request) -> Response:
        """Take the answer to a training case, and tell what is right."""
        reader, values = await self._sent(request)
        position = request.path_params["position"]
        progress = await run_in_threadpool(self.store.progress, reader)
        if not progress.consented or not 0 <= position <= min(progress.trained, len(self.study.training) - 1):
            raise _RefusedError(409, f"The training case that is on is number {progress.trained + 1}.")
        check_answer(values, self.study)
        if position == progress.trained:
            await run_in_threadpool(self.store.record, reader, "training", str(position))
            progress = ReaderProgress(True, progress.trained + 1, progress.answered)
        synthetic = self.study.training[position][1]
        truth = synthetic.index(True) if len(synthetic) == 2 else int(synthetic[0])
        return JSONResponse({**self._state(reader, progress), "truth": truth})

    async def case(self, request: Request) -> Response:
        """Take an answer; it is on the disk when this says so."""
        reader, values = await self._sent(request)
        submission = values.get("submission")
        if not isinstance(submission, str) or not 8 <= len(submission) <= 64 or not submission.isalnum():
            raise _RefusedError(422, "submission must be 8 to 64 letters and digits.")
        answer = check_answer(values, self.study)
        progress = await run_in_threadpool(self.store.progress, reader)
        if not progress.consented or progress.trained < len(self.study.training):
            raise _RefusedError(409, "The cases begin after the consent and the training.")
        position = request.path_params["position"]
        progress = await run_in_threadpool(self._save, reader, position, answer, submission)
        return JSONResponse(self._state(reader, progress))

    def _save(self, reader: Reader, position: int, answer: Answer, submission: str) -> ReaderProgress:
        return self.store.save(reader, position, answer, submission=submission)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, _RefusedError)
    return JSONResponse({"error": str(error)}, error.status)


async def _store_failed(_: Request, error: Exception) -> Response:
    """Say that nothing was stored; the cause is for whoever runs the server, and not for readers."""
    print(f"Warning: {error}", file=sys.stderr, flush=True)
    return JSONResponse({"error": "The answer could not be stored. It is still here: try again in a moment."}, 503)
