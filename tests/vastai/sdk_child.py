"""Drives vast.ai's own package: reads `[method, arguments]` lines, answers each with a line of JSON. Its package is on PYTHONPATH."""

from __future__ import annotations

import json
import sys

from vastai import VastAI  # type: ignore[import-not-found]

sdk = VastAI(retry=1)
for line in sys.stdin:
    method, arguments = json.loads(line)
    try:
        answer = {"result": getattr(sdk, method)(**arguments)}
    except Exception as error:  # noqa: BLE001  # told to the test
        response = getattr(error, "response", None)
        answer = {"error": type(error).__name__, "status": getattr(response, "status_code", None)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
