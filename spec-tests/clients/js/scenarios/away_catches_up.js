// A device that was closed catches up, across a gap wider than the timeline, on every message and key exactly once.

import { check, same } from "../lib/check.js";
import { end, talk, world } from "../lib/world.js";

const MISSED = 40;

export default async function () {
    const { phone, laptop, bob, devices, id } = await world();
    const said = ["before"];
    await bob.say(id, "before");
    await laptop.reads(id, said);
    await laptop.stop();

    // New keys now and then, so that many to-device messages wait too.
    for (let part = 0; part < 5; part++) {
        await phone.crypto.forceDiscardSession(id);
        await bob.crypto.forceDiscardSession(id);
        await talk([phone, bob], id, said, MISSED / 5, `missed, part ${part}`);
    }
    const keysBefore = laptop.toDevice.length;
    const gapsBefore = laptop.limited;
    await laptop.start();
    check(laptop.limited > gapsBefore, "the timeline had no gap");
    await laptop.until("newest message", () => laptop.bodies(id).includes(said.at(-1)));
    same(await laptop.wholeHistory(id), said, "what the laptop reads after the gap");
    check(laptop.toDevice.length - keysBefore >= 10, `only ${laptop.toDevice.length - keysBefore} key messages came`);
    laptop.checkToDeviceOnce();

    said.push("after");
    await laptop.say(id, "after");
    await bob.until("message after", () => bob.bodies(id).includes("after"));
    same(await bob.wholeHistory(id), said, "what bob reads");

    // Closing and opening again brings nothing twice.
    const keys = laptop.toDevice.length;
    await laptop.stop();
    await laptop.start();
    same(laptop.toDevice.length, keys, "to-device messages after the second start");
    same(await laptop.wholeHistory(id), said, "what the laptop reads after the second start");
    await end(...devices);
}
