import os
import subprocess
import sys

from router.control.processes import Processes, runtime

SPIN = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ninput()"


def test_figures_are_those_that_dashboards_of_any_program_use() -> None:
    figures = Processes().read([os.getpid()])

    assert {
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    } == set(figures)
    assert figures["process_resident_memory_bytes"] > 1e6


def test_processes_are_summed_and_time_of_the_gone_stays() -> None:
    processes = Processes()
    alone = processes.read([os.getpid()])
    with subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        both = processes.read([os.getpid(), worker.pid])
        worker.communicate(b"\n")
    after = processes.read([os.getpid(), worker.pid])

    assert both["process_cpu_seconds_total"] >= alone["process_cpu_seconds_total"] + 0.15
    assert both["process_resident_memory_bytes"] > alone["process_resident_memory_bytes"]
    assert both["process_start_time_seconds"] == alone["process_start_time_seconds"]
    assert after["process_cpu_seconds_total"] >= both["process_cpu_seconds_total"]


def test_interpreter_and_its_collector_are_there() -> None:
    families = {family.name: family for family in runtime()}

    [(suffix, labels, value)] = families["python_info"].samples
    assert (suffix, dict(labels)["implementation"], value) == ("", "CPython", 1)
    collections = families["python_gc_collections_total"]
    assert collections.kind == "counter"
    assert [(suffix, dict(labels)) for suffix, labels, _ in collections.samples] == [
        ("", {"generation": str(number)}) for number in range(3)
    ]
