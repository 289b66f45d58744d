// What deploy/ says, held against the program: every metric that a dashboard, an alert or an autoscaler reads is one that a
// server has, every flag is one that `serve` knows, the times of stopping fit, probes ask paths that answer without a key.
//
//     node deploy/test/check.mjs target/release/pondera
//
// What else is on this machine is asked too, where it is there: promtool, hadolint, kubernetes-validate, systemd-analyze.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = process.argv[2];
if (!program) {
  console.error("usage: node deploy/test/check.mjs PROGRAM");
  process.exit(2);
}
const here = join(dirname(fileURLToPath(import.meta.url)), "..");
const read = (name) => readFileSync(join(here, name), "utf8");
let passed = 0, failed = 0, skipped = 0;
const check = (what, ok, why = "") => {
  ok ? passed++ : failed++;
  console.log(`${ok ? "ok" : "FAILED"} ${what}${ok || !why ? "" : `: ${why}`}`);
};

const help = execFileSync(program, ["serve", "--help"], { encoding: "utf8" });
const flags = new Set(help.match(/--[a-z][a-z-]*/g));
const secret = "a-key-of-this-check-only";
const folder = mkdtempSync(join(tmpdir(), "deploy-"));
writeFileSync(join(folder, "keys"), `check ${secret} admin\n`, { mode: 0o600 });

async function serve(args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) return { child, url: JSON.parse(line).listening };
  throw new Error("the server said nothing");
}
const { child, url } = await serve(["serve", "--port", "0", "--json", "-q", "--keys", join(folder, "keys")]);
const ended = new Promise((done) => child.once("exit", (code) => done(code)));
try {
  const get = (path, headers = {}) => fetch(url + path, { headers });
  const text = await (await get("/metrics", { authorization: `Bearer ${secret}` })).text();
  const metrics = new Set();
  for (const [, name, kind] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    const parts = kind === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
    parts.forEach((part) => metrics.add(name + part));
  }
  check("/metrics is not for those without a key", (await get("/metrics")).status === 401);

  const used = new Set();
  const uses = (what, source) => {
    const names = source.match(/\b(?:vllm|pondera):[a-z0-9_]+/g) ?? [];
    names.forEach((name) => used.add(name));
    const unknown = [...new Set(names)].filter((name) => !metrics.has(name));
    check(`${what}: ${new Set(names).size} metrics`, names.length > 0 && unknown.length === 0, unknown.join(", "));
  };
  const board = JSON.parse(read("monitoring/dashboard.json"));
  const asks = board.panels.flatMap((p) => p.targets.map((t) => t.expr));
  uses("dashboard", JSON.stringify(board));
  check(`dashboard: ${board.panels.length} panels, each its own id and place`,
    new Set(board.panels.map((p) => p.id)).size === board.panels.length &&
    new Set(board.panels.map((p) => `${p.gridPos.x} ${p.gridPos.y}`)).size === board.panels.length &&
    board.panels.every((p) => p.targets.length && p.gridPos.x + p.gridPos.w <= 24));
  uses("alerts", read("monitoring/alerts.yaml"));
  uses("adapter", read("kubernetes/prometheus-adapter.yaml"));
  const kubernetes = read("kubernetes/pondera.yaml");
  const scaled = kubernetes.match(/metric: \{name: (\w+)\}/)[1];
  check(`autoscaler: ${scaled}`, metrics.has(scaled.replace(/^vllm_/, "vllm:")) && read("kubernetes/prometheus-adapter.yaml").includes(scaled.replace(/^vllm_/, "vllm:")));
  const unseen = [...new Set([...metrics].map((m) => m.replace(/_(bucket|sum|count)$/, "")))].filter((m) => ![...used].some((u) => u.startsWith(m)));
  console.log(unseen.length ? `note: nothing shows ${unseen.join(", ")}` : "note: every metric is shown");

  const unit = read("systemd/pondera.service");
  const start = unit.match(/^ExecStart=((?:.*\\\n)*.*)$/m)[1];
  const args = [...kubernetes.match(/^ {10}args:\n((?: {12}.*\n)+)/m)[1].matchAll(/^ {12}- "?([^"\n]*)"?$/gm)].map((m) => m[1]);
  const image = read("Dockerfile");
  const command = JSON.parse(image.match(/^CMD (\[.*\])$/m)[1]);
  for (const [what, words] of [["unit", start.split(/\s+/)], ["deployment", args], ["image", command]]) {
    const unknown = words.filter((w) => w.startsWith("--") && !flags.has(w));
    check(`${what}: flags`, words.includes("serve") && words.some((w) => flags.has(w)) && unknown.length === 0, unknown.join(", "));
  }
  // Settings are held against the program by starting it with them: a key that it does not know ends it with 2.
  const settings = { "pondera.toml": read("pondera.toml"),
    "ConfigMap": kubernetes.match(/^ {2}pondera\.toml: \|\n((?: {4}.*\n|\n)+)/m)[1].replace(/^ {4}/gm, "") };
  for (const [what, text] of Object.entries(settings)) {
    writeFileSync(join(folder, "settings.toml"), text.replace(/^path = .*$/m, 'path = "/no/such/model"'));
    const tried = spawnSync(program, ["serve", "--config", join(folder, "settings.toml"), "--keys", join(folder, "keys")], { encoding: "utf8" });
    check(`${what}: the program knows every key`, tried.status === 3 && tried.stderr.includes("/no/such/model"), tried.stderr);
  }
  const value = (what, key) => Number(settings[what].match(new RegExp(`^${key} = (\\d+)$`, "m"))[1]);
  const grace = value("pondera.toml", "grace");
  check("unit: the system waits longer than the server", Number(unit.match(/^TimeoutStopSec=(\d+)$/m)[1]) > grace);
  const wait = Number(kubernetes.match(/terminationGracePeriodSeconds: (\d+)/)[1]);
  const before = Number(kubernetes.match(/preStop:\n\s*sleep: \{seconds: (\d+)\}/)[1]);
  check("deployment: the system waits longer than the server", wait > before + value("ConfigMap", "grace"));
  for (const [, path] of kubernetes.matchAll(/httpGet: \{path: (\S+),/g)) check(`probe ${path} needs no key`, (await get(path)).status === 200);
  const running = value("ConfigMap", "max_running"), target = Number(kubernetes.match(/averageValue: "(\d+)"/)[1]);
  check("autoscaler: a target that the queue reaches before anything is refused", scaled.endsWith("_waiting") && target >= 1 && target < running && running + target < value("ConfigMap", "max_requests"));
  const health = JSON.parse(image.match(/^ {4}CMD (\[.*\])$/m)[1]);
  const at = health[2].replace("/8080", `/${new URL(url).port}`);
  check("image: its health check finds a server", spawnSync(health[0], ["-c", at]).status === 0);
  check("image: its health check misses one that is not there", spawnSync(health[0], ["-c", health[2].replace("/8080", "/1")]).status !== 0);
  check("image: no secrets", !/PONDERA_API_KEY=|ARG .*(KEY|SECRET|TOKEN)/.test(image) && /^USER 10001/m.test(image));

  const tool = (name, args, good = (r) => r.status === 0) => {
    const done = spawnSync(name, args, { encoding: "utf8" });
    if (done.error) {
      skipped++;
      return console.log(`skipped ${name}: it is not here`);
    }
    check(`${name} ${args.filter((a) => !a.startsWith("/")).join(" ")}`, good(done), done.stdout + done.stderr);
  };
  writeFileSync(join(folder, "dashboard.yaml"), "groups: [{name: dashboard, rules: [" + asks.map((e, i) => JSON.stringify({
    record: `a${i}`, expr: e.replaceAll("$__rate_interval", "5m") })).join(", ") + "]}]\n");
  writeFileSync(join(folder, "pondera-key"), secret);
  for (const name of readdirSync(join(here, "monitoring"))) writeFileSync(join(folder, name), read(`monitoring/${name}`));
  tool("promtool", ["check", "config", join(folder, "prometheus.yaml")]);
  tool("promtool", ["check", "config", join(here, "kubernetes/scrape.yaml")], (r) => r.status === 0 || /kubernetes_sd_configs not found/.test(r.stderr));
  tool("promtool", ["check", "rules", join(folder, "dashboard.yaml")]);
  tool("promtool", ["test", "rules", join(here, "test/alerts.yaml")]);
  const lint = spawnSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8" });
  if (!lint.error) check("promtool reads /metrics", !/error while linting/.test(lint.stderr), lint.stderr);
  tool("hadolint", ["--ignore", "DL3008", join(here, "Dockerfile")]);
  tool("kubernetes-validate", ["--strict", join(here, "kubernetes/pondera.yaml")]);
  tool("systemd-analyze", ["verify", join(here, "systemd/pondera.service")], (r) => !/pondera\.service:\d+:/.test(r.stderr));
} finally {
  child.kill("SIGTERM");
}
check("SIGTERM ends the server, with 0", (await ended) === 0);
rmSync(folder, { recursive: true });
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed ? 1 : 0);
