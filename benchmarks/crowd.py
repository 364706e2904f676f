"""Fifty people at once on a dashboard of 1,000 releases x 16 variants: how long its data takes, and the memory."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

from benchmarks.crowd_server import RELEASES, VARIANTS

PEOPLE = 50
THINK = (1.0, 3.0)  # seconds between two looks at the dashboard by one person
LOOKS = 10  # until a person reloads the whole page, before it looks again by itself (30 s)
TARGET = 300  # ms
FILTERS = ("", "gguf", "mlx", "onnx", "openvino")


@dataclass
class Found:
    """What was measured. Times in seconds, memory in bytes, `at` since the beginning."""

    data: list[tuple[float, float]] = field(default_factory=list)  # at, how long
    pages: list[float] = field(default_factory=list)
    requests: int = 0
    cpu: float = 0
    memory: list[tuple[float, int]] = field(default_factory=list)


def measure(folder: Path, minutes: float = 10) -> tuple[list[tuple[str, str, str]], Found]:
    """The rows of the table, and what they were made of."""
    with _server(folder) as (url, process):
        found = asyncio.run(_crowd(url, process, 60 * minutes))
    times = sorted(1000 * took for _, took in found.data)
    p50, p95 = statistics.median(times), times[int(0.95 * len(times))]
    of = f"{PEOPLE} people, {RELEASES:,} releases x {VARIANTS} variants, {minutes:g} min"
    pages = sorted(1000 * took for took in found.pages)
    first, last = found.memory[0][1], found.memory[-1][1]
    return [
        ("dashboard, data of a page, p50", f"{p50:.0f} ms", of),
        ("dashboard, data of a page, p95", f"{p95:.0f} ms", f"target: under {TARGET} ms"),
        ("dashboard, the page itself, p95", f"{pages[int(0.95 * len(pages))]:.0f} ms", f"{len(pages)} loads"),
        ("dashboard, requests", f"{found.requests / 60 / minutes:.0f} /s", f"{len(times)} of them looks"),
        ("dashboard, CPU of the server", f"{found.cpu / 60 / minutes:.2f} cores", f"of {psutil.cpu_count()}"),
        (
            "dashboard, memory of the server",
            f"{last / 2**20:.0f} MiB",
            f"{first / 2**20:.0f} MiB after the first minute",
        ),
        ("dashboard, memory, slope", f"{slope(found.memory):+.2f} MiB/min", "second half of the run; target: flat"),
    ], found


def slope(memory: list[tuple[float, int]]) -> float:
    """MiB per minute, by least squares over the second half."""
    half = [(at / 60, size / 2**20) for at, size in memory[len(memory) // 2 :]]
    if len(half) < 2:
        return 0.0
    return statistics.linear_regression([at for at, _ in half], [size for _, size in half]).slope


@contextmanager
def _server(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PHIMILL_", "HF_", "SPACE_"))}
    environment = kept | {"PHIMILL_HOME": str(folder / "home"), "HF_HOME": str(folder / "hf")}
    command = [sys.executable, "-m", "benchmarks.crowd_server", str(port), str(folder / "server.log")]
    with subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[1]) as process:
        try:
            deadline = time.monotonic() + 300
            while not _answers(f"http://127.0.0.1:{port}/healthz"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "server.log").read_text()[-2000:])
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


async def _crowd(url: str, process: psutil.Process, seconds: float) -> Found:
    found, began = Found(), time.monotonic()
    people = [asyncio.create_task(Person(url, number, found, began, seconds).stay()) for number in range(PEOPLE)]
    started = process.cpu_times()
    before = started.user + started.system
    every = min(60.0, seconds / 4)
    while (at := time.monotonic() - began) < seconds:
        await asyncio.sleep(min(every, seconds - at))
        found.memory.append((time.monotonic() - began, process.memory_info().rss))
    await asyncio.gather(*people)
    used = process.cpu_times()
    found.cpu = used.user + used.system - before
    return found


class Person:
    """Somebody with the page open in a browser: the same requests, in the same order."""

    def __init__(self, url: str, number: int, found: Found, began: float, seconds: float) -> None:
        self.url, self.found, self.began, self.until = url, found, began, began + seconds
        self.random = random.Random(number)
        self.http = httpx2.AsyncClient(base_url=url, timeout=60)
        self.session = ""
        self.config: dict[str, Any] = {}

    async def stay(self) -> None:
        await asyncio.sleep(self.random.uniform(0, THINK[1]))  # nobody comes at the very same moment
        async with self.http:
            while time.monotonic() < self.until:
                await self.open()
                beat = asyncio.create_task(self.heartbeat())
                for _ in range(LOOKS):
                    if time.monotonic() < self.until:
                        await asyncio.sleep(self.random.uniform(*THINK))
                        await self.look()
                beat.cancel()
                await asyncio.gather(beat, return_exceptions=True)

    async def open(self) -> None:
        """Load the page, and everything that it asks for by itself: the tabs that are not open ask for nothing."""
        began = time.monotonic()
        page = (await self.http.get("/?tab=releases")).raise_for_status().text
        self.found.pages.append(time.monotonic() - began)
        self.found.requests += 1
        self.session = "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=11))
        if not self.config:
            self.config = json.loads(re.search(r"window\.gradio_config = (.*?);</script>", page, re.S)[1])  # type: ignore[index]
        for event in self.config["dependencies"]:
            if any(name == "load" for _, name in event["targets"]) and event["backend_fn"]:
                await self.ask(event)
        await self.ask(self.dashboard("shown"))

    async def look(self) -> None:
        """Choose a filter or turn a page."""
        event = self.dashboard("input")
        words = ["", *(str(n) for n in range(10))]
        page = self.random.choice((1, 1, 1, 2, 3, self.random.randint(1, 100)))
        await self.ask(event, [None, self.random.choice(words), self.random.choice(FILTERS), "", "", "newest", page])

    def dashboard(self, asked_by: str) -> dict[str, Any]:
        """The event that asks for a page of the dashboard."""
        events = (each for each in self.config["dependencies"] if len(each["inputs"]) == 7)
        return next(each for each in events if any(name == asked_by for _, name in each["targets"]))

    async def ask(self, event: dict[str, Any], data: list[Any] | None = None) -> None:
        """Send one event, and what the page sends because of its answer."""
        began = time.monotonic()
        values = data if data is not None else [self.value(number) for number in event["inputs"]]
        body = {"data": values, "fn_index": event["id"], "session_hash": self.session, "event_data": None}
        if event["queue"]:
            await self.http.post("/gradio_api/queue/join", json=body)
            await self.streamed(f"/gradio_api/queue/data?session_hash={self.session}")
        else:
            (await self.http.post("/gradio_api/run/predict?tab=releases", json=body)).raise_for_status()
        self.found.requests += 1 + event["queue"]
        if len(event["inputs"]) == 7:
            now = time.monotonic()
            self.found.data.append((now - self.began, now - began))
        for each in self.config["dependencies"]:
            if each["backend_fn"] and each["trigger_after"] == event["id"]:
                await self.ask(each)

    def value(self, number: int) -> Any:
        component = next(each for each in self.config["components"] if each["id"] == number)
        return None if component["type"] == "state" else component["props"].get("value")

    async def streamed(self, path: str) -> None:
        async with self.http.stream("GET", path) as answer:
            async for line in answer.aiter_lines():
                said = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if said.get("msg") == "close_stream":
                    break

    async def heartbeat(self) -> None:
        """What tells the server that the page is still open."""
        async with self.http.stream("GET", f"/gradio_api/heartbeat/{self.session}") as answer:
            async for _ in answer.aiter_lines():
                pass
