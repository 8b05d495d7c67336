// Two users, three devices, an encrypted room: every device decrypts every message, in one order.

import { same } from "../lib/check.js";
import { end, world } from "../lib/world.js";

export default async function () {
    const { devices, id } = await world();
    const said = [];
    for (let round = 0; round < 2; round++) {
        for (const [index, device] of devices.entries()) {
            said.push(`round ${round} by device ${index}`);
            const eventId = await device.say(id, said.at(-1));
            for (const other of devices) same((await other.event(id, eventId)).getContent().body, said.at(-1), other.name);
        }
    }
    for (const device of devices) {
        await device.reads(id, said);
        device.checkToDeviceOnce();
    }
    await end(...devices);
}
