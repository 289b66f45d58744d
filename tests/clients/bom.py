"""Bills of materials beside the validators of both formats: CycloneDX's own library with the official schema, SPDX's own
model as its project generates it (classes, properties, cardinalities, patterns), both from PyPI.

    python3 -m venv target/bom-clients
    target/bom-clients/bin/pip install 'cyclonedx-python-lib[json-validation]' spdx-python-model jsonschema
    cargo build --bin pondera
    target/bom-clients/bin/python tests/clients/bom.py target/debug/pondera [spdx-json-schema.json]

With the schema of SPDX 3.0.1 (https://spdx.org/schema/3.0.1/spdx-json-schema.json) as a file it is checked, too. No network.
"""

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_python_model import bindings

PONDERA = Path(sys.argv[1]).resolve()
SCHEMA = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else None
ROOT = Path(__file__).resolve().parents[2]
WORK = Path(tempfile.mkdtemp(prefix="pondera-bom-"))
SPDX = bindings.v3_0_1 if hasattr(bindings, "v3_0_1") else __import__("importlib").import_module(
    "spdx_python_model.bindings.v3_0_1"
)

CARDS = {
    "none": None,
    "plain": "license: mit",
    "expression": "license: [mit, apache-2.0]",
    "named": "license: other\nlicense_name: our-own",
    "mixed": "license: [mit, llama3.1]",
    "retired": "license: gpl-3.0",
    "merge": "license: apache-2.0\nbase_model: [org/a, meta-llama/Llama-3.1-8B]\nbase_model_relation: merge\n"
    "datasets: [org/data, plain]\nlanguage: [en, de]\ntags: [x, y]\npipeline_tag: text-generation\nlibrary_name: x",
    "odd": "license: 'a (b) \"c\"'\nbase_model: 'no such'\ndatasets: ['', 'a b', \"x\\ny\", 'http://x y', 'javascript:x', 'é/ü']\n"
    "tags: ['', ' ']\npipeline_tag: '<b>'",
}


def safetensors(path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 1, 2))


def bill(model, form, **env):
    done = subprocess.run(
        [PONDERA, "bom", str(model), "--format", form, "-q"],
        env={**os.environ, "SOURCE_DATE_EPOCH": "1782000000", **env},
        capture_output=True,
    )
    assert done.returncode == 0, done
    return done.stdout


def cyclonedx(text):
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode())
    assert errors is None, errors


def spdx(text):
    objects = SPDX.SHACLObjectSet()
    # Reading refuses what a class lacks, has too often, or has of another kind than its shape says.
    SPDX.JSONLDDeserializer().read(io.BytesIO(text), objects)
    missing = objects.link()
    allowed = {"https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"}
    assert set(missing) <= allowed, missing
    # Writing checks cardinalities.
    SPDX.JSONLDSerializer().write(objects, io.BytesIO())
    if SCHEMA:
        jsonschema.validators.validator_for(SCHEMA)(SCHEMA).validate(json.loads(text))
    return objects


def refused(check, text):
    try:
        check(text)
    except Exception:
        return
    raise AssertionError("a broken bill was accepted")


try:
    models = []
    for name, card in CARDS.items():
        folder = WORK / name
        (folder / "sub").mkdir(parents=True)
        safetensors(folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "strange", "architectures": ["Strange"], "n": 1}))
        (folder / "sub" / 'a "b" ü.txt').write_text("x")
        if card is not None:
            (folder / "README.md").write_text(f"---\n{card}\n---\n# Card\n")
        models.append(folder)
    if (ROOT / "models/pebble/pebble.gguf").exists():
        models.append(ROOT / "models/pebble/pebble.gguf")
    hub = WORK / "hub/models--org--name/snapshots" / ("0" * 40)
    shutil.copytree(WORK / "merge", hub)
    models.append(hub)
    for model in models:
        text = bill(model, "cyclonedx")
        cyclonedx(text)
        assert text == bill(model, "cyclonedx"), model
        text = bill(model, "spdx")
        objects = spdx(text)
        packages = list(objects.foreach_type(SPDX.ai_AIPackage))
        assert packages, model
        assert text == bill(model, "spdx"), model
    print(f"ok: {len(models)} models in both forms, twice the same bytes")

    # Every licence of the table that SPDX lists is one that the schema knows.
    ids = re.findall(r'^id = "([^"]+)"', (ROOT / "crates/audit/src/license/terms.toml").read_text(), re.M)
    folder = WORK / "plain"
    for n, name in enumerate(ids):
        (folder / "README.md").write_text(f"---\nlicense: {json.dumps(name)}\n---\n")
        cyclonedx(bill(folder, "cyclonedx"))
    print(f"ok: {len(ids)} licences")

    # The validators are ones: broken bills are refused.
    good = json.loads(bill(WORK / "merge", "cyclonedx"))
    for key, value in [("specVersion", 1), ("serialNumber", "x"), ("components", {}), ("nonsense", 1)]:
        refused(cyclonedx, json.dumps({**good, key: value}).encode())
    good = json.loads(bill(WORK / "merge", "spdx"))
    for change in [{"name": 1}, {"nonsense": "x"}, {"software_primaryPurpose": "x"}, {"creationInfo": "_:none"}]:
        broken = json.loads(json.dumps(good))
        model = next(e for e in broken["@graph"] if e["type"] == "ai_AIPackage")
        model.update(change)
        refused(spdx, json.dumps(broken).encode())
    print("ok: broken bills are refused")
finally:
    shutil.rmtree(WORK, ignore_errors=True)
