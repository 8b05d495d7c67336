// Edits, reactions, threads, receipts, typing and redaction, seen by the other user in an encrypted room.

import { ReceiptType } from "matrix-js-sdk";
import { check, same } from "../lib/check.js";
import { end, world } from "../lib/world.js";

export default async function () {
    const { phone, laptop, bob, devices, id } = await world();
    const first = await phone.say(id, "frist");
    const onBob = await bob.event(id, first);

    await edit(phone, id, first, "first");
    for (const device of devices) {
        await device.until("edit", async () => (await device.event(id, first)).getContent().body === "first");
        check((await device.event(id, first)).replacingEvent(), "the edit does not point at its original");
    }

    const reaction = await bob.client.sendEvent(id, "m.reaction", {
        "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "👍" },
    });
    const thumbs = (device) => {
        const relations = device.client.getRoom(id).relations.getChildEventsForEvent(first, "m.annotation", "m.reaction");
        return (relations?.getSortedAnnotationsByKey() ?? []).map(([key, events]) => [key, events.size]);
    };
    for (const device of devices) await device.until("reaction", () => JSON.stringify(thumbs(device)) === '[["👍",1]]');
    await bob.client.redactEvent(id, reaction.event_id);
    for (const device of devices) await device.until("reaction taken back", () => thumbs(device).every(([, n]) => n === 0));

    await threads(phone, laptop, bob, id, onBob);
    await receipts(phone, laptop, bob, id);
    await typing(phone, bob, id);

    const secret = await phone.say(id, "oops");
    for (const device of devices) await device.event(id, secret);
    await phone.client.redactEvent(id, secret, undefined, { reason: "typo" });
    for (const device of devices) {
        await device.until("redaction", () => device.client.getRoom(id).findEventById(secret)?.isRedacted());
        same(device.client.getRoom(id).findEventById(secret).getContent(), {}, "content of a redacted message");
    }
    const { body } = await bob.raw("GET", `/_matrix/client/v3/rooms/${encodeURIComponent(id)}/event/${encodeURIComponent(secret)}`);
    same(body.content, {}, "content of the redacted message on the server");
    same(body.unsigned.redacted_because?.content.reason, "typo", "reason of the redaction");
    await end(...devices);
}

async function edit(device, id, eventId, body) {
    await device.client.sendMessage(id, {
        msgtype: "m.text",
        body: `* ${body}`,
        "m.new_content": { msgtype: "m.text", body },
        "m.relates_to": { rel_type: "m.replace", event_id: eventId },
    });
}

async function threads(phone, laptop, bob, id, root) {
    const replies = [];
    for (let i = 0; i < 3; i++) replies.push(await bob.say(id, `reply ${i}`, root.getId()));
    for (const device of [phone, laptop]) {
        await device.until("thread with three replies", () => device.client.getRoom(id).getThread(root.getId())?.length === 3);
        const thread = device.client.getRoom(id).getThread(root.getId());
        await device.until("the newest reply", () => thread.replyToEvent?.getId() === replies[2]);
    }
    const { body } = await phone.raw("GET", `/_matrix/client/v1/rooms/${encodeURIComponent(id)}/threads`);
    same(body.chunk.map((e) => e.event_id), [root.getId()], "list of threads");
    const summary = body.chunk[0].unsigned["m.relations"]["m.thread"];
    same([summary.count, summary.latest_event.event_id, summary.current_user_participated], [3, replies[2], true], "thread summary");
}

async function receipts(phone, laptop, bob, id) {
    const last = await bob.say(id, "please read");
    const event = await phone.event(id, last);
    await laptop.event(id, last);
    await phone.client.sendReadReceipt(event, ReceiptType.Read, true);
    await bob.until("receipt", () =>
        bob.client.getRoom(id).getReceiptsForEvent(bob.client.getRoom(id).findEventById(last)).some((r) => r.userId === phone.userId));
    await laptop.until("own receipt from the other device", () =>
        laptop.client.getRoom(id).getReadReceiptForUserId(phone.userId, true)?.eventId === last);
    await laptop.until("nothing unread", () => laptop.client.getRoom(id).getRoomUnreadNotificationCount("total") === 0);
    await phone.client.setRoomReadMarkers(id, last);
    await laptop.until("read marker", () => laptop.client.getRoom(id).getAccountData("m.fully_read")?.getContent().event_id === last);
    // A private receipt is told to the own devices alone.
    const next = await bob.say(id, "private reading");
    await phone.client.sendReadReceipt(await phone.event(id, next), ReceiptType.ReadPrivate, true);
    await laptop.until("private receipt", () =>
        laptop.client.getRoom(id).getReadReceiptForUserId(phone.userId, true, ReceiptType.ReadPrivate)?.eventId === next);
    await phone.say(id, "after the private receipt");
    await bob.until("message", () => bob.bodies(id).includes("after the private receipt"));
    check(!bob.client.getRoom(id).getReadReceiptForUserId(phone.userId, true, ReceiptType.ReadPrivate), "bob saw a private receipt");
}

async function typing(phone, bob, id) {
    await phone.client.sendTyping(id, true, 20_000);
    await bob.until("typing", () => bob.client.getRoom(id).getMember(phone.userId).typing);
    await phone.client.sendTyping(id, false, 0);
    await bob.until("end of typing", () => !bob.client.getRoom(id).getMember(phone.userId).typing);
}
