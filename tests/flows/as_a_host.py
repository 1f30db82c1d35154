"""What somebody on a rented host can try with the way to the API that its worker has. Run there: a script on standard input's terms.

← {"api": …, "password": …, "requests": [[method, path, body], …], "events": [event, …], "sockets": [path, …]}
→ {"requests": [[status, text], …], "heard": [first message on each socket, or the status of its refusal]}
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol


def main() -> None:
    given: dict[str, Any] = json.load(sys.stdin)
    user, _, password = given["password"].partition(":")
    with httpx.Client(auth=(user, password), timeout=30) as client:
        asked = [
            client.request(method, given["api"] + path, content=None if body is None else json.dumps(body), follow_redirects=False)
            for method, path, body in given["requests"]
        ]
    url = given["api"].replace("http", "ws", 1)
    heard: list[Any] = []
    for path in given["sockets"]:
        try:
            with connect(url + path, subprotocols=[Subprotocol("prefect")]) as socket:
                socket.send(json.dumps({"type": "auth", "token": given["password"]}))
                heard.append(json.loads(socket.recv())["type"])
        except InvalidStatus as error:
            heard.append(error.response.status_code)
    if given["events"]:
        with connect(url + "/events/in", subprotocols=[Subprotocol("prefect")]) as socket:
            socket.send(json.dumps({"type": "auth", "token": given["password"]}))
            socket.recv()
            for event in given["events"]:
                socket.send(json.dumps(event))
    json.dump({"requests": [[one.status_code, one.text] for one in asked], "heard": heard}, sys.stdout)


if __name__ == "__main__":
    main()
