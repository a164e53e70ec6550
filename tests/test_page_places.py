"""The page where people put it: in a frame, under a path, at an address with a password in it."""

import contextlib
from types import SimpleNamespace

import pytest
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Response

from standins import END, ScriptedEngine, expect, make_app, open_page, serving


@contextlib.contextmanager
def page_at(context, place: str):
    """The page at a place, in which {port} is the port of a real server."""
    app = make_app(ScriptedEngine("Hello there.", END))
    frame = "<iframe src='http://localhost:{}/' width=900 height=700></iframe>"
    framed = Response(frame, mimetype="text/html")
    places = DispatcherMiddleware(app, {"/some/path": app, "/frame": framed})
    with serving(places) as port:
        framed.data = framed.data.replace(b"{}", b"%d" % port)
        if place.endswith("/frame"):
            page = context.new_page()
            page.goto(place.format(port=port))
            yield page.frame_locator("iframe")
        else:
            yield open_page(context, SimpleNamespace(url=place.format(port=port)))


@pytest.mark.parametrize("place", [
    "http://127.0.0.1:{port}/frame", "http://127.0.0.1:{port}/some/path/",
    "http://user:pass@127.0.0.1:{port}/",
])  # fmt: skip
def test_the_page_chats_where_people_put_it(context, place):
    with page_at(context, place) as page:
        page.locator("#box").fill("Hi")
        page.locator("#box").press("Enter")
        expect(page.locator(".row").last).to_contain_text("Hello there.")
