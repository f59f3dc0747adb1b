"""A stand-in for the Hugging Face Hub: the few endpoints that loading and pushing a model use, on this machine."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

__all__ = ["Hub", "serving"]


@dataclass
class Hub:
    """Repositories by name, each a list of commits, each a mapping from a file to its content."""

    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)  # that are declared, where they are not those of the contents
    asked: list[str] = field(default_factory=list)  # requests, as "METHOD path"
    tokens: list[str] = field(default_factory=list)  # that came with requests that write
    address: str = ""

    def commit_of(self, name: str, revision: str) -> int | None:
        """Number of a commit, by its hash or as the head of main."""
        for number in range(len(self.repositories[name])):
            if revision == sha(name, number):
                return number
        return len(self.repositories[name]) - 1 if revision == "main" and self.repositories[name] else None


def sha(name: str, number: int) -> str:
    return hashlib.sha1(f"{name} {number}".encode(), usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serves a hub on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

        def do_HEAD(self) -> None:  # the name is that of http.server
            self._get()

        def do_GET(self) -> None:
            self._get()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = self._parts()
            hub.tokens.append(self.headers.get("Authorization", ""))
            if parts == ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                hub.repositories.setdefault(name, [])
                hub.private |= {name} if asked.get("private") or asked.get("visibility") == "private" else set()
                self._answer({"url": f"{hub.address}/{name}"})
            elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
                files = json.loads(body)["files"]
                self._answer(
                    {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
                )
            elif parts[:2] == ["api", "models"] and parts[4] == "commit":
                name = "/".join(parts[2:4])
                lines = [json.loads(line) for line in body.decode().splitlines()]
                added = {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
                before = hub.repositories[name][-1] if hub.repositories[name] else {}
                hub.repositories[name].append({**before, **added})
                oid = sha(name, len(hub.repositories[name]) - 1)
                self._answer({"commitOid": oid, "commitUrl": f"{hub.address}/{name}/commit/{oid}", "success": True})
            else:
                self._answer({}, 200)  # checks of a card, which the real Hub makes

        def _parts(self) -> list[str]:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            return path.strip("/").split("/")

        def _get(self) -> None:
            parts = self._parts()
            is_file = len(parts) == 5 and parts[2] == "resolve"
            name = "/".join(parts[:2] if is_file else parts[2:4])
            if name not in hub.repositories:
                return self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            revision = parts[3] if is_file else parts[5] if len(parts) > 5 else "main"
            number = hub.commit_of(name, revision)
            if number is None:
                return self._answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            files = hub.repositories[name][number]
            if is_file:
                content = files[parts[4]]
                tag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
                return self._answer(content, headers={"ETag": f'"{tag}"', "X-Repo-Commit": sha(name, number)})
            if len(parts) > 5 and parts[4] == "tree":
                return self._answer(
                    [
                        {"type": "file", "path": file, "size": len(content), "oid": sha(file, number)}
                        for file, content in files.items()
                    ]
                )
            siblings = [
                {"rfilename": file, "size": hub.sizes.get(file, len(content))} for file, content in files.items()
            ]
            return self._answer({"id": name, "modelId": name, "sha": sha(name, number), "siblings": siblings})

        def _answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
