"""What matrix-nio has to find on a homeserver. Each function is a scenario; its first line says what it shows."""

import asyncio
import io

from device import Device, World, good, same
from driver import drive
from nio import (
    KeyVerificationAccept,
    KeyVerificationKey,
    KeyVerificationMac,
    KeyVerificationStart,
    ReactionEvent,
    ReceiptEvent,
    RedactedEvent,
    RedactionEvent,
    RoomEncryptedFile,
    RoomMessagesError,
    TypingNoticeEvent,
    WhoamiError,
)
from nio.crypto.attachments import decrypt_attachment


async def everyone_decrypts(folder):
    """Two users, three devices, an encrypted room: every device decrypts every message."""
    world = await World.create(folder)
    await world.talk(world.devices, 9, "hello")
    for device in world.devices:
        world.check_all_read(device)
    await world.end()


async def away_catches_up(folder):
    """A closed device catches up across a gap on every message and key exactly once."""
    world = await World.create(folder)
    await world.talk(world.devices, 3, "before")
    await world.laptop.close()
    keys = len(world.laptop.to_device)
    for part in range(4):
        for device in (world.phone, world.bob):
            device.client.invalidate_outbound_session(world.id)
        await world.talk([world.phone, world.bob], 9, f"missed, part {part}")
    await world.laptop.open()
    await world.laptop.until("newest message", lambda: world.laptop.timeline[-1][1] == world.said[-1])
    if world.laptop.limited == 0:
        raise AssertionError("the timeline had no gap")
    if len(world.laptop.to_device) - keys < 8:
        raise AssertionError(f"only {len(world.laptop.to_device) - keys} key messages came")
    await world.talk(world.devices, 3, "after")
    for device in world.devices:
        world.check_all_read(device)
    await world.laptop.close()
    await world.laptop.open()
    keys = len(world.laptop.to_device)
    await world.laptop.sync(timeout_ms=0)
    same(len(world.laptop.to_device), keys, "to-device messages after the second start")
    world.check_all_read(world.laptop)
    await world.end()


async def to_device_acknowledged(folder):
    """To-device messages come in order, again while the token is the same, and never after it moved on."""
    phone, bob = await Device.register(folder, "alice"), await Device.register(folder, "bob")
    laptop = await phone.sibling()
    since = {device: device.client.next_batch for device in (phone, laptop)}
    for number in range(5):
        body = {"messages": {phone.user_id: {"*": {"number": number}}}}
        for _ in range(2):  # The second is a retry with the same transaction id.
            status, _ = await bob.ask("PUT", f"/_matrix/client/v3/sendToDevice/org.test/order{number}", body)
            same(status, 200, "sendToDevice")

    async def inbox(device, token):
        status, body = await device.ask("GET", f"/_matrix/client/v3/sync?timeout=0&since={token}")
        same(status, 200, "sync")
        events = [e for e in body.get("to_device", {}).get("events", []) if e["type"] == "org.test"]
        return [e["content"]["number"] for e in events], body["next_batch"]

    for device in (phone, laptop):
        first, after = await inbox(device, since[device])
        same(first, [0, 1, 2, 3, 4], f"to-device messages of {device.device_id}")
        again, after = await inbox(device, since[device])
        same(again, [0, 1, 2, 3, 4], "the same page asked again")
        then, _ = await inbox(device, after)
        same(then, [], "the page after it was acknowledged")
    for device in (phone, laptop, bob):
        await device.close()


async def keys_claimed_once(folder):
    """Each one-time key is handed out once, however many ask at the same time; the owner notices and uploads more."""
    phone, bob = await Device.register(folder, "alice"), await Device.register(folder, "bob")
    claim = {"one_time_keys": {phone.user_id: {phone.device_id: "signed_curve25519"}}}
    before = phone.client.olm.uploaded_key_count

    async def one():
        status, body = await bob.ask("POST", "/_matrix/client/v3/keys/claim", claim)
        same(status, 200, "claim")
        return list(body["one_time_keys"].get(phone.user_id, {}).get(phone.device_id, {}).values())

    async def many(number):
        return [key["key"] for keys in await asyncio.gather(*(one() for _ in range(number))) for key in keys]

    # One is left, since nio overlooks a count of zero.
    claimed = await many(before - 1)
    same((len(claimed), len(set(claimed))), (before - 1, before - 1), "keys claimed, and different ones")
    await phone.until("the low count and new keys", lambda: phone.client.olm.uploaded_key_count == before and any(
        body.get("device_one_time_keys_count", {}).get("signed_curve25519") == 1 for body in phone.raw
    ))
    claimed += await many(before + 5)
    expected = 2 * before - 1
    same((len(claimed), len(set(claimed))), (expected, expected), "keys claimed down to the last, and different ones")
    await phone.close()
    await bob.close()


async def conversation(folder):
    """Receipts, typing, reactions and redaction reach the other user."""
    world = await World.create(folder)
    phone, bob = world.phone, world.bob
    await world.talk(world.devices, 2, "hello")
    heard = []
    for kind in (TypingNoticeEvent, ReceiptEvent):
        bob.client.add_ephemeral_callback(lambda _, event: heard.append(event), kind)
    for kind in (ReactionEvent, RedactedEvent):
        bob.client.add_event_callback(lambda _, event: heard.append(event), kind)

    good(await phone.client.room_typing(world.id, True, 20_000))
    await bob.until("typing", lambda: any(
        phone.user_id in event.users for event in heard if isinstance(event, TypingNoticeEvent)
    ))
    good(await phone.client.room_typing(world.id, False))
    await bob.until("end of typing", lambda: [e.users for e in heard if isinstance(e, TypingNoticeEvent)][-1] == [])

    last = phone.timeline[-1][0]
    good(await phone.client.room_read_markers(world.id, fully_read_event=last, read_event=last))
    await bob.until("receipt", lambda: any(
        receipt.user_id == phone.user_id and receipt.event_id == last and receipt.receipt_type == "m.read"
        for event in heard if isinstance(event, ReceiptEvent) for receipt in event.receipts
    ))

    relation = {"rel_type": "m.annotation", "event_id": last, "key": "👍"}
    await phone.send(world.id, "m.reaction", {"m.relates_to": relation})
    await bob.until("reaction", lambda: any(
        event.reacts_to == last and event.key == "👍" for event in heard if isinstance(event, ReactionEvent)
    ))

    bob.client.add_event_callback(lambda _, event: heard.append(event), RedactionEvent)
    good(await phone.client.room_redact(world.id, last, reason="typo"))
    await bob.until("redaction", lambda: any(event.redacts == last for event in heard if isinstance(event, RedactionEvent)))
    status, page = await bob.ask("GET", f"/_matrix/client/v3/rooms/{world.id}/event/{last}")
    same((status, page["content"]), (200, {}), "the redacted event")
    page = await bob.client.room_messages(world.id, bob.client.next_batch, limit=20)
    if isinstance(page, RoomMessagesError):
        raise AssertionError(f"messages: {page}")
    redacted = [event for event in page.chunk if isinstance(event, RedactedEvent) and event.event_id == last]
    same([(event.redacter, event.reason) for event in redacted], [(phone.user_id, "typo")], "the redacted event in the history")
    await world.end()


async def media(folder):
    """Files come down as they went up; an encrypted one is read by the other user and nobody else."""
    world = await World.create(folder)
    phone, bob = world.phone, world.bob
    text = b"0123456789" * 50_000
    sent, _ = await phone.client.upload(lambda *_: io.BytesIO(text), "text/plain", "digits.txt", filesize=len(text))
    got = good(await bob.client.download(mxc=good(sent).content_uri))
    same((got.body == text, got.content_type, got.filename), (True, "text/plain", "digits.txt"), "the download")

    sent, keys = await phone.client.upload(
        lambda *_: io.BytesIO(text), "text/plain", "secret.txt", encrypt=True, filesize=len(text)
    )
    file = {**keys, "url": good(sent).content_uri}
    heard = []
    bob.client.add_event_callback(lambda _, event: heard.append(event), RoomEncryptedFile)
    await phone.send(world.id, "m.room.message", {"msgtype": "m.file", "body": "secret.txt", "file": file})
    event = await bob.until("the attachment", lambda: next(iter(heard), None))
    got = good(await bob.client.download(mxc=event.url))
    if got.body == text:
        raise AssertionError("the server has the file in the clear")
    opened = decrypt_attachment(got.body, event.key["k"], event.hashes["sha256"], event.iv)
    same(opened == text, True, "the decrypted attachment is what was sent")

    status, reserved = await phone.ask("POST", "/_matrix/media/v1/create", {})
    same(status, 200, "create")
    waiting = asyncio.create_task(bob.client.download(mxc=reserved["content_uri"]))
    address = reserved["content_uri"].removeprefix("mxc://")
    status, _ = await phone.ask("PUT", f"/_matrix/media/v3/upload/{address}", {"late": True})
    same(status, 200, "the upload to an address that was given out before")
    same(good(await waiting).body, b'{"late": true}', "what was waited for")
    await world.end()


async def emoji(folder):
    """Two devices verify each other by emoji over to-device messages."""
    world = await World.create(folder)
    phone, bob = world.phone, world.bob
    heard = {phone: [], bob: []}
    for device, events in heard.items():
        kinds = (KeyVerificationStart, KeyVerificationAccept, KeyVerificationKey, KeyVerificationMac)
        device.client.add_to_device_callback(events.append, kinds)

    def has(device, kind):
        return lambda: next((event for event in heard[device] if isinstance(event, kind)), None)

    target = phone.client.device_store[bob.user_id][bob.device_id]
    good(await phone.client.start_key_verification(target))
    start = await bob.until("start", has(bob, KeyVerificationStart))
    txn = start.transaction_id
    good(await bob.client.accept_key_verification(txn))
    # nio answers "accept" with its key, and a key with its own, by itself.
    await phone.until("accept", has(phone, KeyVerificationAccept))
    await bob.until("key", has(bob, KeyVerificationKey))
    await phone.until("key", has(phone, KeyVerificationKey))
    emoji_of = [device.client.key_verifications[txn].get_emoji() for device in (phone, bob)]
    same(emoji_of[0], emoji_of[1], "emoji on both sides")
    for device in (phone, bob):
        good(await device.client.confirm_short_auth_string(txn))
    for device in (phone, bob):
        await device.until("mac", has(device, KeyVerificationMac))
        sas = device.client.key_verifications[txn]
        await device.until("verification", lambda sas=sas: sas.verified)
    for one, other in ((phone, bob), (bob, phone)):
        known = one.client.device_store[other.user_id][other.device_id]
        same(known.verified, True, f"{one.name} verified {other.name}")
    await world.end()


async def removed_device(folder):
    """A removed device is out at once; the others go on and do not encrypt for it any more."""
    world = await World.create(folder)
    phone, laptop, bob = world.devices
    await world.talk(world.devices, 6, "shared")
    running = asyncio.create_task(laptop.client.sync(timeout=20_000))
    challenge = await phone.client.delete_devices([laptop.device_id])
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": phone.user_id},
        "password": phone.password,
    }
    if session := getattr(challenge, "session", None):
        auth["session"] = session
    good(await phone.client.delete_devices([laptop.device_id], auth))
    answer = await laptop.client.whoami()
    same((isinstance(answer, WhoamiError), answer.status_code), (True, "M_UNKNOWN_TOKEN"), "whoami of the removed device")
    answer = await asyncio.wait_for(running, 10)
    while not hasattr(answer, "status_code"):  # It may first bring the news of the shorter device list.
        answer = await asyncio.wait_for(laptop.client.sync(timeout=20_000), 10)
    same(answer.status_code, "M_UNKNOWN_TOKEN", "the running sync of the removed device")
    await bob.until("the shorter device list", lambda: [
        d.device_id for d in bob.client.device_store.active_user_devices(phone.user_id)
    ] == [phone.device_id])
    await world.talk([phone, bob], 4, "without the laptop")
    world.check_all_read(phone)
    world.check_all_read(bob)
    await world.end()


async def server_restart(folder):
    """The server stops, and is killed, and starts again: nothing is lost or doubled."""
    world = await World.create(folder)
    await world.talk(world.devices, 3, "before")
    for verb in ("restart", "kill"):
        world.bob.client.invalidate_outbound_session(world.id)
        await world.talk([world.bob, world.phone], 4, f"just before {verb}")
        await drive(verb)
        world.phone.client.invalidate_outbound_session(world.id)
        await world.talk(world.devices, 6, f"after {verb}")
    for device in world.devices:
        world.check_all_read(device)
    await world.end()


ALL = [
    everyone_decrypts,
    away_catches_up,
    to_device_acknowledged,
    keys_claimed_once,
    conversation,
    media,
    emoji,
    removed_device,
    server_restart,
]
