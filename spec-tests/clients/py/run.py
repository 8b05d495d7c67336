"""Runs the scenarios named on the command line, or all, against HS_URL. Prints "ok NAME" or "FAIL NAME: why" for each."""

import asyncio
import logging
import os
import sys
import tempfile
import time
import traceback

import scenarios

SCENARIO_DEADLINE_S = 180


async def main():
    if "HS_URL" not in os.environ:
        print("FAIL start: HS_URL is not set")
        return 2
    logging.disable(logging.CRITICAL)
    wanted = sys.argv[1:]
    chosen = [scenario for scenario in scenarios.ALL if not wanted or scenario.__name__ in wanted]
    passed = 0
    for scenario in chosen:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                await asyncio.wait_for(scenario(folder), SCENARIO_DEADLINE_S)
                print(f"ok {scenario.__name__} ({(time.monotonic() - started) * 1000:.0f} ms)", flush=True)
                passed += 1
            except Exception as error:
                why = f"{type(error).__name__}: {error}".replace("\n", " ")
                print(f"FAIL {scenario.__name__}: {why}", flush=True)
                if os.environ.get("TRACE"):
                    traceback.print_exc()
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return 0 if passed == len(chosen) > 0 else 1


sys.exit(asyncio.run(main()))
