"""As much of W&B's server as its client asks for in tests: it keeps runs and reports, and gives them back."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
ENTITY = "someone"


class WandbServer:
    """Runs by id with group, job type, tags, config, summary and history, and the reports that were saved."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.reports: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        """Questions that it has no answer for; a test looks at them when something fails."""
        self.accepts = True
        """Whether it takes the key."""
        self.loses = ""
        """A key that is left out of every summary."""
        self.uploads = 0
        self.address = ""
        self._staged: dict[str, tuple[str, dict[str, bytes]]] = {}
        self.artifacts: dict[str, dict[str, bytes]] = {}
        """Those that were committed: name -> file -> its bytes."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the data for a question of GraphQL."""
        question, given = body["query"], body.get("variables") or {}
        viewer = {"id": "1", "entity": ENTITY, "username": "u", "flags": "{}", "teams": {"edges": []}, "admin": False}
        if "upsertBucket" in question:
            run = self.runs.setdefault(given.get("name") or given["id"], {"summary": {}, "history": []})
            run.update({name: given[name] for name in ("groupName", "jobType", "tags", "config") if given.get(name)})
            return {"upsertBucket": {"bucket": self._bucket(given.get("name") or given["id"]), "inserted": True}}
        if "upsertView" in question:
            self.reports.append(given)
            view = {"id": given.get("id") or f"Vmll{len(self.reports)}", "name": given["name"]}
            view |= {"displayName": given["displayName"], "description": "", "spec": given["spec"], "type": "runs"}
            project = {"id": "1", "name": given["projectName"], "entityName": given["entityName"]}
            return {"upsertView": {"view": view | {"project": project}, "inserted": True}}
        if "CreateArtifact" in question or "CommitArtifact" in question:
            return self._artifact(question, given)
        if "createRunFiles" in question:
            files = [{"name": name, "uploadUrl": "/upload"} for name in given["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if " runs(" in question:
            edges = [{"node": self._bucket(name), "cursor": name} for name in self.runs]
            page = {"endCursor": None, "hasNextPage": False}
            runs = {"edges": edges, "totalCount": len(edges), "pageInfo": page}
            return {"project": {"internalId": "UHJv", "runCount": len(edges), "readOnly": False, "runs": runs}}
        if "internalId" in question and "run(" not in question:
            return {"project": {"internalId": "UHJv"}}
        if "projects(" in question or "models(" in question:
            node = {
                "id": "1",
                "name": "p",
                "entityName": ENTITY,
                "createdAt": "2026-01-01T00:00:00",
                "isBenchmark": False,
                "user": None,
            }
            page = {"endCursor": None, "hasNextPage": False}
            return {"models": {"edges": [{"node": node, "cursor": "1"}], "pageInfo": page}}
        if "run(" in question:
            name = given.get("name") or given.get("run")
            return {"project": {"run": self._bucket(name) if name in self.runs else None, "internalId": "UHJv"}}
        if "viewer" in question:
            return {"viewer": viewer}
        if "serverInfo" in question:
            return {"serverInfo": {"features": []}}
        self.unknown.append(question)
        return {}

    def _artifact(self, question: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answer what a client asks to upload an artifact: its record, places for its files, its end."""
        asked = given.get("input", given)
        if "CreateArtifactFiles" in question:
            nodes = []
            for file in asked["artifactFiles"]:
                node = {"storagePath": file["name"], "uploadHeaders": [], "uploadMultipartUrls": None}
                place = f"{self.address}/artifact/{file['artifactID']}/{file['name']}"
                nodes.append({"node": node | {"uploadUrl": place, "artifact": {"id": file["artifactID"]}}})
            return {"createArtifactFiles": {"files": {"edges": nodes}}}
        if "CreateArtifactManifest" in question:
            file = {"id": "Rg==", "uploadUrl": f"{self.address}/manifest", "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": "TQ==", "file": file}}}
        if "CreateArtifact" in question:
            self._staged[key := f"artifact{len(self._staged)}"] = (asked["artifactCollectionName"], {})
            record = {"id": key, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": record}}
        name, files = self._staged[asked["artifactID"]]
        self.artifacts[name] = files
        return {"commitArtifact": {"artifact": {"id": asked["artifactID"], "digest": "d"}}}

    def take_file(self, path: str, data: bytes) -> None:
        """Keep a file of an artifact, to be seen when the artifact is committed."""
        _, _, key, name = path.split("/", 3)
        self._staged[key][1][name] = data

    def _bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        entity = {"id": "RW50", "name": ENTITY}
        return {
            "id": "QnVja2V0",
            "name": name,
            "displayName": name,
            "description": "",
            "config": run.get("config", "{}"),
            "sweepName": None,
            "state": "finished",
            "group": run.get("groupName"),
            "jobType": run.get("jobType"),
            "tags": run.get("tags") or [],
            "createdAt": "2026-01-01T00:00:00",
            "heartbeatAt": "2026-01-01T00:00:00",
            "commit": None,
            "notes": None,
            "readOnly": False,
            "systemMetrics": "{}",
            "summaryMetrics": json.dumps({k: v for k, v in run["summary"].items() if k != self.loses}),
            "historyLineCount": 0,
            "user": {"name": "u", "username": "u"},
            "historyKeys": {},
            "projectId": "1",
            "project": {"id": "UHJv", "name": "p", "entity": entity},
        }

    def take(self, path: str, body: dict[str, Any]) -> None:
        """Keep what a run streams."""
        run = self.runs[path.split("/")[-2]]
        self.uploads += 1
        files = body.get("files") or {}
        run["history"] += [json.loads(line) for line in files.get("wandb-history.jsonl", {}).get("content", [])]
        for line in files.get("wandb-summary.json", {}).get("content", []):
            run["summary"] = json.loads(line)


@contextlib.contextmanager
def wandb_server() -> Iterator[tuple[WandbServer, str]]:
    """Serve on a port of this machine; returns what it keeps, and its address."""
    kept = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = 200, {}
            if not kept.accepts:
                status, answer = 401, {"errors": [{"message": "user is not logged in"}]}
            elif self.path.startswith("/graphql"):
                answer = {"data": kept.answer(json.loads(data))}
            elif self.path.startswith("/artifact/"):
                kept.take_file(self.path, data)
            elif self.path.endswith("/file_stream"):
                kept.take(self.path, json.loads(data))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    kept.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield kept, kept.address
    finally:
        server.shutdown()
        server.server_close()
