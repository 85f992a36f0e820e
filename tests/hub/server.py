"""A small Hugging Face Hub over loopback HTTP: the protocol as the unmodified huggingface_hub client speaks it.

Two sources: the Hub itself, and a storage server to which LFS uploads go and downloads may be redirected.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import uvicorn
from faults import Faults
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from store import DATASET, LFS_SUFFIXES, Commit, File, Repo, Store

Handler = Callable[..., Any]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
STORAGE_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
REPO = r"(?P<repo>[^/]+/[^/]+)"
API = rf"/api/models/{REPO}"
LISTENERS: list[socket.socket] = []  # of hubs that are closed: the next one has the same address


class HubError(Exception):
    """An error reply, as the Hub words it."""

    def __init__(self, status: int, message: str, code: str | None = None, **body: Any) -> None:
        self.reply = JSONResponse({"error": message, **body}, status)
        self.reply.headers["X-Error-Message"] = message
        if code:
            self.reply.headers["X-Error-Code"] = code


def route(methods: str, pattern: str, table: list[Any] = ROUTES) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        table.extend((method, re.compile(pattern), handler) for method in methods.split())
        return handler

    return register


class Origin:
    """An ASGI app that routes on the raw, undecoded path."""

    def __init__(self, hub: LoopbackHub, table: list[Any]) -> None:
        self.hub, self.table = hub, table

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request, path = Request(scope, receive), _model_path(scope["raw_path"].decode())
        try:
            for method, pattern, handler in self.table:
                match = pattern.fullmatch(path)
                if method == request.method and match:
                    arguments = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
                    reply = await handler(self.hub, request, **arguments)
                    break
            else:
                raise HubError(404, f"no such route: {request.method} {path}")
        except HubError as error:
            reply = error.reply
        await reply(scope, receive, send)


def _model_path(path: str) -> str:
    """Return the path that a data set's repository would have, were it a model's."""
    return re.sub(
        r"^/(?:api/)?datasets/([^/]+)/", lambda m: f"{'/api/models' if m[0][1] == 'a' else ''}/{m[1]}/{DATASET}", path
    )


def _address(repo: str) -> str:
    """Return a repository's path as people see it."""
    owner, name = repo.split("/")
    return f"datasets/{owner}/{name.removeprefix(DATASET)}" if name.startswith(DATASET) else repo


class LoopbackHub:
    """The running servers; `store` is their state, `faults.table` and `faults.log` what goes wrong and what was asked.

    Args:
        homes: A folder for the clients' HF_HOME.
        store: What the Hub holds.
    """

    def __init__(self, homes: Path, store: Store | None = None) -> None:
        self.homes, self.store = homes, store or Store()
        self.faults, self.storage_faults = Faults(Origin(self, ROUTES)), Faults(Origin(self, STORAGE_ROUTES))
        self._servers: list[tuple[uvicorn.Server, threading.Thread]] = []
        self._listeners: list[socket.socket] = []
        self.url = self._serve(self.faults, "127.0.0.1")
        self.storage_url = self._serve(self.storage_faults, "localhost")

    def _serve(self, app: Any, host: str) -> str:
        listener = LISTENERS.pop() if LISTENERS else socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener.dup()]}, daemon=True)
        thread.start()
        self._servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://{host}:{listener.getsockname()[1]}"

    def close(self) -> None:
        for server, _ in self._servers:
            server.should_exit = server.force_exit = True
        for _, thread in self._servers:
            thread.join()
        LISTENERS.extend(reversed(self._listeners))

    def user(self, name: str, role: str = "write") -> str:
        """Make a user's token."""
        token = f"hf_{name}_{role}"
        self.store.tokens[token] = (name, role)
        return token

    @property
    def requests(self) -> list[str]:
        return [exchange.request for exchange in self.faults.log]

    # -- who may do what

    def who(self, request: Request) -> tuple[str, str] | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        user = self.store.tokens.get(header.removeprefix("Bearer "))
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def readable(self, request: Request, repo_id: str, *, content: bool = False) -> Repo:
        user, repo = self.who(request), self.store.repos.get(repo_id)
        owner = user is not None and user[0] == repo_id.split("/")[0]
        if repo is None or (repo.private and not owner):
            raise HubError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if content and repo.gated and not owner and (user is None or (user[0], repo_id) not in self.store.granted):
            raise HubError(
                401 if user is None else 403,
                f"Access to model {repo_id} is restricted and you are not in the list",
                "GatedRepo",
            )
        return repo

    def writable(self, request: Request, repo_id: str) -> Repo:
        repo, user = self.readable(request, repo_id), self.who(request)
        if user is None:
            raise HubError(401, "You must be logged in", "RepoNotFound")
        if user[1] != "write" or user[0] != repo_id.split("/")[0]:
            raise HubError(403, "you must use a write token to upload to a repository")
        return repo

    def commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.resolve(revision)
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


# -- repositories


@route("GET", r"/api/whoami-v2")
async def whoami(hub: LoopbackHub, request: Request) -> Response:
    user = hub.who(request)
    if user is None:
        raise HubError(401, "Invalid username or password.")
    return JSONResponse({"type": "user", "name": user[0], "orgs": [], "auth": {"accessToken": {"role": user[1]}}})


@route("POST", r"/api/repos/create")
async def create_repo(hub: LoopbackHub, request: Request) -> Response:
    body, user = await request.json(), hub.who(request)
    if user is None:
        raise HubError(401, "Invalid username or password.")
    kind = DATASET if body.get("type") == "dataset" else ""
    repo_id = f"{body.get('organization') or user[0]}/{kind}{body['name']}"
    url = f"{hub.url}/{_address(repo_id)}"
    if user[1] != "write" or not repo_id.startswith(f"{user[0]}/"):
        raise HubError(403, "you don't have the rights to create a model under this namespace")
    if repo_id in hub.store.repos:
        raise HubError(409, "You already created this model repo", url=url)
    private = body.get("private", body.get("visibility") == "private")  # before 2.0 the client says private
    hub.store.repo(repo_id, private=bool(private))
    return JSONResponse({"url": url, "id": _address(repo_id).removeprefix("datasets/")})


@route("DELETE", r"/api/repos/delete")
async def delete_repo(hub: LoopbackHub, request: Request) -> Response:
    body = await request.json()
    repo_id = f"{body['organization']}/{body['name']}"
    hub.writable(request, repo_id)
    del hub.store.repos[repo_id]
    return JSONResponse({})


@route("PUT", rf"{API}/settings")
async def settings(hub: LoopbackHub, request: Request, repo: str) -> Response:
    body = await request.json()
    hub.writable(request, repo).private = body.get("visibility", "private" if body.get("private") else "public") == "private"
    return JSONResponse({"private": hub.store.repos[repo].private})


@route("POST", r"/api/validate-yaml")
async def validate_yaml(hub: LoopbackHub, request: Request) -> Response:
    body = await request.json()
    good = body["content"].startswith("---\n") and "\n---" in body["content"][4:]
    return JSONResponse({"errors": [] if good else [{"message": "no metadata"}], "warnings": []}, 200 if good else 400)


@route("GET", rf"{API}(?:/revision/(?P<rev>[^/]+))?")
async def model_info(hub: LoopbackHub, request: Request, repo: str, rev: str = "main") -> Response:
    found = hub.readable(request, repo)
    commit = hub.commit(found, rev)
    blobs = request.query_params.get("blobs")
    return JSONResponse(
        {
            "_id": repo,
            "id": repo,
            "modelId": repo,
            "author": repo.split("/")[0],
            "sha": commit.oid,
            "private": found.private,
            "gated": "auto" if found.gated else False,
            "disabled": False,
            "lastModified": commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "createdAt": "2026-01-01T00:00:00.000Z",
            "tags": found.card_data(commit).get("tags", []),
            "cardData": found.card_data(commit),
            "siblings": [_sibling(name, file, blobs=bool(blobs)) for name, file in sorted(commit.files.items())],
        }
    )


def _sibling(name: str, file: File, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": name}
    return {"rfilename": name, "size": len(file.content), "blobId": file.oid, **({"lfs": _lfs(file)} if file.lfs else {})}


def _lfs(file: File) -> dict[str, Any]:
    return {"sha256": file.sha256, "oid": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}


@route("GET", rf"{API}/tree/(?P<rev>[^/]+)(?:/(?P<path>.+))?")
async def tree(hub: LoopbackHub, request: Request, repo: str, rev: str, path: str = "") -> Response:
    commit = hub.commit(hub.readable(request, repo), rev)
    entries = [_entry(name, file) for name, file in sorted(commit.files.items()) if name.startswith(path)]
    at, size = int(request.query_params.get("cursor", 0)), 2  # small pages, so that the client has to follow them
    reply = JSONResponse(entries[at : at + size])
    if at + size < len(entries):
        reply.headers["Link"] = f'<{hub.url}{request.scope["raw_path"].decode()}?recursive=true&cursor={at + size}>; rel="next"'
    return reply


def _entry(name: str, file: File) -> dict[str, Any]:
    lfs = {"lfs": _lfs(file)} if file.lfs else {}
    return {"type": "file", "path": name, "oid": file.oid, "size": len(file.content), **lfs}


@route("POST", rf"{API}/paths-info/(?P<rev>[^/]+)")
async def paths_info(hub: LoopbackHub, request: Request, repo: str, rev: str) -> Response:
    form = await _json_or_form(request)
    commit = hub.commit(hub.readable(request, repo), rev)
    return JSONResponse([_entry(path, commit.files[path]) for path in form["paths"] if path in commit.files])


async def _json_or_form(request: Request) -> dict[str, Any]:
    if "json" in request.headers.get("content-type", ""):
        return dict(await request.json())
    form = await request.body()
    values: dict[str, list[str]] = {}
    for pair in form.decode().split("&"):
        name, _, value = pair.partition("=")
        values.setdefault(name, []).append(unquote(value.replace("+", " ")))
    return values


@route("GET", rf"{API}/refs")
async def refs(hub: LoopbackHub, request: Request, repo: str) -> Response:
    found = hub.readable(request, repo)
    kinds: dict[str, list[Any]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
    for ref, oid in found.refs.items():
        kind = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}[ref.split("/")[1]]
        kinds[kind].append({"name": ref.split("/", 2)[2], "ref": ref, "targetCommit": oid})
    return JSONResponse(kinds)


@route("GET", rf"{API}/commits/(?P<rev>[^/]+)")
async def commits(hub: LoopbackHub, request: Request, repo: str, rev: str) -> Response:
    found = hub.readable(request, repo)
    hub.commit(found, rev)
    return JSONResponse(
        [
            {"id": c.oid, "title": c.title, "message": "", "authors": [], "date": c.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")}
            for c in found.history(rev)
        ]
    )


@route("POST", rf"{API}/(?P<kind>branch|tag)/(?P<name>[^/]+)")
async def create_ref(hub: LoopbackHub, request: Request, repo: str, kind: str, name: str) -> Response:
    found, body = hub.writable(request, repo), await _json_or_form(request)
    ref = f"refs/{'heads' if kind == 'branch' else 'tags'}/{body.get('tag', name)}"
    if ref in found.refs:
        raise HubError(409, f"Reference already exists: {ref}")
    found.refs[ref] = hub.commit(found, body.get("startingPoint", name if kind == "tag" else "main")).oid
    return JSONResponse({})


@route("POST", rf"{API}/super-squash/(?P<branch>[^/]+)")
async def super_squash(hub: LoopbackHub, request: Request, repo: str, branch: str) -> Response:
    found, body = hub.writable(request, repo), await request.json()
    last = hub.commit(found, branch)
    found.commits = {}
    found.add_commit(found.ref(branch), None, body["message"], last.files)
    return JSONResponse({})


@route("GET", rf"{API}/discussions")
async def discussions(hub: LoopbackHub, request: Request, repo: str) -> Response:
    pulls = hub.readable(request, repo).pulls
    return JSONResponse({"discussions": pulls, "count": len(pulls), "start": 0})


@route("POST", rf"{API}/discussions")
async def create_discussion(hub: LoopbackHub, request: Request, repo: str) -> Response:
    found, body, user = hub.readable(request, repo), await request.json(), hub.who(request)
    if user is None:
        raise HubError(401, "You must be logged in")
    return JSONResponse({"num": _open_pull(hub, found, found.head, body["title"], user[0])})


def _open_pull(hub: LoopbackHub, repo: Repo, base: Commit, title: str, author: str) -> int:
    number = next(hub.store.numbers)
    repo.refs[f"refs/pr/{number}"] = base.oid
    repo.pulls.append(
        {
            "num": number,
            "title": title,
            "status": "open",
            "isPullRequest": True,
            "author": {"name": author},
            "repo": {"name": repo.id, "type": "model"},
            "createdAt": "2026-01-01T00:00:00.000Z",
        }
    )
    return number


# -- commits


@route("POST", rf"{API}/preupload/(?P<rev>[^/]+)")
async def preupload(hub: LoopbackHub, request: Request, repo: str, rev: str) -> Response:
    found, body = _committable(hub, request, repo), await request.json()
    commit = hub.commit(found, rev)
    files = []
    for file in body["files"]:
        base64.b64decode(file["sample"])
        known = commit.files.get(file["path"])
        mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
        oid = {} if known is None else {"oid": known.etag}
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    return JSONResponse({"files": files, "commitOid": commit.oid})


def _committable(hub: LoopbackHub, request: Request, repo: str) -> Repo:
    """Who may read may propose; who may write may commit."""
    if request.query_params.get("create_pr") == "1" and hub.who(request) is not None:
        return hub.readable(request, repo)
    return hub.writable(request, repo)


@route("POST", rf"/{REPO}\.git/info/lfs/objects/batch")
async def lfs_batch(hub: LoopbackHub, request: Request, repo: str) -> Response:
    body, part = await request.json(), hub.store.multipart_bytes
    objects = []
    for item in body["objects"]:
        oid, size = item["oid"], item["size"]
        url, actions = f"{hub.storage_url}/upload/{oid}", {}
        if hub.store.lfs_object(oid) is None:
            verify = {"href": f"{hub.url}/{repo}.git/info/lfs/objects/verify"}
            if part is None:
                actions = {"upload": {"href": url}, "verify": verify}
            else:
                count = -(-size // part)
                parts = {str(number): f"{url}?part={number}" for number in range(1, count + 1)}
                actions = {
                    "upload": {"href": f"{url}?complete=1", "header": {"chunk_size": str(part), **parts}},
                    "verify": verify,
                }
        objects.append({"oid": oid, "size": size, **({"actions": actions} if actions else {})})
    return JSONResponse({"transfer": "basic" if part is None else "multipart", "objects": objects})


@route("POST", rf"/{REPO}\.git/info/lfs/objects/verify")
async def lfs_verify(hub: LoopbackHub, request: Request, repo: str) -> Response:
    body = await request.json()
    content = hub.store.lfs_object(body["oid"])
    if content is None or len(content) != body["size"]:
        raise HubError(404, "object not found")
    return JSONResponse({})


@route("PUT", r"/upload/(?P<oid>[0-9a-f]{64})", STORAGE_ROUTES)
async def upload(hub: LoopbackHub, request: Request, oid: str) -> Response:
    if "authorization" in request.headers:
        raise HubError(400, "the Hub's token was sent to another origin")
    content, part = await request.body(), request.query_params.get("part")
    if part is None:
        hub.store.uploads[oid] = content
    else:
        hub.store.parts.setdefault(oid, {})[int(part)] = content
    return Response(headers={"ETag": f'"part-{part}"'})


@route("POST", r"/upload/(?P<oid>[0-9a-f]{64})", STORAGE_ROUTES)
async def complete(hub: LoopbackHub, request: Request, oid: str) -> Response:
    body, parts = await request.json(), hub.store.parts.pop(oid)
    hub.store.uploads[oid] = b"".join(parts[part["partNumber"]] for part in body["parts"])
    return JSONResponse({})


@route("POST", rf"{API}/commit/(?P<rev>[^/]+)")
async def create_commit(hub: LoopbackHub, request: Request, repo: str, rev: str) -> Response:
    found, user = _committable(hub, request, repo), hub.who(request)
    lines = [json.loads(line) for line in (await request.body()).splitlines()]
    header, base = lines[0]["value"], hub.commit(found, rev)
    parent = header.get("parentCommit")
    if parent not in (None, base.oid):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(base.files)
    for line in lines[1:]:
        _apply(hub, files, line["key"], line["value"])
    ref, extra = found.ref(rev), {}
    if request.query_params.get("create_pr") == "1":
        number = _open_pull(hub, found, base, header["summary"], user[0] if user else "")
        ref, extra = f"refs/pr/{number}", {"pullRequestUrl": f"{hub.url}/{repo}/discussions/{number}"}
    commit = found.add_commit(ref, base.oid, header["summary"], files)
    return JSONResponse(
        {"success": True, "commitOid": commit.oid, "commitUrl": f"{hub.url}/{_address(repo)}/commit/{commit.oid}", **extra}
    )


def _apply(hub: LoopbackHub, files: dict[str, File], kind: str, value: dict[str, Any]) -> None:
    if kind == "file":
        files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
    elif kind == "lfsFile":
        content = hub.store.lfs_object(value["oid"])
        if content is None or File(content, lfs=True).sha256 != value["oid"]:
            raise HubError(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
        files[value["path"]] = File(content, lfs=True)
    elif kind == "deletedFile":
        if files.pop(value["path"], None) is None:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
    else:
        raise HubError(400, f"unknown operation {kind}")


# -- downloads


@route("HEAD GET", rf"/{REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
async def resolve(hub: LoopbackHub, request: Request, repo: str, rev: str, path: str) -> Response:
    found = hub.readable(request, repo, content=True)
    commit = hub.commit(found, rev)
    file = commit.files.get(path)
    if file is None:
        raise HubError(404, "Entry not found", "EntryNotFound")
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        if hub.store.cas is not None and (xet := hub.store.xet_hashes().get(file.sha256)) is not None:
            link = f'<{hub.url}/api/models/{repo}/xet-read-token/{commit.oid}>; rel="xet-auth"'
            headers |= {"X-Xet-Hash": xet[0], "Link": link}
        if hub.store.redirect:
            hub.store.uploads[file.sha256] = file.content
            return Response(status_code=302, headers={**headers, "Location": f"{hub.storage_url}/download/{file.sha256}"})
    else:
        headers["ETag"] = f'"{file.oid}"'
    return _ranged(request, file.content, headers)


@route("HEAD GET", r"/download/(?P<oid>[0-9a-f]{64})", STORAGE_ROUTES)
async def download(hub: LoopbackHub, request: Request, oid: str) -> Response:
    if "authorization" in request.headers:
        raise HubError(400, "the Hub's token was sent to another origin")
    return _ranged(request, hub.store.uploads[oid], {"ETag": f'"{oid}"'})


def _ranged(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    status = HTTPStatus.OK
    if wanted:
        start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            return Response(status_code=416, headers={"Content-Range": f"bytes */{len(content)}"})
        headers |= {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        content, status = content[start : end + 1], HTTPStatus.PARTIAL_CONTENT
    length = {"Content-Length": str(len(content))}
    return Response(b"" if request.method == "HEAD" else content, status, {**headers, **length})


@route("GET", rf"{API}/xet-(?P<kind>read|write)-token/(?P<rev>[^/]+)")
async def xet_token(hub: LoopbackHub, request: Request, repo: str, kind: str, rev: str) -> Response:
    found = hub.readable(request, repo, content=True) if kind == "read" else hub.writable(request, repo)
    assert found is not None
    url, expires = f"local://{hub.store.cas}", int(time.time()) + 3600
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": "cas", "X-Xet-Token-Expiration": str(expires)}
    return JSONResponse({"casUrl": url, "accessToken": "cas", "exp": expires}, headers=headers)
