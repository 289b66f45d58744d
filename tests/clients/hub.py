"""The hub's own client (PyPI huggingface_hub) beside ours, on one cache, against the tests' hub.

    python3 -m venv target/hub-client && target/hub-client/bin/pip install huggingface_hub
    cargo build --bin pondera && cargo build -p pondera-store --example mock_hub
    target/hub-client/bin/python tests/clients/hub.py target/debug/pondera target/debug/examples/mock_hub

Both directions: what pondera pulled is found and used by the client without a connection, and the reverse; then both at
once on one model. No network but this machine's own.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PONDERA, MOCK = (Path(a).resolve() for a in sys.argv[1:3])
server = subprocess.Popen([MOCK], stdout=subprocess.PIPE, text=True)
ADDRESS = server.stdout.readline().strip()
WORK = Path(tempfile.mkdtemp(prefix="pondera-hub-"))
CLIENT = """
import sys, json
from huggingface_hub import snapshot_download, try_to_load_from_cache, scan_cache_dir, hf_hub_download
%s
"""


def environment(cache, offline=False):
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    env.update(HF_HOME=str(cache), HF_ENDPOINT=ADDRESS, HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1")
    if offline:
        env.update(HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:1")
    return env


def pondera(cache, *args, offline=False, code=0):
    done = subprocess.run([PONDERA, *args], env=environment(cache, offline), capture_output=True, text=True)
    assert done.returncode == code, (args, done)
    return json.loads(done.stdout) if "--json" in args and code == 0 else done


def client(cache, code, offline=True):
    done = subprocess.run(
        [sys.executable, "-c", CLIENT % code], env=environment(cache, offline), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def digests(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in Path(folder).rglob("*")
        if p.is_file()
    }


try:
    # Ours first, theirs offline.
    ours = WORK / "ours"
    pulled = pondera(ours, "pull", "org/dense", "--json")
    found = client(ours, "print(snapshot_download('org/dense', local_files_only=True))")
    assert found == pulled["path"], (found, pulled["path"])
    for file in pulled["files"]:
        code = f"print(try_to_load_from_cache('org/dense', {file['path']!r}))"
        assert client(ours, code) == str(Path(pulled["path"]) / file["path"]), file
    pondera(ours, "pull", "org/quants:bf16", "--json")
    code = "print(hf_hub_download('org/quants', 'BF16/m-BF16-00002-of-00002.gguf', local_files_only=True))"
    assert Path(client(ours, code)).stat().st_size == 1_000_000
    report = client(ours, "s = scan_cache_dir(); print(json.dumps([len(s.repos), len(s.warnings), s.size_on_disk]))")
    repos, warnings, size = json.loads(report)
    assert (repos, warnings) == (2, 0), report
    assert size == pondera(ours, "du", "--json")["bytes"], report
    print("ok: the client reads what pondera pulled, and counts its bytes alike")

    # The client completes what pondera began, and fetches nothing twice.
    before = {p: p.stat().st_mtime_ns for p in (ours / "hub").rglob("blobs/*")}
    whole = client(ours, "print(snapshot_download('org/dense'))", offline=False)
    assert (Path(whole) / "extra/notes.txt").exists()
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    print("ok: the client adds to pondera's snapshot and fetches no blob again")

    # Theirs first, ours offline.
    theirs = WORK / "theirs"
    path = client(theirs, "print(snapshot_download('org/dense'))", offline=False)
    shown = pondera(theirs, "show", "org/dense", "--json", offline=True)
    assert shown["revisions"][0]["path"] == path and shown["revisions"][0]["names"] == ["main"], shown
    verified = pondera(theirs, "verify", "org/dense", "--json", offline=True)
    assert verified["holds"] and verified["good"] == 8 and not verified["unknown"], verified
    again = pondera(theirs, "pull", "org/dense", "--json")
    assert again["fetched_bytes"] == 0 and again["path"] == path, again
    assert digests(path) == digests(whole)
    client(theirs, "print(hf_hub_download('org/quants', 'm-Q8_0.gguf'))", offline=False)
    listed = pondera(theirs, "list", "--json", offline=True)
    assert [m["name"] for m in listed["models"]] == ["org/dense", "org/quants"], listed
    # What is resolved is tried to be run: random bytes are no GGUF file, which is exit 3 and names the file.
    ran = pondera(theirs, "inspect", "org/quants:q8_0", offline=True, code=3)
    assert "m-Q8_0.gguf" in ran.stderr, ran
    assert pondera(theirs, "gc", "--json")["files"] == 0
    print("ok: pondera reads, verifies and lists what the client fetched")

    # Both at once.
    both = WORK / "both"
    command = [sys.executable, "-c", CLIENT % "print(snapshot_download('org/dense'))"]
    running = [subprocess.Popen(command, env=environment(both), stdout=subprocess.DEVNULL) for _ in range(4)]
    running += [
        subprocess.Popen([PONDERA, "pull", "org/dense", "-q"], env=environment(both), stdout=subprocess.DEVNULL)
        for _ in range(4)
    ]
    assert all(p.wait() == 0 for p in running)
    assert pondera(both, "verify", "org/dense", "--json", offline=True)["good"] == 8
    print("ok: eight processes of both at once")

    # What pondera removes is gone for the client.
    pondera(both, "rm", "org/dense")
    assert client(both, "s = scan_cache_dir(); print(len(s.repos), len(s.warnings))") == "0 0"
    print("ok: what pondera removes is gone")
finally:
    server.kill()
    shutil.rmtree(WORK, ignore_errors=True)
