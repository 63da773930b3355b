"""A model's `config.pbtxt`: written for Triton, and read again."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from streams.spec.infer import Batching, Infer
from streams.spec.layout import MEANT, Tensor
from streams.spec.model import OUTPUT

_DTYPES = {meant.triton: dtype for dtype, meant in MEANT.items()}


@dataclass(frozen=True)
class TritonConfig:
    """What Triton is told about a pipeline's model."""

    name: str
    inputs: tuple[Tensor, ...]
    """The tensors of a row."""
    outputs: int
    versions: tuple[int, ...]
    """Those that are served, exactly."""
    instances: int = 1
    infer: Infer = field(default_factory=Infer)

    def text(self) -> str:
        """The file."""
        listed = ", ".join(str(version) for version in sorted(self.versions))
        return f"""name: "{self.name}"
backend: "onnxruntime"
max_batch_size: 16384
input [{self._inputs()}]
output [{{ name: "{OUTPUT}" data_type: TYPE_FP32 dims: [ {self.outputs} ] }}]
instance_group [{{ kind: KIND_AUTO count: {self.instances}{self._limited()} }}]
version_policy {{ specific {{ versions: [ {listed} ] }} }}
{self._batched()}"""

    def _inputs(self) -> str:
        return ", ".join(
            f'{{ name: "{one.name}" data_type: TYPE_{MEANT[one.dtype].triton} '
            f"dims: [ {', '.join(map(str, one.shape))} ] }}"
            for one in self.inputs
        )

    def _limited(self) -> str:
        asked = self.infer
        if not asked.resources and not asked.priority:
            return ""
        named = ", ".join(
            f'{{ name: "{name}" count: {count} }}' for name, count in asked.resources.items()
        )
        return f" rate_limiter {{ resources [ {named} ] priority: {asked.priority} }}"

    def _batched(self) -> str:
        if (asked := self.infer.batching) is None:
            return ""
        sizes = ", ".join(map(str, asked.sizes))
        return (
            f"dynamic_batching {{ preferred_batch_size: [ {sizes} ] "
            f"max_queue_delay_microseconds: {asked.delay} default_queue_policy {{ "
            f"timeout_action: REJECT default_timeout_microseconds: {asked.timeout} "
            f"max_queue_size: {asked.queue} }} }}\n"
        )


def configured(text: str) -> list[int]:
    """The versions that the text of a `config.pbtxt` names, ascending."""
    return _numbers(text, r"versions:\s*\[([\d,\s]*)\]")


def read_config(text: str) -> TritonConfig | None:
    """What the file says; None where it is not one that we write, to the letter."""
    name = re.match(r'name: "([^"]*)"\n', text)
    shapes = [
        Tensor(name, _DTYPES[kind], tuple(map(int, sides.split(","))))
        for name, kind, sides in re.findall(
            r'name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([\d, ]+) \]', text
        )
        if kind in _DTYPES
    ]
    count = re.search(r"KIND_AUTO count: (\d+)", text)
    if name is None or len(shapes) < 2 or count is None:
        return None
    infer = Infer(batching=_batching(text), resources=_resources(text))
    if priority := re.search(r" priority: (\d+) \}", text):
        infer = replace(infer, priority=int(priority[1]))
    found = TritonConfig(
        name[1],
        tuple(shapes[:-1]),
        shapes[-1].shape[0],
        tuple(configured(text)),
        int(count[1]),
        infer,
    )
    return found if found.text() == text else None


def _resources(text: str) -> dict[str, int]:
    limited = re.search(r"resources \[ (.*) \] priority", text)
    named = re.findall(r'name: "(\w+)" count: (\d+)', limited[1]) if limited else []
    return {name: int(count) for name, count in named}


def _batching(text: str) -> Batching | None:
    found = re.search(
        r"max_queue_delay_microseconds: (\d+).*default_timeout_microseconds: (\d+) "
        r"max_queue_size: (\d+)",
        text,
    )
    if found is None:
        return None
    delay, timeout, queue = map(int, found.groups())
    sizes = tuple(_numbers(text, r"preferred_batch_size: \[([\d,\s]*)\]"))
    return Batching(delay, sizes, queue, timeout)


def _numbers(text: str, pattern: str) -> list[int]:
    listed = re.search(pattern, text)
    return sorted(int(one) for one in re.findall(r"\d+", listed[1])) if listed else []
