"""Asks whoever started this script to do something to the server: prints "@verb", waits for "done verb"."""

import asyncio
import os
import sys


async def drive(verb):
    if os.environ.get("DRIVER") != "stdio":
        raise AssertionError(f'this scenario needs a driver that answers "@{verb}"')
    print(f"@{verb}", flush=True)
    answer = await asyncio.wait_for(asyncio.to_thread(sys.stdin.readline), 60)
    if answer.strip() != f"done {verb}":
        raise AssertionError(f"the driver answered {answer!r}")
