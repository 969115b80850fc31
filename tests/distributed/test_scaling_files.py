"""What docs/scaling.md shows can be used as it is: the files parse, and their command lines are ones that `gpt-kit train` takes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gpt_kit.cli.train import TrainArguments, parse_settings

ROOT = Path(__file__).parents[2]
DOCS, SLURM, KUBERNETES = (ROOT / name for name in ("docs/scaling.md", "examples/scaling/slurm.sbatch", "examples/scaling/kubernetes.yaml"))


def commands() -> list[list[str]]:
    """The words after `-m gpt_kit train` of every torchrun command, variables by their default."""
    yaml = pytest.importorskip("yaml")
    script = SLURM.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^(\w+)=\$\{\w+:-(\S+)\}", script, re.MULTILINE))
    texts = [re.sub(r"\$(\w+)", lambda found: defaults.get(found[1], "x"), script.replace("\\\n", " "))]
    texts += re.findall(r"^```sh\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for text in texts for line in text.splitlines() if "-m gpt_kit train" in line]
    job = list(yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8")))[1]
    lines.append(job["spec"]["template"]["spec"]["containers"][0]["args"])
    return [line[line.index("train") + 1 :] for line in lines]


def test_every_command_is_one_that_train_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = commands()
    assert len(found) == 4
    for words in found:
        arguments = parse_settings(TrainArguments, "train", words)
        assert arguments.out is not None and arguments.source
        assert (arguments.resume == "auto") == ("--resume" in words)


def test_the_batch_script_is_bash() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)


def test_all_pods_meet_where_the_service_is() -> None:
    """As many pods as torchrun waits for, and a name for the first that Kubernetes gives it: JOB-0.SERVICE."""
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    pod = job["spec"]["template"]
    arguments = pod["spec"]["containers"][0]["args"]
    assert f"--nnodes={job['spec']['completions']}" in arguments and job["spec"]["parallelism"] == job["spec"]["completions"]
    assert f"--rdzv-endpoint={job['metadata']['name']}-0.{pod['spec']['subdomain']}:29500" in arguments
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert pod["metadata"]["labels"] == service["spec"]["selector"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert volumes == {mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}
