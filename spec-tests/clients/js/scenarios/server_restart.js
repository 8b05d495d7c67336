// The server is stopped and started, then killed and started, in the middle of a conversation: nothing is lost or doubled.

import { same } from "../lib/check.js";
import { drive } from "../lib/driver.js";
import { end, talk, world } from "../lib/world.js";

export default async function () {
    const { phone, laptop, bob, devices, id } = await world();
    const said = [];
    await talk(devices, id, said, 4, "before");
    for (const verb of ["restart", "kill"]) {
        await bob.crypto.forceDiscardSession(id);
        await talk(devices, id, said, 3, `just before ${verb}`);
        await drive(verb);
        // The clients notice in their own time; a message that failed meanwhile is sent again with the same transaction.
        for (const device of devices) {
            device.client.retryImmediately();
            await device.until("sync after the restart", () => device.client.getSyncState() === "SYNCING");
        }
        await phone.crypto.forceDiscardSession(id);
        await talk(devices, id, said, 5, `after ${verb}`);
    }
    for (const device of devices) {
        await device.until("newest message", () => device.bodies(id).includes(said.at(-1)));
        same(await device.wholeHistory(id), said, `what ${device.name} reads`);
        device.checkToDeviceOnce();
    }
    await laptop.stop();
    await laptop.start();
    same(await laptop.wholeHistory(id), said, "what the laptop reads after opening again");
    await end(...devices);
}
