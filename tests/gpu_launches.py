"""Whether a kernel that is found again is launched as Triton would launch it: `python tests/gpu_launches.py`.

Prints, as JSON, for each call what Triton's own way launches and what `launch.launch` does the second time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from gpu_code import PretendedGPU, driver, launch, torch

launches: list[Any] = []


class Utils:
    def load_binary(self, *given: Any) -> tuple[int, int, int, int, int]:
        return 1, 1, 32, 0, 1024

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 200_000}

    def unload_module(self, module: Any) -> None:
        pass


class NotingGPU(PretendedGPU):
    """Kernels are compiled, and their launches noted."""

    utils = Utils()

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        compiled_for = source.name, str(source.signature), str(source.attrs), str(source.constants), metadata.num_warps

        def noted(x: int, y: int, z: int, *more: Any) -> None:
            arguments = more[6:]  # after the stream, the function, two kinds of metadata and two hooks
            launches.append([*compiled_for, (x, y, z), [shown(value) for value in arguments]])

        return noted


def shown(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)


def calls() -> list[Callable[[], Any]]:
    x, z, targets = torch.zeros(4101), torch.zeros(48, 100), torch.zeros(48, dtype=torch.int64)
    given = (2.0, 2.0), (0.75, 0.25)
    return [
        lambda: launch.binary(x[:4096], x[:4096], *given, gradient=True, summed=True, divisor=7.0),
        lambda: launch.binary(x[:4096], x[:4096], *given, gradient=True, summed=True, divisor=8.0),
        lambda: launch.binary(x[:4095], x[:4095], *given, gradient=True, summed=True),
        lambda: launch.binary(x[5:], x[:4096], *given, gradient=True, summed=True),
        lambda: launch.binary(x[:1], x[:1], *given, gradient=True, losses=False, upstream=torch.ones(())),
        lambda: launch.softmax(z, targets, 1, 2.0, gradient=True, ignore=-100),
        lambda: launch.softmax(z[:16], targets[:16], 1, 2.0, gradient=True, ignore=-100),
        lambda: launch.binary(x[:100], x[:100], *given, gradient=True, summed=True, divisor=torch.ones(())),
        lambda: launch.multiply(torch.zeros(4096), torch.ones(())),
    ]


def noted(call: Callable[[], Any]) -> list[Any]:
    launches.clear()
    call()
    return list(launches)


def main() -> None:
    driver.set_active(NotingGPU(90))
    plain = []
    for call in calls():
        launch.compiled.clear()
        plain.append(noted(call))
    launch.compiled.clear()
    for call in calls():
        call()
    kept = len(launch.compiled)
    again = [noted(call) for call in calls()]
    assert len(launch.compiled) == kept
    print(json.dumps({"plain": plain, "again": again}))


if __name__ == "__main__":
    main()
