"""One device of one user: a matrix-nio client with end-to-end encryption and a store on disk.

Nothing runs in the background: waiting for something means syncing (a long poll) until it is there or the deadline is over.
"""

import asyncio
import json
import os
import time
from itertools import count

from nio import (
    AsyncClient,
    AsyncClientConfig,
    MegolmEvent,
    RoomMessageText,
    SyncResponse,
)
from nio.responses import ErrorResponse
from nio.store import SqliteStore

DEADLINE_S = int(os.environ.get("DEADLINE_MS", "30000")) / 1000
POLL_MS = 5_000
TIMELINE_LIMIT = 8
ENCRYPTED = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
RUN = f"{os.getpid():x}{int(time.time() * 1000):x}"
numbers = count(1)


def good(response):
    """The response, which must not be an error."""
    if isinstance(response, ErrorResponse):
        raise AssertionError(f"{type(response).__name__}: {response.status_code} {response.message}")
    return response


def same(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: got {actual!r}, expected {expected!r}")


class Listening(AsyncClient):
    """A client that also keeps what the server said word for word."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.bodies = []

    async def parse_body(self, transport_response):
        body = await super().parse_body(transport_response)
        if "next_batch" in body:
            self.bodies.append(body)
        return body


class Device:
    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.password = f"correct horse {name}"
        self.timeline = []  # (event id, body) of the messages of one room, oldest first; body None if unreadable
        self.to_device = []  # the raw to-device events, in the order received
        self.raw = []  # the raw sync responses
        self.limited = 0
        # Bobs live on the other server, if there is one.
        elsewhere = os.environ.get("HS_URL_OF_BOB") if name.startswith("bob") else None
        self.url = elsewhere or os.environ["HS_URL"]

    def _client(self, **session):
        config = AsyncClientConfig(
            store=SqliteStore, store_sync_tokens=True, encryption_enabled=True, max_timeouts=2, request_timeout=60
        )
        name = session.pop("user", self.name)
        self.client = Listening(self.url, name, store_path=str(self.folder), config=config, **session)

    @classmethod
    async def register(cls, folder, name):
        device = cls(folder, f"{name}_{RUN}_{next(numbers)}")
        device._client()
        answer = await device.client.register(device.name, device.password)
        if isinstance(answer, ErrorResponse) or not device.client.access_token:
            answer = await device.client.register(device.name, device.password, session_token=answer.session)
        good(answer)
        await device.sync(timeout_ms=0)
        return device

    async def sibling(self):
        """A further device of the same user."""
        device = Device(self.folder, self.name)
        device._client(user=self.user_id)
        good(await device.client.login(self.password, device_name="more"))
        await device.sync(timeout_ms=0)
        return device

    @property
    def user_id(self):
        return self.client.user_id

    @property
    def device_id(self):
        return self.client.device_id

    async def close(self):
        await self.client.close()

    async def open(self):
        """Comes back with what lies in the store."""
        session = self.client.user_id, self.client.device_id, self.client.access_token
        self._client(user=session[0], device_id=session[1])
        self.client.restore_login(*session)

    async def sync(self, timeout_ms=POLL_MS):
        room = {"timeline": {"limit": TIMELINE_LIMIT}, "state": {"lazy_load_members": False}}
        seen = len(self.client.bodies)
        response = await self.client.sync(timeout=timeout_ms, sync_filter={"room": room})
        if not isinstance(response, SyncResponse):
            raise AssertionError(f"sync: {response.status_code} {response.message}")
        for body in self.client.bodies[seen:]:
            self.raw.append(body)
            self.to_device.extend(body.get("to_device", {}).get("events", []))
        for room_id, joined in response.rooms.join.items():
            older = []
            if joined.timeline.limited and self.timeline:
                self.limited += 1
                older = await self._fill_gap(room_id, joined.timeline.prev_batch)
            self._hear([*older, *joined.timeline.events])
        await self._housekeeping()

    async def _fill_gap(self, room_id, token):
        """The events between the last one known and the start of the timeline."""
        known = {event_id for event_id, _ in self.timeline}
        older = []
        while token:
            page = good(await self.client.room_messages(room_id, token, limit=15))
            for event in page.chunk:
                if event.event_id in known:
                    return older
                older.insert(0, event)
            token = page.end
        return older

    def _hear(self, events):
        for event in events:
            if isinstance(event, RoomMessageText):
                self.timeline.append((event.event_id, event.body))
            elif isinstance(event, MegolmEvent):
                self.timeline.append((event.event_id, None))

    async def _housekeeping(self):
        """What nio's own loop does after a sync."""
        client = self.client
        if client.should_upload_keys:
            good(await client.keys_upload())
        if client.should_query_keys:
            good(await client.keys_query())
        if client.should_claim_keys:
            good(await client.keys_claim(client.get_users_for_key_claiming()))
        await client.send_to_device_messages()

    async def until(self, what, condition):
        """Syncs until the condition holds; returns its value."""
        end = asyncio.get_running_loop().time() + DEADLINE_S
        while not (value := condition()):
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                raise AssertionError(f"no {what} within {DEADLINE_S} s ({self.name}/{self.device_id})")
            await self.sync(min(POLL_MS, int(left * 1000) + 1))
        return value

    def body(self, event_id):
        return next((body for known, body in self.timeline if known == event_id), None)

    async def hears(self, event_id):
        return await self.until(f"readable {event_id}", lambda: self.body(event_id))

    async def send(self, room_id, kind, content):
        sent = await self.client.room_send(room_id, kind, content, ignore_unverified_devices=True)
        return good(sent).event_id

    async def say(self, room_id, body):
        return await self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": body})

    async def ask(self, method, path, body=None):
        """A request of our own with this device's token; returns status and body."""
        headers = {"Authorization": f"Bearer {self.client.access_token}"}
        url = self.url + path
        data = None if body is None else json.dumps(body)
        async with self.client.client_session.request(method, url, data=data, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    def check_to_device_once(self):
        seen = set()
        for event in self.to_device:
            key = json.dumps(event, sort_keys=True)
            if key in seen:
                raise AssertionError(f"{self.name}: a to-device message was delivered twice: {event['type']}")
            seen.add(key)


class World:
    """Two users, three devices, one encrypted room."""

    @classmethod
    async def create(cls, folder):
        world = cls()
        world.phone, world.bob = await asyncio.gather(
            Device.register(folder, "alice"), Device.register(folder, "bob")
        )
        world.laptop = await world.phone.sibling()
        world.devices = [world.phone, world.laptop, world.bob]
        world.said = []
        invited = [world.bob.user_id]
        made = await world.phone.client.room_create(invite=invited, initial_state=[ENCRYPTED])
        world.id = good(made).room_id
        await world.bob.until("invitation", lambda: world.id in world.bob.client.invited_rooms)
        good(await world.bob.client.join(world.id))
        for device in world.devices:
            await device.until("both members, encryption and their devices", lambda d=device: world.ready(d))
        return world

    def ready(self, device):
        room = device.client.rooms.get(self.id)
        users = [self.phone.user_id, self.bob.user_id]
        if not (room and room.encrypted and all(user in room.users for user in users)):
            return False
        known = {d.device_id for user in users for d in device.client.device_store.active_user_devices(user)}
        return {d.device_id for d in self.devices if d is not device} <= known

    async def talk(self, speakers, rounds, what):
        """Each of the speakers in turn; every speaker reads it before the next one speaks."""
        for number in range(rounds):
            body = f"{what} {number}"
            event_id = await speakers[number % len(speakers)].say(self.id, body)
            self.said.append(body)
            for listener in speakers:
                same(await listener.hears(event_id), body, f"what {listener.name} reads")

    def check_all_read(self, device):
        same([body for _, body in device.timeline], self.said, f"what {device.name} read")
        device.check_to_device_once()

    async def end(self):
        for device in self.devices:
            await device.close()
