"""A real Prometheus on the shipped daemon: the format, the alert rules, the dashboard, all by its own judgement.

Run by tests/metrics/run with the daemon's build folder and the folder of prometheus and promtool.
"""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

BUILD, TOOLS = os.path.abspath(sys.argv[1]), sys.argv[2]
RULES = os.path.abspath("deploy/prometheus/flashcored.rules.yml")
RULE_TESTS = os.path.abspath("tests/metrics/rules_test.yml")
DASHBOARD = "deploy/prometheus/flashcored.dashboard.json"
PATIENCE_S = 30


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def until(what, probe):
    """The first answer of probe() that is true; a refused connection is none."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            found = probe()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE_S} s")


def promtool(*arguments, text=None):
    return subprocess.run([f"{TOOLS}/promtool", *arguments], input=text, capture_output=True, text=True, check=False)


def expressions(panel):
    for target in panel.get("targets", []):
        yield target["expr"]
    for inner in panel.get("panels", []):
        yield from expressions(inner)


class Scraped(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="flashcored-metrics-")
        folder = cls.folder.name
        cls.daemon_port, cls.port = free_port(), free_port()
        url = f"ipc://{folder}/d.sock"
        cls.processes = [subprocess.Popen([f"{BUILD}/flashcored", "--listen", url, "--engine", "cpu", "--metrics",
                                           f"127.0.0.1:{cls.daemon_port}"], stderr=subprocess.DEVNULL)]
        cls.daemon = f"http://127.0.0.1:{cls.daemon_port}"
        until("ready", lambda: get(f"{cls.daemon}/readyz"))
        with open(f"{folder}/prometheus.yml", "w", encoding="utf-8") as config:
            config.write("global: {scrape_interval: 500ms, evaluation_interval: 500ms}\n"
                         f"rule_files: [{RULES}]\n"
                         "scrape_configs:\n- job_name: flashcored\n"
                         f"  static_configs: [{{targets: ['127.0.0.1:{cls.daemon_port}']}}]\n")
        cls.processes.append(subprocess.Popen(
            [f"{TOOLS}/prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{cls.port}", "--log.level=error"]))
        # Rates need a scrape from before the load.
        until("a scrape", lambda: '"up"' in get(f"http://127.0.0.1:{cls.port}/api/v1/targets"))
        subprocess.run([f"{BUILD}/bench_client", "--url", url, "--shape", "1,2,64,32", "--duration", "2", "--warmup",
                        "0", "--quiet"], stdout=subprocess.DEVNULL, check=True)

    @classmethod
    def tearDownClass(cls):
        for process in reversed(cls.processes):
            process.terminate()
            process.wait(PATIENCE_S)
        cls.folder.cleanup()

    def ask(self, path, **parameters):
        query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
        answer = json.loads(get(f"http://127.0.0.1:{self.port}/api/v1/{path}{query}"))
        self.assertEqual(answer["status"], "success", answer)
        return answer["data"]

    def value(self, expression):
        result = self.ask("query", query=expression)["result"]
        return float(result[0]["value"][1]) if result else 0.0

    def test_promtool_finds_nothing_wrong_with_the_format(self):
        check = promtool("check", "metrics", text=get(f"{self.daemon}/metrics"))
        self.assertEqual((check.returncode, check.stdout + check.stderr), (0, ""))

    def test_prometheus_scrapes_without_complaint(self):
        target = self.ask("targets")["activeTargets"]
        self.assertEqual((target[0]["health"], target[0]["lastError"]), ("up", ""))
        until("requests", lambda: self.value('flashcored_requests_total{op="attend"}') > 0)
        until("a rate", lambda: self.value("rate(flashcored_total_seconds_count[1m])") > 0)
        p99 = self.value("histogram_quantile(0.99, flashcored_total_seconds_bucket)")
        self.assertTrue(0 < p99 <= 10, p99)
        metadata = self.ask("targets/metadata", metric="flashcored_total_seconds")
        self.assertEqual([m["type"] for m in metadata], ["histogram"])

    def test_every_rule_is_evaluated_and_none_fires(self):
        check = promtool("check", "rules", RULES)
        self.assertEqual(check.returncode, 0, check.stderr)
        rules = until("an evaluation", lambda: [
            r for g in self.ask("rules")["groups"] for r in g["rules"] if g["lastEvaluation"][:4] != "0001"])
        for rule in rules:
            self.assertEqual((rule["name"], rule["health"], rule.get("lastError", "")), (rule["name"], "ok", ""))
            self.assertNotEqual(rule["state"], "firing", rule["name"])
        with open("docs/runbook.md", encoding="utf-8") as page:
            self.assertEqual({r["name"] for r in rules}, set(re.findall(r"`(Flashcored\w+)`", page.read())))

    def test_the_rules_fire_when_they_should(self):
        check = promtool("test", "rules", RULE_TESTS)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def test_the_dashboards_queries_are_right(self):
        with open(DASHBOARD, encoding="utf-8") as file:
            dashboard = json.load(file)
        queries = [q for panel in dashboard["panels"] for q in expressions(panel)]
        self.assertGreater(len(queries), 10)
        until("requests", lambda: self.value('flashcored_requests_total{op="attend"}') > 0)
        for query in queries:
            self.ask("query", query=query.replace("$__rate_interval", "1m").replace("$instance", ".*"))


if __name__ == "__main__":
    outcome = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromTestCase(Scraped))
    bad = len(outcome.failures) + len(outcome.errors)
    print(f"{max(outcome.testsRun - bad, 0)} passed, {bad} failed", flush=True)
    sys.exit(0 if outcome.wasSuccessful() and outcome.testsRun > 0 else 1)
