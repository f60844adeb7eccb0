"""names.py FILE...: that rules and dashboard ask only for metrics, labels and verdicts that there are.

FILEs hold what node exporter and rt really told; metrics that this kernel does not tell (PSI) are named in their TYPE lines."""

import json
import re
import sys

import yaml

WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
GROUPS = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"


def metrics(expression):
    """The metrics that an expression names."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "", expression)
    bare = re.sub(GROUPS, " ", re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", bare))
    names = re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)
    return {name for name in names if name.lower() not in WORDS}


def labels(expression):
    """The labels that an expression names."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', '""', expression)
    groups = [name.strip() for group in re.findall(GROUPS, bare) for name in group.split(",")]
    return set(filter(None, groups)) | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", bare))


told = "".join(open(name).read() for name in sys.argv[1:])
there = set(re.findall(r"^# TYPE (\S+)", told, re.M)) | set(re.findall(r"^([a-z]\w*)", told, re.M))
# `instance` is Prometheus' own; pods and reasons are told where there are any.
names = set(re.findall(r'[{,](\w+)="', told)) | {"instance", "namespace", "pod", "name", "reason", "limiter"}
verdicts = json.dumps(json.load(open("docs/record.schema.json")))

rules = [rule for group in yaml.safe_load(open("deploy/monitoring/rules.yml"))["groups"] for rule in group["rules"]]
recorded = {rule["record"] for rule in rules if "record" in rule}
dashboard = json.load(open("deploy/monitoring/dashboard.json"))
panels = dashboard["panels"]
asked = [(rule.get("record") or rule["alert"], rule["expr"]) for rule in rules]
asked += [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
asked += [(item["name"], item["query"]["query"].split("(")[1].split(",")[0]) for item in dashboard["templating"]["list"] if item["type"] == "query"]

wrong = [f"{where}: no metric {name}" for where, text in asked for name in metrics(text) - there - recorded]
wrong += [f"{where}: no label {name}" for where, text in asked for name in labels(text) - names]
for where, text in asked:
    for words in re.findall(r'verdict=~?"([^"]*)"', text):
        wrong += [f"{where}: no verdict {word}" for word in words.split("|") if f'"{word}"' not in verdicts]
# What thousands of nodes have is asked for as recorded sums: series of containers only of one node.
wrong += [
    f"{panel['title']}: asks every container of every node"
    for panel in panels
    for target in panel["targets"]
    if metrics(target["expr"]) & (there | {"container:rt_memory_used:ratio"}) - {"node_textfile_mtime_seconds"}
    and "$instance" not in target["expr"]
]
if len({panel["id"] for panel in panels}) != len(panels):
    wrong.append("two panels have the same id")
if len(asked) < 30:
    wrong.append(f"only {len(asked)} expressions were found")
print("\n".join(wrong) or f"{len(asked)} expressions, {len(there)} metrics")
sys.exit(bool(wrong))
