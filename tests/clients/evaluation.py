"""EleutherAI's harness against the server, through its `local-completions`: the scores of `scores.json`, item by item.

Usage: python evaluation.py PROGRAM LM_EVAL MODEL TASKS    (LM_EVAL: the harness' own program, from PyPI; MODEL: a folder with weights
and vocabulary; TASKS: a folder with the tasks' files and `scores.json`)
"""
import json
import pathlib
import subprocess
import sys
import tempfile

program, harness, model, tasks = sys.argv[1:5]
folder = pathlib.Path(tasks).resolve()
want = json.loads((folder / "scores.json").read_text())["tasks"]
server = subprocess.Popen([program, "serve", f"model={model}", "--port", "0", "--json", "-q", "--kv", "f32"], stdout=subprocess.PIPE, text=True)
base = json.loads(server.stdout.readline())["listening"]
out = tempfile.mkdtemp()
args = f"model=model,base_url={base}/v1/completions,tokenizer_backend=huggingface,tokenizer={pathlib.Path(model).resolve()},tokenized_requests=True,add_bos_token=True,max_length=512,num_concurrent=4"
done = subprocess.run(
    [harness, "--model", "local-completions", "--model_args", args, "--tasks", ",".join(want), "--include_path", str(folder),
     "--log_samples", "--output_path", out], cwd=folder, check=False)
server.terminate()
if done.returncode:
    sys.exit("the harness failed")


def numbers(x):
    """Every log-likelihood of an item's answers, whatever they are nested in."""
    if isinstance(x, (list, tuple)):
        return [n for part in x for n in numbers(part)]
    if isinstance(x, str):
        try:
            return [float(x)]
        except ValueError:
            return []
    return [float(x)] if isinstance(x, (int, float)) and not isinstance(x, bool) else []


wrong = 0
scores = json.loads(next(pathlib.Path(out).rglob("results_*.json")).read_text())["results"]
for task, expected in want.items():
    file = next(pathlib.Path(out).rglob(f"samples_{task}_[0-9][0-9][0-9][0-9]-*.jsonl"))
    samples = {s["doc_id"]: s for s in map(json.loads, file.read_text().splitlines())}
    worst, texts, missing = 0.0, 0, 0
    for item in expected["samples"]:
        found = samples.get(item["doc_id"])
        if not found:
            missing += 1
            continue
        a, b = numbers(item["resps"]), numbers(found["resps"])
        missing += len(a) != len(b)
        worst = max([worst, *[abs(x - y) for x, y in zip(a, b)]])
        if not a:
            texts += item["filtered_resps"] != found["filtered_resps"]
    metrics = {k: v for k, v in expected["results"].items() if isinstance(v, float)}
    off = {k: (v, scores[task].get(k)) for k, v in metrics.items() if abs(v - scores[task].get(k, 9e9)) > 1e-4 * max(1, abs(v))}
    bad = worst > 1e-3 or texts or missing or off
    wrong += bool(bad)
    print(f"{task}: {len(expected['samples'])} items, log-likelihoods {worst:.1e} apart at most, {texts} other texts, {missing} missing, scores {'equal' if not off else off}")
sys.exit(1 if wrong else 0)
