"""A bridge on mautrix: an application service with ghosts, run against HS_URL as its registration says.

Prints "ok NAME" or "FAIL NAME: why" for each scenario. DRIVER lines "@kill" ask for the server to be killed and started again."""

import asyncio
import logging
import os
import sys
import tempfile
import time

import aiohttp
from mautrix.appservice import AppService
from mautrix.appservice.state_store.file import FileASStateStore
from mautrix.types import EventType, RoomCreatePreset, TextMessageEventContent, MessageType

HS_URL = os.environ["HS_URL"]
DOMAIN = os.environ["HS_NAME"]
PORT = int(os.environ["AS_PORT"])
DEADLINE_S = 60


class Bridge:
    """The application service, and everything that it was sent."""

    def __init__(self, folder):
        store = FileASStateStore(path=os.path.join(folder, "state.json"), binary=False)
        self.az = AppService(
            server=HS_URL, domain=DOMAIN, as_token="as_bridge", hs_token="hs_bridge",
            bot_localpart="bridge_bot", id="bridge", state_store=store, ephemeral_events=True,
            query_user=self.query_user, query_alias=self.query_alias,
        )
        self.seen = []
        self.made = []
        self.az.matrix_event_handler(self.on_event)

    async def on_event(self, event):
        self.seen.append(event)

    async def query_user(self, user_id):
        self.made.append(user_id)
        await self.ghost(user_id[1:].split(":")[0]).ensure_registered()
        return {"ok": True}

    async def query_alias(self, alias):
        bot = self.az.intent
        await bot.create_room(alias_localpart=alias[1:].split(":")[0], preset=RoomCreatePreset.PUBLIC)
        return {"ok": True}

    def ghost(self, localpart):
        return self.az.intent.user(f"@{localpart}:{DOMAIN}")

    async def until(self, what, wanted):
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            for event in list(self.seen):
                if wanted(event):
                    return event
            await asyncio.sleep(0.02)
        raise AssertionError(f"the bridge never saw {what}")

    def bodies(self, room):
        messages = [e for e in self.seen if e.type == EventType.ROOM_MESSAGE and e.room_id == room]
        return [e.content.body for e in messages]


class User:
    """A user of the server, by plain HTTP."""

    def __init__(self, session, token, user_id):
        self.session, self.token, self.user_id = session, token, user_id

    @staticmethod
    async def register(session, name):
        body = {"username": name, "password": "secret words", "auth": {"type": "m.login.dummy"}}
        async with session.post(f"{HS_URL}/_matrix/client/v3/register", json=body) as answer:
            made = await answer.json()
        return User(session, made["access_token"], made["user_id"])

    async def ask(self, method, path, body=None, status=200):
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"{HS_URL}/_matrix/client/v3{path}"
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            got = await answer.json()
            assert answer.status == status, f"{method} {path}: {answer.status} {got}"
            return got

    async def say(self, room, body):
        content = {"msgtype": "m.text", "body": body}
        await self.ask("PUT", f"/rooms/{room}/send/m.room.message/{time.monotonic_ns()}", content)


async def portal(bridge, user, ghost):
    """A room of the ghost's with the user in it."""
    intent = bridge.ghost(ghost)
    await intent.ensure_registered()
    room = await intent.create_room(preset=RoomCreatePreset.PUBLIC, name="a portal")
    await user.ask("POST", f"/join/{room}", {})
    return room, intent


async def ping(bridge, user):
    duration = await bridge.az.intent.appservice_ping("bridge")
    assert duration >= 0
    await bridge.az.intent.whoami()


async def ghosts_speak_and_hear(bridge, user):
    room, intent = await portal(bridge, user, "bridge_speaker")
    await intent.set_displayname("A speaker")
    await intent.send_text(room, "from the other network")
    await user.say(room, "from matrix")
    await bridge.until("the answer", lambda e: e.type == EventType.ROOM_MESSAGE and e.content.body == "from matrix")
    messages = await user.ask("GET", f"/rooms/{room}/messages?dir=b&limit=5")
    assert any(e["sender"] == intent.mxid for e in messages["chunk"]), messages


async def ghosts_come_to_be_when_invited(bridge, user):
    room = (await user.ask("POST", "/createRoom", {}))["room_id"]
    ghost = f"@bridge_new:{DOMAIN}"
    await user.ask("POST", f"/rooms/{room}/invite", {"user_id": ghost})
    assert ghost in bridge.made
    await bridge.until("the invite", lambda e: e.type == EventType.ROOM_MEMBER and e.state_key == ghost)
    await bridge.ghost("bridge_new").join_room_by_id(room)
    await user.say(room, "welcome")
    await bridge.until("the welcome", lambda e: e.type == EventType.ROOM_MESSAGE and e.content.body == "welcome")


async def rooms_come_to_be_when_joined(bridge, user):
    joined = await user.ask("POST", f"/join/%23bridge_room:{DOMAIN}", {})
    await user.say(joined["room_id"], "a portal by its name")
    await bridge.until("the words", lambda e: e.room_id == joined["room_id"] and e.type == EventType.ROOM_MESSAGE)


async def names_are_kept(bridge, user):
    body = {"username": "bridge_thief", "password": "secret words", "auth": {"type": "m.login.dummy"}}
    taken = await user.ask("POST", "/register", body, status=400)
    assert taken["errcode"] == "M_EXCLUSIVE", taken


async def typing_and_receipts(bridge, user):
    room, intent = await portal(bridge, user, "bridge_reader")
    event = await intent.send_text(room, "read this")
    await user.ask("POST", f"/rooms/{room}/receipt/m.read/{event}", {})
    await user.ask("PUT", f"/rooms/{room}/typing/{user.user_id}", {"typing": True, "timeout": 30000})
    await bridge.until("typing", lambda e: e.type == EventType.TYPING and user.user_id in e.content.user_ids)
    await bridge.until("a receipt", lambda e: e.type == EventType.RECEIPT and event in e.content)


async def the_past_has_its_time(bridge, user):
    room, intent = await portal(bridge, user, "bridge_historian")
    content = TextMessageEventContent(msgtype=MessageType.TEXT, body="long ago")
    event = await intent.send_message_event(room, EventType.ROOM_MESSAGE, content, timestamp=1234567)
    got = await user.ask("GET", f"/rooms/{room}/event/{event}")
    assert got["origin_server_ts"] == 1234567, got


async def a_killed_server_loses_and_doubles_nothing(bridge, user):
    room, _ = await portal(bridge, user, "bridge_survivor")
    for number in range(20):
        await user.say(room, f"{number}")
        if number == 10:
            print("@kill", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await bridge.until("the last", lambda e: e.room_id == room and getattr(e.content, "body", "") == "19")
    assert bridge.bodies(room) == [str(number) for number in range(20)], bridge.bodies(room)


ALL = [ping, ghosts_speak_and_hear, ghosts_come_to_be_when_invited, rooms_come_to_be_when_joined, names_are_kept,
       typing_and_receipts, the_past_has_its_time, a_killed_server_loses_and_doubles_nothing]


async def main():
    logging.disable(logging.CRITICAL)
    chosen = [scenario for scenario in ALL if not sys.argv[1:] or scenario.__name__ in sys.argv[1:]]
    passed = 0
    with tempfile.TemporaryDirectory() as folder:
        bridge = Bridge(folder)
        await bridge.az.start("127.0.0.1", PORT)
        async with aiohttp.ClientSession() as session:
            user = await User.register(session, "alice")
            for scenario in chosen:
                try:
                    await asyncio.wait_for(scenario(bridge, user), 2 * DEADLINE_S)
                    print(f"ok {scenario.__name__}", flush=True)
                    passed += 1
                except Exception as error:
                    why = f"{type(error).__name__}: {error}".replace("\n", " ")
                    print(f"FAIL {scenario.__name__}: {why}", flush=True)
        await bridge.az.stop()
    return 0 if passed == len(chosen) > 0 else 1


sys.exit(asyncio.run(main()))
