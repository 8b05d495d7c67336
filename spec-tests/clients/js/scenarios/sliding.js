// One client of two uses sliding sync: encryption, invitations, a window that grows, receipts, typing, counts, and a gap.

import { ReceiptType } from "matrix-js-sdk";
import { Device } from "../lib/device.js";
import { check, same } from "../lib/check.js";
import { end, room, talk } from "../lib/world.js";

export default async function () {
    const [alice, bob] = await Promise.all([Device.register("alice"), Device.register("bob", true)]);
    const id = await room(alice, bob, [alice, bob]);
    const said = [];
    await talk([alice, bob], id, said, 6, "turn");
    await bob.reads(id, said);

    await counts(alice, bob, id, said);
    await typing(alice, bob, id);
    await window(alice, bob);

    // A gap: more is said while bob is away than a first answer brings.
    await bob.stop();
    for (let i = 0; i < 20; i++) {
        await alice.say(id, `away ${i}`);
        said.push(`away ${i}`);
    }
    await bob.start();
    await bob.until("the newest message", () => bob.client.getRoom(id) && bob.bodies(id).includes("away 19"));
    same((await bob.wholeHistory(id)).slice(-20), said.slice(-20), "messages of the time away");

    await alice.client.kick(id, bob.userId, "bye");
    await bob.until("removal", () => bob.client.getRoom(id).getMyMembership() === "leave");
    bob.checkToDeviceOnce();
    await end(alice, bob);
}

async function counts(alice, bob, id, said) {
    const last = await alice.say(id, "unread");
    said.push("unread");
    await bob.event(id, last);
    const unread = () => bob.client.getRoom(id).getRoomUnreadNotificationCount("total");
    await bob.until("something unread", () => unread() > 0);
    const event = await bob.event(id, last);
    await bob.client.sendReadReceipt(event, ReceiptType.Read, true);
    await bob.until("nothing unread", () => unread() === 0);
    await alice.until("receipt", () =>
        alice.client.getRoom(id).getReceiptsForEvent(alice.client.getRoom(id).findEventById(last)).some((r) => r.userId === bob.userId));
}

async function typing(alice, bob, id) {
    await alice.client.sendTyping(id, true, 20_000);
    await bob.until("typing", () => bob.client.getRoom(id).getMember(alice.userId)?.typing);
    await alice.client.sendTyping(id, false, 0);
    await bob.until("end of typing", () => !bob.client.getRoom(id).getMember(alice.userId).typing);
}

/** Of five rooms two are in the window, until it grows. */
async function window(alice, bob) {
    const rooms = [];
    for (let i = 0; i < 4; i++) {
        const { room_id: room } = await alice.client.createRoom({ name: `room ${i}`, invite: [bob.userId] });
        rooms.push(room);
    }
    const newest = rooms[3];
    await bob.until("invitation", () => bob.client.getRoom(newest)?.getMyMembership() === "invite");
    check(bob.client.getRoom(newest).name.includes("room 3"), "an invitation does not say to what");
    bob.sliding.setListRanges("all", [[0, 9]]);
    await bob.until("all rooms", () => rooms.every((room) => bob.client.getRoom(room)));
    same(bob.sliding.getListData("all").joinedCount, 5, "rooms in the list");
    await bob.client.joinRoom(newest);
    await bob.until("join", () => bob.client.getRoom(newest).getMyMembership() === "join");
    const hello = await alice.say(newest, "hello");
    await bob.event(newest, hello);
    await alice.client.setRoomName(newest, "renamed");
    await bob.until("new name", () => bob.client.getRoom(newest).name === "renamed");
}
