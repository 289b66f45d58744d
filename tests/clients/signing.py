"""Signatures beside the standard's own tool (PyPI model-signing), both directions: what one signs, the other verifies, and
what one refuses, the other refuses.

    python3 -m venv target/signing-clients
    target/signing-clients/bin/pip install model-signing pyopenssl
    cargo build --bin pondera
    target/signing-clients/bin/python tests/clients/signing.py target/debug/pondera [FOLDER [trusted_root.json]]

FOLDER may be `scripts/tests` of https://github.com/sigstore/model-transparency: its signatures (keys, certificates,
Sigstore) are verified, too; those of Sigstore with a trust root, without one with that of the installed PyPI sigstore. No
network.
"""

import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import model_signing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PONDERA = Path(sys.argv[1]).resolve()
VECTORS = Path(sys.argv[2]) if len(sys.argv) > 2 else None
WORK = Path(tempfile.mkdtemp(prefix="pondera-signing-"))
PEM, NO_PASSWORD = serialization.Encoding.PEM, serialization.NoEncryption()
FORMS = serialization.PrivateFormat


def pondera(*args, code=0):
    done = subprocess.run([PONDERA, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == code, (args, done)
    return json.loads(done.stdout) if "--json" in args else done


def ours(model, signature, *trust, code=0, ignore=()):
    ignored = [a for path in ignore for a in ("--ignore", path)]
    report = pondera("audit", model, "--signature", signature, *trust, *ignored, "--json", code=code)
    assert report["signature"]["verified"] == (code == 0), report
    return report


def theirs(config, model, signature):
    try:
        hashing = model_signing.hashing.Config().set_ignored_paths(paths=[Path(signature).name])
        config.set_hashing_config(hashing).verify(model, signature)
        return True
    except Exception:
        return False


def write_model(name):
    model = WORK / name
    (model / "a").mkdir(parents=True)
    (model / ".git").mkdir()
    for path in ["config.json", "a/z", "a-b", "ü é.txt", ".git/HEAD", ".gitattributes", "empty"]:
        (model / path).write_text("" if path == "empty" else path)
    (model / "big.bin").write_bytes(os.urandom(3 << 20))
    return model


def key(curve, form):
    secret = ec.generate_private_key(curve)
    file = WORK / f"{curve.name}-{'pkcs8' if form == FORMS.PKCS8 else 'sec1'}"
    file.with_suffix(".pem").write_bytes(secret.private_bytes(PEM, form, NO_PASSWORD))
    public = secret.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    file.with_suffix(".pub").write_bytes(public)
    return file.with_suffix(".pem"), file.with_suffix(".pub")


def changes(model):
    """Ways in which a model is no longer what was signed, each undone after it."""
    file = model / "a/z"
    before = file.read_bytes()
    file.write_bytes(before[:-1] + b"!")
    yield "changed"
    file.write_bytes(before + b"!")
    yield "longer"
    file.unlink()
    yield "missing"
    (model / "a/y").write_bytes(before)
    yield "renamed"
    (model / "a/y").unlink()
    file.write_bytes(before)
    (model / "extra.py").write_text("x")
    yield "extra"
    (model / "extra.py").unlink()


def certificate(subject, public, issuer, by, authority):
    now = datetime.datetime(2026, 1, 1)
    name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])  # noqa: E731
    made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(public)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now)
    made = made.not_valid_after(now + datetime.timedelta(days=3650))
    made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    usage = dict.fromkeys(
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only".split(),
        False,
    )
    usage["key_cert_sign" if authority else "digital_signature"] = True
    made = made.add_extension(x509.KeyUsage(**usage), critical=True)
    if not authority:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    return made.sign(by, hashes.SHA256())


def keys():
    count = 0
    for curve in [ec.SECP256R1(), ec.SECP384R1()]:
        for form in [FORMS.PKCS8, FORMS.TraditionalOpenSSL]:
            private, public = key(curve, form)
            public_is = lambda p: model_signing.verifying.Config().use_elliptic_key_verifier(public_key=p)  # noqa: E731
            model = write_model(f"key-{private.stem}")
            signature = model / "model.sig"
            # Theirs first.
            hashing = model_signing.hashing.Config().set_ignored_paths(paths=["model.sig"])
            signing = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
            signing.set_hashing_config(hashing).sign(model, signature)
            for who in ["theirs", "ours"]:
                if who == "ours":
                    signature.unlink()
                    done = pondera("sign", model, "--key", private, "--json")
                    assert done["files"] == 6, done
                report = ours(model, signature, "--key", public)
                assert report["signature"]["files"] == 6 and report["signature"]["signer"]["kind"] == "key", report
                assert theirs(public_is(public), model, signature), who
                stranger = ec.generate_private_key(curve).public_key()
                wrong = WORK / "wrong.pub"
                wrong.write_bytes(stranger.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
                ours(model, signature, "--key", wrong, code=4)
                assert not theirs(public_is(wrong), model, signature)
                for what in changes(model):
                    ours(model, signature, "--key", public, code=4)
                    assert not theirs(public_is(public), model, signature), what
                    count += 1
                assert theirs(public_is(public), model, signature)
                ours(model, signature, "--key", public)
            # One file alone.
            alone, signature = model / "big.bin", WORK / "big.sig"
            signing = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
            signing.sign(alone, signature)
            ours(alone, signature, "--key", public)
            pondera("sign", alone, "--key", private, "--out", signature, "--json")
            ours(alone, signature, "--key", public)
            assert model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public).verify(alone, signature) is None
    print(f"ok: keys of both curves, folders and files, both directions; {count} changes refused by both")


def chains():
    for name, authority in [("ec", ec.generate_private_key(ec.SECP384R1())), ("rsa", rsa.generate_private_key(65537, 3072))]:
        between, signer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = certificate("root", authority.public_key(), "root", authority, True)
        middle = certificate("between", between.public_key(), "root", authority, True)
        leaf = certificate("signer", signer.public_key(), "between", between, False)
        files = {}
        for file, made in [("root", [root]), ("middle", [middle]), ("leaf", [leaf]), ("chain", [leaf, middle])]:
            files[file] = WORK / f"{name}-{file}.pem"
            files[file].write_bytes(b"".join(c.public_bytes(PEM) for c in made))
        private = WORK / f"{name}-signer.pem"
        private.write_bytes(signer.private_bytes(PEM, FORMS.PKCS8, NO_PASSWORD))
        model = write_model(f"chain-{name}")
        signature = model / "model.sig"
        trusted = lambda p: model_signing.verifying.Config().use_certificate_verifier(certificate_chain=[p])  # noqa: E731
        hashing = model_signing.hashing.Config().set_ignored_paths(paths=["model.sig"])
        signing = model_signing.signing.Config().use_certificate_signer(
            private_key=private, signing_certificate=files["leaf"], certificate_chain=[files["middle"]]
        )
        signing.set_hashing_config(hashing).sign(model, signature)
        for who in ["theirs", "ours"]:
            if who == "ours":
                pondera("sign", model, "--key", private, "--certificate", files["chain"], "--json")
            ours(model, signature, "--certificate-root", files["root"])
            assert theirs(trusted(files["root"]), model, signature), (name, who)
            stranger = ec.generate_private_key(ec.SECP256R1())
            wrong = WORK / "wrong-root.pem"
            wrong.write_bytes(certificate("root", stranger.public_key(), "root", stranger, True).public_bytes(PEM))
            ours(model, signature, "--certificate-root", wrong, code=4)
            assert not theirs(trusted(wrong), model, signature)
    print("ok: chains under roots of ECDSA and RSA, both directions")


def vectors(folder):
    """Signatures that earlier releases of the standard's tool made."""
    trust = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    if trust is None:
        store = Path(importlib.util.find_spec("sigstore").origin).parent / "_store"
        trust = next(p for p in store.rglob("trusted_root.json") if "sigstore.dev" in str(p))
    count = 0
    for case in sorted(folder.glob("v*-*")):
        version, kind = case.name.split("-", 1)
        model = WORK / case.name
        shutil.copytree(case, model)
        # Some signed one file alone.
        target = model if (model / "signme-2").exists() else model / "signme-1"
        ignore = ["ignore-me"] if (model / "ignore-me").exists() else []
        keys = folder / "keys/certificate"
        roots = WORK / "roots.pem"
        roots.write_bytes((keys / "ca-cert.pem").read_bytes() + (keys / "int-ca-cert.pem").read_bytes())
        how = {
            "elliptic-key": ["--key", keys / "signing-key-pub.pem"],
            "certificate": ["--certificate-root", roots],
            "sigstore": [
                "--identity", "stefanb@us.ibm.com", "--issuer", "https://sigstore.verify.ibm.com/oauth2", "--trust-root", trust,
            ],
        }[kind]
        done = subprocess.run(
            [PONDERA, "audit", target, "--signature", model / "model.sig", *how, *[a for i in ignore for a in ("--ignore", i)], "--json"],
            capture_output=True, text=True,
        )
        report = json.loads(done.stdout)
        verified = report["signature"]["verified"]
        why = [f["rule"] + ": " + f["what"] for f in report["findings"] if f["rule"].startswith("sign")]
        print(f"  {case.name}: {'verified' if verified else why}")
        # Before 0.3 they were over other bytes than the standard has it.
        assert verified == (version > "v0.2.0"), (case.name, report)
        if verified:
            count += 1
            (model / "signme-1").write_text("other")
            ours(target, model / "model.sig", *how, code=4, ignore=ignore)
    assert count >= 6, count
    print(f"ok: {count} signatures of earlier releases")


try:
    keys()
    chains()
    if VECTORS:
        vectors(VECTORS)
finally:
    shutil.rmtree(WORK, ignore_errors=True)
